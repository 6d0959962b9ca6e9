"""An upload made of others: nothing is copied, and nothing is lost on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import ProtectedError
from django.utils import timezone

from resumable_uploads import engine, errors, retention, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.owners import Owner
from resumable_uploads.policies import get_policy

from .making import (
    ALICE,
    BOB,
    body,
    content,
    files_in,
    heard,
    now,
    open_upload,
    read,
    staged,
    staging,
    use,
    use_policy,
)
from .test_stores import use_storage

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(100)


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge", SEGMENT_SIZE=15)


def part(data: bytes, **said: Any) -> UploadSession:
    """Open an upload that is to be a part of another, and send it."""
    upload = open_upload(len(data), ends_when_full=False, **said)
    engine.append(upload, 0, body(data))
    return now(upload)


def join(
    *parts: UploadSession, owner: Owner = ALICE, policy: str = "default", **said: Any
) -> UploadSession:
    new = engine.NewUpload("whole.bin", **said)
    return engine.concatenate(owner, "test", get_policy(policy), new, parts)


def assemble(upload: UploadSession, settings: Any) -> UploadSession:
    use(settings, RUNNER="inline")
    UploadSession.objects.filter(pk=upload.pk).update(
        active_at=timezone.now() - timedelta(minutes=2)
    )
    retention.resend()
    return engine.refreshed(upload)


def test_the_whole_is_its_parts_one_after_another(settings):
    parts = [part(DATA[:40]), part(DATA[40:45]), part(DATA[45:])]
    with heard(signals.upload_created) as created:
        whole = join(*parts, metadata={"a": "b"})
    assert created == [whole.pk]
    assert (whole.length, whole.received) == (100, 100)
    assert (whole.state, whole.metadata) == (State.ASSEMBLING, {"a": "b"})
    done = assemble(whole, settings)
    assert done.state == State.COMPLETE
    assert read(done) == DATA


def test_no_byte_is_copied_before_the_assembly():
    parts = [part(DATA[:40]), part(DATA[40:])]
    before = files_in(staging())
    whole = join(*parts)
    assert files_in(staging()) == before
    chunks = Chunk.objects.filter(upload=whole).order_by("number")
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert sum(chunk.size for chunk in chunks) == 100
    assert {chunk.source_id for chunk in chunks} == {row.pk for row in parts}


def test_a_part_may_be_used_twice_and_in_any_order(settings):
    first, second = part(DATA[:40]), part(DATA[40:])
    whole = assemble(join(second, first, second), settings)
    assert read(whole) == DATA[40:] + DATA[:40] + DATA[40:]


def test_numbered_chunks_can_be_parts(settings):
    upload = open_upload(25, 10, ends_when_full=False)
    for number in (2, 0, 1):
        data = DATA[number * 10 : min(25, number * 10 + 10)]
        engine.put_chunk(now(upload), number, body(data))
    assert read(assemble(join(now(upload)), settings)) == DATA[:25]


def test_a_whole_cannot_be_a_part_again(settings):
    """It is assembled at once, so it has no chunks to lend."""
    whole = join(part(DATA[:40]))
    with pytest.raises(errors.Incomplete):
        join(whole, part(DATA[40:]))


def test_no_parts_make_an_empty_file(settings):
    assert read(assemble(join(), settings)) == b""


# What cannot be a part


def test_a_part_that_is_not_full_is_refused():
    upload = open_upload(50, ends_when_full=False)
    engine.append(upload, 0, body(DATA[:49]))
    with pytest.raises(errors.Incomplete):
        join(part(DATA[:10]), now(upload))
    assert UploadSession.objects.count() == 2


def test_a_part_of_unknown_length_is_refused():
    upload = open_upload(ends_when_full=False)
    engine.append(upload, 0, body(DATA))
    with pytest.raises(errors.Incomplete):
        join(now(upload))


@pytest.mark.parametrize("state", [State.CANCELLED, State.ASSEMBLING, State.EXPIRED])
def test_a_part_that_has_ended_is_refused(state):
    first = part(DATA)
    UploadSession.objects.update(state=state)
    with pytest.raises(errors.Incomplete):
        join(first)
    assert UploadSession.objects.count() == 1


def test_a_part_that_is_anothers_is_refused():
    with pytest.raises(errors.Incomplete):
        join(part(DATA, owner=BOB))


def test_a_part_that_lies_elsewhere_is_refused(settings, tmp_path):
    use_storage(settings, "other", location=str(tmp_path / "other"))
    use(settings, POLICIES={"default": {}, "other": {"storage": "other"}})
    with pytest.raises(errors.Invalid):
        join(part(DATA), policy="other")


def test_a_part_that_was_looked_up_before_it_was_full_counts_whole(settings):
    upload = open_upload(100, ends_when_full=False)
    engine.append(upload, 0, body(DATA[:40]))
    stale = now(upload)
    engine.append(now(upload), 40, body(DATA[40:]))
    whole = join(stale)
    assert whole.length == 100
    assert read(assemble(whole, settings)) == DATA


def test_a_whole_that_is_too_large_is_refused(settings):
    use_policy(settings, max_size=99)
    with pytest.raises(errors.TooLarge):
        join(part(DATA[:50]), part(DATA[50:]))


def test_a_whole_is_one_of_the_uploads_that_may_be_open(settings):
    use_policy(settings, max_open=1)
    parts = [part(DATA[:50]), part(DATA[50:])]
    open_upload(10)
    with pytest.raises(errors.TooManyUploads):
        join(*parts)


def test_parts_that_are_all_there_are_not_open(settings):
    use_policy(settings, max_open=1)
    parts = [part(DATA[:50]), part(DATA[50:])]
    assert read(assemble(join(*parts), settings)) == DATA


def test_parts_go_an_hour_after_the_whole_was_made_of_them(settings):
    parts = [part(DATA[:50]), part(DATA[50:])]
    assemble(join(*parts), settings)
    hour = timezone.now() + engine.PARTS_KEPT_FOR
    for one in parts:
        row = UploadSession.objects.get(pk=one.pk)
        assert row.state == State.RECEIVING
        assert timezone.now() < row.expires_at <= hour
    UploadSession.objects.update(expires_at=timezone.now())
    retention.purge()
    assert [staged(one.pk) for one in parts] == [[], []]


# The parts while the whole needs them


def test_a_cancelled_part_keeps_its_bytes_until_the_whole_is_made(settings):
    first, second = part(DATA[:40]), part(DATA[40:])
    whole = join(first, second)
    with heard(signals.upload_cancelled) as cancelled:
        engine.cancel(first)
    assert cancelled == []
    assert staged(first.pk)
    assert read(assemble(whole, settings)) == DATA
    past = timezone.now() - timedelta(minutes=2)
    UploadSession.objects.filter(pk=first.pk).update(active_at=past)
    with heard(signals.upload_cancelled) as cancelled:
        retention.purge()
    assert cancelled == [first.pk]
    assert staged(first.pk) == []
    assert staged(second.pk)


def test_the_sweep_leaves_lent_bytes_alone():
    first = part(DATA)
    join(first)
    engine.cancel(first)
    retention.sweep()
    assert staged(first.pk)


def test_the_row_of_a_part_cannot_be_deleted():
    first = part(DATA)
    join(first)
    with pytest.raises(ProtectedError):
        first.delete()
    assert staged(first.pk)


def test_a_request_that_comes_late_to_a_cancelled_part_drops_no_lent_bytes(settings):
    first = part(DATA[:40])
    stale = now(first)
    whole = join(first)
    engine.cancel(first)
    with pytest.raises(errors.Gone):
        engine.append(stale, 40, body(b"x", length=None))
    assert read(assemble(whole, settings)) == DATA[:40]


def test_cancelling_the_whole_frees_the_parts():
    first = part(DATA)
    whole = join(first)
    engine.cancel(whole)
    assert staged(first.pk)
    assert Chunk.objects.filter(upload=first).exists()
    engine.cancel(first)
    assert staged(first.pk) == []
    assert files_in(staging()) == []


def test_deleting_the_row_of_the_whole_leaves_the_parts():
    first = part(DATA)
    join(first).delete()
    assert staged(first.pk)
    assert now(first).received == 100


def test_cancelling_and_joining_at_once_is_decided_by_the_row(monkeypatch):
    """The part ends after it was looked up, and before it is held."""
    first = part(DATA)
    original = engine.joining.new_row

    def late(*args):
        engine.cancel(first)
        return original(*args)

    monkeypatch.setattr(engine.joining, "new_row", late)
    with pytest.raises(errors.Incomplete):
        join(first)
    assert staged(first.pk) == []
    assert UploadSession.objects.count() == 1


def test_what_a_whole_is_made_of_cannot_be_taken_back(settings):
    """Other bytes would come to its place, and into the whole."""
    first = part(DATA)
    whole = join(first)
    for take_back in (
        lambda: engine.rewind(now(first), 20),
        lambda: engine.restart(now(first)),
        lambda: engine.reshape(now(first), 3),
    ):
        with pytest.raises(errors.NotReceiving):
            take_back()
    row = now(first)
    assert (row.received, row.chunk_total) == (100, None)
    assert read(assemble(whole, settings)) == DATA


def test_what_was_taken_back_is_not_lent():
    first = part(DATA)
    found = now(first)
    engine.rewind(now(first), 20)
    with pytest.raises(errors.Incomplete):
        join(found)
    assert UploadSession.objects.count() == 1
