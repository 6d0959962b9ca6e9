"""Numbered chunks: any order, repeatedly, whole or not at all."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from resumable_uploads import engine, errors
from resumable_uploads.body import CHECKSUM, checksum
from resumable_uploads.models import AddressedBy, Chunk, State, UploadSession
from resumable_uploads.policies import get_policy
from resumable_uploads.stores import Place, filesystem, store_for

from .making import (
    ALICE,
    PAUSE,
    after,
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
DATA = content(95)
PARTS = [DATA[start : start + 10] for start in range(0, 95, 10)]


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge")


@pytest.fixture
def inline(settings: Any) -> None:
    use(settings, RUNNER="inline")


@pytest.fixture
def upload() -> UploadSession:
    return open_upload(95, 10)


def put(upload: UploadSession, number: int, data: bytes | None = None, **how: Any):
    """Send a chunk as a request of its own does."""
    data = PARTS[number] if data is None else data
    return engine.put_chunk(now(upload), number, body(data), **how)


def recorded(upload: UploadSession) -> dict[int, bytes]:
    """Return the bytes of all recorded chunks by their numbers."""
    store = store_for(upload.storage)
    found = {}
    for chunk in Chunk.objects.filter(upload=upload):
        with store.open(Place(chunk.key, chunk.start)) as stream:
            found[chunk.number] = stream.read(chunk.size)
    return found


def files_beside() -> int:
    """Return how many chunks lie in files of their own."""
    return sum(path.suffix == ".chunk" for path in files_in(staging()))


# Recording


def test_chunks_come_in_any_order(upload):
    numbers = list(range(10))
    random.Random(7).shuffle(numbers)
    for number in numbers:
        chunk, new = put(upload, number)
        assert new
        assert (chunk.number, chunk.offset, chunk.size) == (
            number,
            number * 10,
            len(PARTS[number]),
        )
    assert recorded(upload) == dict(enumerate(PARTS))
    row = engine.refreshed(upload)
    assert (row.received, row.chunk_count, row.state) == (95, 10, State.ASSEMBLING)


def test_chunks_lie_in_place(upload):
    for number in (9, 0, 5):
        put(upload, number)
    assert [path.name for path in files_in(staging())] == ["data"]
    assert (staged(upload.pk)[0] / "data").read_bytes()[50:60] == PARTS[5]


def test_what_is_missing_and_the_offset_follow_from_the_chunks(upload):
    assert (now(upload).missing, now(upload).offset) == ([(0, 9)], 0)
    for number in (0, 1, 4, 9):
        put(upload, number)
    row = now(upload)
    assert row.missing == [(2, 3), (5, 8)]
    assert (row.offset, row.received) == (20, 35)
    assert row.addressed_by == AddressedBy.NUMBER


def test_the_upload_that_was_sent_to_knows_what_is_there(upload):
    mine = now(upload)
    engine.put_chunk(mine, 0, body(PARTS[0]))
    assert (mine.received, mine.chunk_count, mine.state) == (10, 1, State.RECEIVING)


def test_a_chunk_has_its_checksum(upload):
    chunk, _ = put(upload, 3)
    assert int(chunk.checksum, 16) == checksum(PARTS[3])


def test_a_pause_does_not_cut_a_chunk(upload):
    brought = body(PARTS[0][:5], PAUSE, PARTS[0][5:])
    assert engine.put_chunk(upload, 0, brought)[0].size == 10


# What cannot be a chunk


@pytest.mark.parametrize("number", [-1, 10, 10**12])
def test_a_number_beyond_the_file_is_refused(upload, number):
    with pytest.raises(errors.Invalid) as caught:
        engine.put_chunk(upload, number, body(b"x" * 10))
    assert caught.value.facts == {"last_number": 9}


@pytest.mark.parametrize(
    ("number", "size"), [(0, 9), (0, 11), (0, 0), (9, 4), (9, 6), (9, 10)]
)
def test_a_chunk_of_the_wrong_size_is_refused_unread(upload, number, size):
    brought = body(b"x" * size)
    with pytest.raises(errors.WrongSize) as caught:
        engine.put_chunk(upload, number, brought)
    assert caught.value.facts == {"expected": len(PARTS[number])}
    assert brought.received == 0


@pytest.mark.parametrize("size", [0, 9])
def test_a_chunk_of_unknown_length_that_is_too_short_is_refused(upload, size):
    with pytest.raises(errors.WrongSize):
        engine.put_chunk(upload, 0, body(b"x" * size, length=None))
    assert recorded(upload) == {}


def test_a_chunk_of_unknown_length_that_is_too_long_is_refused(upload):
    with pytest.raises(errors.TooLarge):
        engine.put_chunk(upload, 0, body(b"x" * 11, length=None))
    assert recorded(upload) == {}


def test_a_chunk_that_was_cut_is_not_recorded(upload):
    with pytest.raises(errors.Truncated) as caught:
        engine.put_chunk(upload, 0, body(b"x" * 9, length=10))
    assert caught.value.facts == {"received": 9, "expected": 10}
    assert (recorded(upload), now(upload).received) == ({}, 0)


def test_a_chunk_with_a_wrong_digest_is_not_recorded(upload):
    with pytest.raises(errors.ChecksumMismatch):
        engine.put_chunk(upload, 0, body(PARTS[0], expected={"md5": b"x"}))
    assert recorded(upload) == {}


def test_a_chunk_with_the_right_digest_is_recorded(upload):
    expected = {CHECKSUM: checksum(PARTS[0]).to_bytes(8, "big")}
    assert engine.put_chunk(upload, 0, body(PARTS[0], expected=expected))[1]


def test_what_was_refused_can_be_sent_again(upload):
    for wrong in (body(b"x" * 9, length=10), body(b"x" * 10, expected={"md5": b""})):
        with pytest.raises(errors.UploadError):
            engine.put_chunk(upload, 0, wrong)
    put(upload, 0)
    assert recorded(upload) == {0: PARTS[0]}


def test_without_a_chunk_size_there_are_no_numbers():
    with pytest.raises(errors.WrongAddressing):
        engine.put_chunk(open_upload(95), 0, body(PARTS[0]))


def test_what_was_begun_by_appending_goes_on_so(upload):
    stale = now(upload)
    engine.append(upload, 0, body(DATA[:10]))
    for found in (stale, now(upload)):
        with pytest.raises(errors.WrongAddressing) as caught:
            engine.put_chunk(found, 1, body(PARTS[1]))
        assert caught.value.facts == {"addressed_by": "offset"}


# Repeats


def test_a_repeat_changes_nothing(upload):
    first, _ = put(upload, 0)
    second, new = put(upload, 0)
    assert not new
    assert second == first
    assert (now(upload).received, now(upload).chunk_count) == (10, 1)
    assert [path.name for path in files_in(staging())] == ["data"]


def test_other_bytes_under_the_same_number_are_refused(upload):
    put(upload, 0)
    with pytest.raises(errors.ChunkConflict) as caught:
        put(upload, 0, b"other byte")
    assert caught.value.facts == {"number": 0}
    assert recorded(upload) == {0: PARTS[0]}


def test_a_repeat_that_was_cut_is_an_error_and_harmless(upload):
    put(upload, 0)
    with pytest.raises(errors.Truncated):
        engine.put_chunk(now(upload), 0, body(PARTS[0][:5], length=10))
    assert recorded(upload) == {0: PARTS[0]}


def test_a_repeat_with_a_wrong_digest_is_an_error(upload):
    put(upload, 0)
    with pytest.raises(errors.ChecksumMismatch):
        engine.put_chunk(now(upload), 0, body(PARTS[0], expected={"md5": b""}))


def test_a_repeat_keeps_no_lock_while_it_is_read(upload):
    """A repeat that hangs must not make the assembly copy the file."""
    put(upload, 0)
    got: list[bool] = []

    def try_to_lock() -> None:
        fd = os.open(staged(upload.pk)[0] / "data", os.O_RDWR)
        got.append(filesystem.lock_range(fd, 0, None))
        os.close(fd)

    engine.put_chunk(now(upload), 0, body(try_to_lock, PARTS[0]))
    assert got == [True]


@pytest.mark.parametrize("state", [State.ASSEMBLING, State.COMPLETE])
def test_a_repeat_after_all_was_there_is_harmless(upload, state):
    for number in range(10):
        put(upload, number)
    if state == State.COMPLETE:
        Chunk.objects.all().delete()
        UploadSession.objects.update(
            state=state, file="f", completed_at=upload.created_at
        )
    chunk, new = put(upload, 3)
    assert (chunk.number, chunk.size, new) == (3, 10, False)


def test_other_bytes_while_the_file_is_assembled_are_refused(upload):
    for number in range(10):
        put(upload, number)
    with pytest.raises(errors.ChunkConflict):
        put(upload, 3, b"other byte")
    with pytest.raises(errors.Truncated):
        engine.put_chunk(now(upload), 3, body(b"x", length=10))


def test_a_repeat_that_comes_as_the_last_chunk_is_recorded_is_harmless(upload):
    """It saw the upload receiving; now it is assembled, or complete already."""
    for number in range(9):
        put(upload, number)
    stale = now(upload)
    put(upload, 9)
    for number in (9, 3):
        assert not engine.put_chunk(stale, number, body(PARTS[number]))[1]
    with pytest.raises(errors.ChunkConflict):
        engine.put_chunk(stale, 9, body(b"other"))


@transactional
@pytest.mark.usefixtures("inline")
def test_a_repeat_that_comes_as_the_file_is_completed_is_harmless(upload):
    for number in range(9):
        put(upload, number)
    stale = now(upload)
    put(upload, 9)
    assert not engine.put_chunk(stale, 9, body(PARTS[9]))[1]
    assert staged(upload.pk) == []
    assert read(upload) == DATA


def test_a_repeat_that_is_outrun_by_the_first_is_harmless(upload):
    """Both began when the chunk was not there; the other one ends the upload."""
    for number in range(9):
        put(upload, number)
    slow = body(PARTS[9][:2], lambda: put(upload, 9), PARTS[9][2:])
    assert not engine.put_chunk(now(upload), 9, slow)[1]
    assert recorded(upload) == dict(enumerate(PARTS))
    assert files_beside() == 1


@transactional
@pytest.mark.usefixtures("inline")
def test_a_repeat_that_is_outrun_by_the_whole_assembly_is_harmless(upload):
    for number in range(9):
        put(upload, number)
    slow = body(PARTS[9][:2], lambda: put(upload, 9), PARTS[9][2:])
    assert not engine.put_chunk(now(upload), 9, slow)[1]
    assert staged(upload.pk) == []
    assert read(upload) == DATA


def test_other_bytes_that_are_outrun_are_refused(upload):
    slow = body(b"ot", lambda: put(upload, 0), b"her byte")
    with pytest.raises(errors.ChunkConflict):
        engine.put_chunk(now(upload), 0, slow)
    assert recorded(upload) == {0: PARTS[0]}
    assert files_beside() == 1


def test_other_bytes_that_are_outrun_by_the_last_chunk_are_refused(upload):
    for number in range(9):
        put(upload, number)
    slow = body(b"ot", lambda: put(upload, 9), b"her")
    with pytest.raises(errors.ChunkConflict):
        engine.put_chunk(now(upload), 9, slow)
    assert recorded(upload) == dict(enumerate(PARTS))


def test_a_repeat_of_a_full_upload_that_its_client_ends_is_harmless():
    upload = open_upload(20, 10, ends_when_full=False)
    slow = body(PARTS[0][:2], lambda: put(upload, 0), PARTS[0][2:])
    put(upload, 1)
    assert not engine.put_chunk(now(upload), 0, slow)[1]
    row = now(upload)
    assert (row.received, row.state) == (20, State.RECEIVING)
    other = body(b"ot", length=10)
    other_late = body(b"other byte")
    with pytest.raises(errors.Truncated):
        engine.put_chunk(row, 0, other)
    with pytest.raises(errors.ChunkConflict):
        engine.put_chunk(row, 0, other_late)


# Replacing, where the dialect has it so


def test_other_bytes_take_the_place_of_the_first_where_that_is_wanted(upload):
    put(upload, 0)
    put(upload, 1)
    chunk, new = put(upload, 0, b"other byte", replace=True)
    assert new
    assert recorded(upload) == {0: b"other byte", 1: PARTS[1]}
    assert (now(upload).received, now(upload).chunk_count) == (20, 2)
    assert int(Chunk.objects.get(number=0).checksum, 16) == checksum(b"other byte")


def test_the_recorded_bytes_are_never_overwritten(upload):
    put(upload, 0)
    put(upload, 0, b"other byte", replace=True)
    assert (staged(upload.pk)[0] / "data").read_bytes() == PARTS[0]


def test_the_same_bytes_replace_nothing(upload):
    put(upload, 0)
    assert not put(upload, 0, replace=True)[1]
    assert [path.name for path in files_in(staging())] == ["data"]


def test_what_was_replaced_leaves_no_bytes(upload):
    put(upload, 0)
    for data in (b"other byte", b"byte other", b"third time"):
        put(upload, 0, data, replace=True)
    assert files_beside() == 1
    assert recorded(upload) == {0: b"third time"}


def test_a_replacement_that_was_cut_replaces_nothing(upload):
    put(upload, 0)
    with pytest.raises(errors.Truncated):
        engine.put_chunk(now(upload), 0, body(b"x", length=10), replace=True)
    assert recorded(upload) == {0: PARTS[0]}
    assert [path.name for path in files_in(staging())] == ["data"]


def test_a_replacement_of_another_size_is_counted():
    upload = open_upload(None, 10)
    put(upload, 0)
    put(upload, 1)
    put(upload, 1, b"short", replace=True)
    assert now(upload).received == 15
    put(upload, 1, replace=True)
    assert now(upload).received == 20


def test_a_replacement_without_any_limit_is_counted(settings):
    use_policy(settings, max_size=None, quota=None)
    upload = open_upload(None, 10)
    put(upload, 1)
    put(upload, 1, b"short", replace=True)
    assert now(upload).received == 5


def test_two_replacements_at_once_do_not_mix(upload):
    put(upload, 0)
    slow = body(b"slow", lambda: put(upload, 0, b"quick byte", replace=True), b" bytes")
    engine.put_chunk(now(upload), 0, slow, replace=True)
    assert recorded(upload) == {0: b"slow bytes"}
    assert (now(upload).received, now(upload).chunk_count) == (10, 1)
    assert files_beside() == 1


def test_a_replacement_that_comes_after_the_end_changes_nothing():
    upload = open_upload(20, 10)
    put(upload, 0)
    put(upload, 1)
    with pytest.raises(errors.ChunkConflict):
        put(upload, 0, b"other byte", replace=True)
    assert recorded(upload) == {0: PARTS[0], 1: PARTS[1]}


def test_a_replacement_that_is_outrun_by_the_end_changes_nothing():
    upload = open_upload(20, 10)
    put(upload, 0)
    slow = body(b"ot", lambda: put(upload, 1), b"her byte")
    with pytest.raises(errors.ChunkConflict):
        engine.put_chunk(now(upload), 0, slow, replace=True)
    assert recorded(upload) == {0: PARTS[0], 1: PARTS[1]}
    assert [path.name for path in files_in(staging())] == ["data"]


def test_replacing_a_chunk_leaves_what_others_are_made_of():
    """A concatenation has borrowed the bytes; they stay until it is assembled."""
    part = open_upload(10, 10, ends_when_full=False)
    put(part, 0)
    put(part, 0, b"beside it.", replace=True)
    policy, new = get_policy("default"), engine.NewUpload("whole")
    whole = engine.concatenate(ALICE, "test", policy, new, [now(part)])
    put(part, 0, b"third time", replace=True)
    assert recorded(whole) == {0: b"beside it."}
    assert recorded(part) == {0: b"third time"}


# Unknown length


def test_a_file_of_unknown_length_has_chunks_of_one_size_but_the_last():
    upload = open_upload(None, 10)
    put(upload, 0)
    put(upload, 2, b"short")
    row = now(upload)
    assert (row.received, row.missing, row.state) == (15, None, State.RECEIVING)
    with pytest.raises(errors.WrongSize):
        put(upload, 1, b"x" * 11)
    with pytest.raises(errors.WrongSize):
        put(upload, 1, b"")
    with pytest.raises(errors.WrongSize):
        engine.put_chunk(now(upload), 1, body(length=None))


def test_a_file_of_unknown_length_has_not_more_chunks_than_there_may_be(settings):
    use(settings, MAX_CHUNKS=10)
    upload = open_upload(None, 10)
    put(upload, 9)
    with pytest.raises(errors.Invalid):
        engine.put_chunk(now(upload), 10, body(b"x" * 10))


def test_a_file_of_unknown_length_is_not_larger_than_it_may_be(settings):
    use_policy(settings, max_size=25)
    upload = open_upload(None, 10)
    put(upload, 0)
    put(upload, 1)
    with pytest.raises(errors.TooLarge) as caught:
        put(upload, 2)
    assert caught.value.facts == {"max_size": 25}
    assert now(upload).received == 20
    put(upload, 2, b"x" * 5)


def test_a_file_of_unknown_length_stays_within_the_quota(settings):
    use_policy(settings, quota=25)
    upload = open_upload(None, 10)
    put(upload, 0)
    put(upload, 1)
    with pytest.raises(errors.QuotaExceeded):
        put(upload, 2)
    assert (now(upload).received, now(upload).chunk_count) == (20, 2)
    assert set(recorded(upload)) == {0, 1}


# Ends


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED, State.REJECTED])
def test_an_upload_that_is_gone_takes_no_chunks(upload, state):
    UploadSession.objects.update(state=state)
    for found in (upload, now(upload)):
        with pytest.raises(errors.Gone):
            engine.put_chunk(found, 0, body(PARTS[0]))
    assert staged(upload.pk) == []


def test_a_failed_upload_takes_no_chunks(upload):
    UploadSession.objects.update(state=State.FAILED)
    for found in (upload, now(upload)):
        with pytest.raises(errors.NotReceiving) as caught:
            engine.put_chunk(found, 0, body(PARTS[0]))
        assert caught.value.facts == {"state": "failed"}


def test_cancelling_while_a_chunk_arrives_leaves_nothing(upload):
    put(upload, 1)
    slow = body(PARTS[0][:5], lambda: engine.cancel(upload), PARTS[0][5:])
    with pytest.raises(errors.Gone):
        engine.put_chunk(now(upload), 0, slow)
    assert recorded(upload) == {}
    assert staged(upload.pk) == []


def test_cancelling_while_a_chunk_arrives_beside_leaves_nothing(upload, monkeypatch):
    monkeypatch.setattr(filesystem, "_SET_LOCK", None)
    slow = body(PARTS[0][:5], lambda: engine.cancel(upload), PARTS[0][5:])
    with pytest.raises(errors.Gone):
        engine.put_chunk(now(upload), 0, slow)
    assert staged(upload.pk) == []


def test_deleting_the_row_while_a_chunk_arrives_leaves_nothing(upload):
    slow = body(PARTS[0][:5], UploadSession.objects.all().delete, PARTS[0][5:])
    with pytest.raises(errors.NotFound):
        engine.put_chunk(now(upload), 0, slow)
    assert not Chunk.objects.exists()
    assert staged(upload.pk) == []


def test_the_end_between_the_look_and_the_write_is_noticed(upload):
    stale = now(upload)
    engine.cancel(upload)
    brought = body(PARTS[0])
    with pytest.raises(errors.Gone):
        engine.put_chunk(stale, 0, brought)
    assert brought.received == 0
    assert staged(upload.pk) == []


# Bytes and rows


def test_a_commit_of_unknown_outcome_keeps_the_bytes(upload, monkeypatch):
    monkeypatch.setattr(filesystem, "_SET_LOCK", None)

    def lost(*args: Any) -> None:
        raise ConnectionResetError("the database went away")

    with monkeypatch.context() as patch:
        patch.setattr(
            engine.numbering,
            "_record_alone",
            after(engine.numbering._record_alone, lost),
        )
        with pytest.raises(ConnectionResetError):
            put(upload, 0)
    assert files_beside() == 1
    put(upload, 0)
    assert recorded(upload) == {0: PARTS[0]}


def test_bytes_that_cannot_be_dropped_do_not_spoil_the_answer(upload, monkeypatch):
    monkeypatch.setattr(filesystem, "_SET_LOCK", None)

    def broken(*args: Any) -> None:
        raise OSError("a disk that does not delete")

    monkeypatch.setattr(filesystem.FilesystemStore, "delete", broken)
    with pytest.raises(errors.ChecksumMismatch):
        engine.put_chunk(upload, 0, body(PARTS[0], expected={"md5": b""}))
    slow = body(PARTS[0][:5], lambda: put(upload, 0), PARTS[0][5:])
    assert not engine.put_chunk(now(upload), 0, slow)[1]
    put(upload, 1)
    assert put(upload, 1, b"other byte", replace=True)[1]


@transactional
@pytest.mark.usefixtures("inline")
def test_the_last_chunk_finishes_the_file_without_a_copy(monkeypatch):
    monkeypatch.setattr(filesystem, "copy_range", None)
    upload = sent(DATA, 10)
    assert upload.state == State.COMPLETE
    assert read(upload) == DATA
    assert staged(upload.pk) == []


def test_without_a_length_no_chunk_may_lie_beyond_the_largest_file(settings):
    use(settings, POLICIES={"default": {"max_size": 25}})
    upload = open_upload(None, 10)
    engine.put_chunk(upload, 2, body(b"12345"))
    with pytest.raises(errors.TooLarge):
        engine.put_chunk(upload, 3, body(b"1"))
