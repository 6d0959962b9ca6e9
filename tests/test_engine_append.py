"""Adding to the end: what is kept, what is refused, and who may."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from resumable_uploads import engine, errors
from resumable_uploads.body import CHECKSUM, Body, checksum
from resumable_uploads.models import AddressedBy, Chunk, State, UploadSession
from resumable_uploads.stores import Place, store_for

from .making import (
    PAUSE,
    ScriptedSource,
    body,
    content,
    files_in,
    now,
    open_upload,
    read,
    sent,
    staged,
    staging,
    use,
    use_policy,
)

pytestmark = pytest.mark.django_db
transactional = pytest.mark.django_db(transaction=True)
DATA = content(100)


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(
        settings,
        RUNNER="tests.making.lost_nudge",
        SEGMENT_SIZE=30,
        IDLE_FLUSH=timedelta(milliseconds=1),
        STALL_TIMEOUT=timedelta(milliseconds=20),
    )


def chunks(upload: UploadSession) -> list[tuple[int, int, int]]:
    rows = Chunk.objects.filter(upload=upload).order_by("number")
    return list(rows.values_list("number", "offset", "size"))


def assembled(upload: UploadSession) -> bytes:
    """Return the file that an upload makes."""
    row = engine.refreshed(upload)
    assert row.state == State.ASSEMBLING
    from_rows = []
    store = store_for(row.storage)
    for chunk in Chunk.objects.filter(upload=row).order_by("number"):
        with store.open(Place(chunk.key, chunk.start)) as stream:
            from_rows.append(stream.read(chunk.size))
    return b"".join(from_rows)


# What is kept


def test_a_body_is_recorded_in_segments():
    upload = open_upload(200)
    answer = engine.append(upload, 0, body(DATA))
    assert answer.received == 100
    assert chunks(upload) == [(0, 0, 30), (1, 30, 30), (2, 60, 30), (3, 90, 10)]
    row = now(upload)
    assert (row.received, row.chunk_count) == (100, 4)
    assert (row.addressed_by, row.state) == (AddressedBy.OFFSET, State.RECEIVING)


def test_each_chunk_has_its_checksum():
    upload = open_upload(200)
    engine.append(upload, 0, body(DATA))
    sums = Chunk.objects.order_by("number").values_list("checksum", flat=True)
    expected = [checksum(DATA[start : start + 30]) for start in range(0, 100, 30)]
    assert [int(value, 16) for value in sums] == expected


def test_appends_follow_each_other():
    upload = open_upload(100)
    engine.append(upload, 0, body(DATA[:40]))
    engine.append(now(upload), 40, body(DATA[40:]))
    assert assembled(upload) == DATA


def test_all_goes_into_one_file_in_place():
    upload = sent(DATA)
    assert {chunk.start for chunk in Chunk.objects.all()} == {0, 30, 60, 90}
    assert [path.name for path in files_in(staging())] == ["data"]
    assert assembled(upload) == DATA


def test_what_came_before_a_cut_is_kept():
    upload = open_upload(100)
    with pytest.raises(errors.Truncated) as caught:
        engine.append(upload, 0, body(DATA[:47], length=100))
    assert caught.value.facts == {"received": 47, "expected": 100, "offset": 47}
    assert now(upload).received == 47
    engine.append(now(upload), 47, body(DATA[47:]))
    assert assembled(upload) == DATA


def test_what_came_before_a_chunked_body_broke_is_kept():
    upload = open_upload(100)
    source = ScriptedSource(DATA[:47], length=None, broken=True)
    with pytest.raises(errors.Truncated):
        engine.append(upload, 0, Body(source))
    assert now(upload).received == 47


def test_a_pause_records_what_has_come():
    upload = open_upload(100)
    seen = []
    engine.append(
        upload,
        0,
        body(DATA[:7], PAUSE, lambda: seen.append(now(upload).received), DATA[7:]),
    )
    assert seen == [7]
    assert chunks(upload)[0] == (0, 0, 7)
    assert assembled(upload) == DATA


def test_a_line_that_falls_silent_keeps_what_came():
    upload = open_upload(100)
    with pytest.raises(errors.Truncated):
        engine.append(upload, 0, body(DATA[:7], *[PAUSE] * 10**5, length=100))
    assert now(upload).received == 7


def test_a_body_that_brings_nothing_leaves_nothing():
    upload = open_upload(100)
    engine.append(upload, 0, body())
    engine.append(upload, 0, body(length=None))
    with pytest.raises(errors.Truncated):
        engine.append(upload, 0, body(length=10))
    assert chunks(upload) == []
    assert now(upload).addressed_by == ""


def test_a_segment_in_the_making_is_lost_without_harm():
    """As when the process is killed: bytes without a row do not count."""

    def die() -> None:
        raise KeyboardInterrupt

    upload = open_upload(100)
    with pytest.raises(KeyboardInterrupt):
        engine.append(upload, 0, body(DATA[:45], die, length=100))
    assert now(upload).received == 30
    engine.append(now(upload), 30, body(DATA[30:]))
    assert assembled(upload) == DATA


# Digests


def test_a_body_with_a_digest_is_recorded_whole():
    upload = open_upload(100)
    expected = {CHECKSUM: checksum(DATA).to_bytes(8, "big")}
    engine.append(upload, 0, body(DATA, expected=expected))
    assert chunks(upload) == [(0, 0, 100)]


@pytest.mark.parametrize("length", [100, None])
def test_a_body_with_a_wrong_digest_is_not_recorded(length):
    upload = open_upload(100)
    expected = {CHECKSUM: bytes(8)}
    with pytest.raises(errors.ChecksumMismatch):
        engine.append(upload, 0, body(DATA, length=length, expected=expected))
    assert now(upload).received == 0
    engine.append(now(upload), 0, body(DATA))
    assert assembled(upload) == DATA


def test_a_body_with_a_digest_that_was_cut_is_not_recorded():
    upload = open_upload(100)
    expected = {CHECKSUM: checksum(DATA).to_bytes(8, "big")}
    with pytest.raises(errors.Truncated):
        engine.append(upload, 0, body(DATA[:50], length=100, expected=expected))
    assert now(upload).received == 0


def test_a_pause_does_not_cut_a_body_with_a_digest():
    upload = open_upload(100)
    expected = {CHECKSUM: checksum(DATA).to_bytes(8, "big")}
    engine.append(upload, 0, body(DATA[:50], PAUSE, DATA[50:], expected=expected))
    assert chunks(upload) == [(0, 0, 100)]


# Limits


def test_a_body_that_announces_too_much_is_refused_before_it_is_read():
    upload = open_upload(100)
    brought = body(DATA, b"x")
    with pytest.raises(errors.TooLarge) as caught:
        engine.append(upload, 0, brought)
    assert caught.value.facts == {"max_size": 100}
    assert brought.received == 0
    assert now(upload).received == 0


def test_a_body_that_turns_out_too_long_is_refused_at_the_end():
    upload = open_upload(100)
    with pytest.raises(errors.TooLarge):
        engine.append(upload, 0, body(DATA, b"x", length=None))
    row = now(upload)
    assert (row.received, row.state) == (90, State.RECEIVING)
    engine.append(row, 90, body(DATA[90:]))
    assert assembled(upload) == DATA


def test_no_byte_more_than_the_file_is_recorded_even_of_one():
    upload = open_upload(100)
    engine.append(upload, 0, body(DATA[:90]))
    with pytest.raises(errors.TooLarge):
        engine.append(now(upload), 90, body(b"x" * 11, length=None))
    assert now(upload).received == 90


def test_an_upload_of_unknown_length_is_as_long_as_its_policy_lets_it(settings):
    use_policy(settings, max_size=50)
    upload = open_upload()
    with pytest.raises(errors.TooLarge):
        engine.append(upload, 0, body(DATA))
    with pytest.raises(errors.TooLarge):
        engine.append(now(upload), 0, body(DATA, length=None))
    assert now(upload).received <= 50


def test_an_upload_of_unknown_length_may_be_without_limit(settings):
    use_policy(settings, max_size=None, quota=None)
    upload = open_upload()
    engine.append(upload, 0, body(DATA))
    assert now(upload).received == 100


# Where it goes on


@pytest.mark.parametrize("offset", [0, 39, 41, 100, 10**12])
def test_only_the_end_can_be_appended_to(offset):
    upload = open_upload(100)
    engine.append(upload, 0, body(DATA[:40]))
    brought = body(b"x")
    with pytest.raises(errors.OffsetMismatch) as caught:
        engine.append(now(upload), offset, brought)
    assert caught.value.facts == {"offset": 40}
    assert brought.received == 0


def test_what_was_looked_up_too_early_does_not_count():
    """Another request has appended since; the offset is judged by the row."""
    upload = open_upload(100)
    early = now(upload)
    engine.append(upload, 0, body(DATA[:40]))
    engine.append(early, 40, body(DATA[40:]))
    assert assembled(upload) == DATA


def test_an_upload_of_numbered_chunks_is_not_appended_to():
    upload = open_upload(100, 50)
    engine.put_chunk(upload, 0, body(DATA[:50]))
    with pytest.raises(errors.WrongAddressing) as caught:
        engine.append(now(upload), 50, body(DATA[50:]))
    assert caught.value.facts == {"addressed_by": "number"}


# When it is over


def test_the_last_byte_begins_the_assembly():
    upload = sent(DATA)
    assert upload.state == State.ASSEMBLING
    assert upload.lease == ""


def test_a_client_that_says_itself_when_it_is_over_is_waited_for():
    upload = open_upload(100, ends_when_full=False)
    engine.append(upload, 0, body(DATA))
    assert now(upload).state == State.RECEIVING


def test_an_empty_append_to_a_full_upload_is_a_repeat():
    upload = sent(DATA)
    assert engine.append(upload, 100, body()).state == State.ASSEMBLING
    with pytest.raises(errors.NotReceiving):
        engine.append(upload, 100, body(b"x"))
    with pytest.raises(errors.NotReceiving):
        engine.append(upload, 99, body())


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED, State.REJECTED])
def test_an_upload_that_is_gone_takes_nothing_and_says_so(state):
    upload = open_upload(100)
    UploadSession.objects.update(state=state)
    brought = body(DATA)
    for found in (upload, now(upload)):
        with pytest.raises(errors.Gone):
            engine.append(found, 0, brought)
    assert brought.received == 0
    assert staged(upload.pk) == []


def test_an_upload_whose_row_is_gone_takes_nothing():
    upload = open_upload(100)
    UploadSession.objects.all().delete()
    with pytest.raises(errors.NotFound):
        engine.append(upload, 0, body(DATA))
    assert staged(upload.pk) == []


# Who may: the last to ask


def test_the_last_to_ask_for_the_offset_interrupts_the_one_before():
    upload = open_upload(100)
    with pytest.raises(errors.Interrupted) as caught:
        engine.append(
            upload, 0, body(DATA[:45], lambda: engine.take_offset(upload), DATA[45:])
        )
    assert caught.value.facts == {"offset": 30}
    assert now(upload).received == 30


def test_an_offset_that_was_asked_for_stays_true():
    upload = open_upload(100)
    asked = []
    with pytest.raises(errors.Interrupted):
        engine.append(
            upload,
            0,
            body(
                DATA[:30],
                lambda: asked.append(engine.take_offset(upload)),
                DATA[30:],
            ),
        )
    assert asked[0].received == now(upload).received
    engine.append(now(upload), asked[0].received, body(DATA[asked[0].received :]))
    assert assembled(upload) == DATA


def test_a_client_that_comes_back_goes_on_beside_a_connection_that_hangs():
    upload = open_upload(100)

    def come_back() -> None:
        row = engine.take_offset(upload)
        engine.append(row, row.received, body(DATA[row.received :]))

    hanging = body(DATA[:45], come_back, b"late and wrong" * 10, length=100)
    with pytest.raises(errors.NotReceiving):
        engine.append(upload, 0, hanging)
    assert assembled(upload) == DATA


def test_late_bytes_of_a_connection_that_hung_do_no_harm():
    """They go where nobody else writes, and are never recorded."""
    upload = open_upload(100)

    def come_back() -> None:
        row = engine.take_offset(upload)
        engine.append(row, row.received, body(DATA[row.received : 60]))

    with pytest.raises(errors.Interrupted):
        engine.append(upload, 0, body(DATA[:45], come_back, b"X" * 55, length=100))
    engine.append(now(upload), 60, body(DATA[60:]))
    assert assembled(upload) == DATA


def test_asking_for_the_offset_of_numbered_chunks_interrupts_nobody():
    upload = open_upload(100, 50)
    engine.put_chunk(upload, 0, body(DATA[:50]))
    before = now(upload).lease
    assert engine.take_offset(upload).lease == before


def test_asking_for_the_offset_of_what_is_gone_is_harmless():
    upload = open_upload(100)
    engine.cancel(upload)
    assert engine.take_offset(upload).state == State.CANCELLED


# What ends meanwhile


def test_cancelling_while_bytes_arrive_leaves_nothing():
    upload = open_upload(100)
    with pytest.raises(errors.Gone):
        engine.append(
            upload, 0, body(DATA[:45], lambda: engine.cancel(upload), DATA[45:])
        )
    assert chunks(upload) == []
    assert staged(upload.pk) == []


def test_deleting_the_row_while_bytes_arrive_leaves_nothing():
    upload = open_upload(100)
    with pytest.raises(errors.NotFound):
        engine.append(
            upload,
            0,
            body(DATA[:45], UploadSession.objects.all().delete, DATA[45:]),
        )
    assert not Chunk.objects.exists()
    assert staged(upload.pk) == []


def test_the_file_begun_meanwhile_for_an_upload_that_ended_goes_as_well(monkeypatch):
    """The end comes between the look at the row and the opening of the file."""
    upload = open_upload(100)
    stale = now(upload)
    engine.cancel(upload)
    with pytest.raises(errors.Gone):
        engine.append(stale, 0, body(DATA))
    assert staged(upload.pk) == []


def test_a_growing_upload_of_unknown_length_stays_within_the_quota(settings):
    use_policy(settings, quota=70)
    upload = open_upload()
    with pytest.raises(errors.QuotaExceeded):
        engine.append(upload, 0, body(DATA))
    assert now(upload).received == 60


# The store fails


def test_a_full_disk_keeps_what_was_recorded(monkeypatch):
    upload = open_upload(100)

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(errors.StorageFull):
        engine.append(upload, 0, body(DATA[:45], full, length=100))
    assert now(upload).received == 30


@transactional
def test_a_runner_that_fails_does_not_lose_the_upload(settings, caplog):
    use(settings, RUNNER="tests.test_engine_append.broken_runner")
    upload = sent(DATA)
    assert upload.state == State.ASSEMBLING
    assert "no broker" in caplog.text
    use(settings, RUNNER="inline")
    UploadSession.objects.update(active_at=timezone.now() - timedelta(minutes=1))
    assert engine.finish(now(upload)).state == State.COMPLETE
    assert read(upload) == DATA


def broken_runner(name: str, *args: Any) -> None:
    raise ConnectionError("no broker")


@transactional
def test_the_assembly_begins_when_the_writer_has_let_go(settings):
    """Else it would have to copy the file, since somebody might still write."""
    use(settings, RUNNER="inline")
    upload = open_upload(100)
    inodes = []

    def look() -> None:
        inodes.append((staged(upload.pk)[0] / "data").stat().st_ino)

    engine.append(upload, 0, body(DATA[:50], look, DATA[50:]))
    upload.refresh_from_db()
    assert upload.state == State.COMPLETE
    assert os.stat(upload.file.path).st_ino == inodes[0]
    assert read(upload) == DATA


# A length that is told while bytes come


@transactional
def test_a_length_told_while_the_last_bytes_come_ends_the_upload(settings):
    use(settings, RUNNER="inline")
    upload, data = open_upload(None), content(20)

    def tell() -> None:
        engine.declare_length(now(upload), len(data))

    sent = body(data[:10], PAUSE, tell, data[10:], length=len(data))
    engine.append(now(upload), 0, sent)
    assert now(upload).state == State.COMPLETE
    assert read(upload) == data


@transactional
def test_a_length_told_while_more_bytes_come_is_not_passed():
    upload, data = open_upload(None), content(20)

    def tell() -> None:
        engine.declare_length(now(upload), 15)

    sent = body(data[:10], PAUSE, tell, data[10:], length=len(data))
    with pytest.raises(errors.TooLarge):
        engine.append(now(upload), 0, sent)
    assert (now(upload).received, now(upload).state) == (10, State.RECEIVING)
