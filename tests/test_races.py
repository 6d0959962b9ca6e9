"""What must hold when requests, workers and operators meet.

Real threads on a real database; each claim is raced by many at once, and where a
certain line decides, also by two that are brought together just there.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, retention, signals
from resumable_uploads.changes import _Update, _UpdateAndInsert
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import get_policy
from resumable_uploads.stores import Place, filesystem, store_for

from .making import (
    ALICE,
    body,
    content,
    files_in,
    finished,
    heard,
    now,
    open_upload,
    read,
    sent,
    staged,
    staging,
    use,
    use_policy,
)
from .racing import Gate, Running, at_once, counted, failures, held, values

pytestmark = pytest.mark.django_db(transaction=True)
SIZE = 100
DATA = content(SIZE)
SEGMENT = 30


@pytest.fixture(autouse=True)
def _small(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(settings, SEGMENT_SIZE=SEGMENT, FSYNC="never", RUNNER="inline")
    monkeypatch.setattr(filesystem, "LOCK_WAITS", (0.005,))


@pytest.fixture(params=["in place", "beside"])
def places(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's locks, and on systems without them."""
    if request.param == "beside":
        monkeypatch.setattr(filesystem, "_SET_LOCK", None)
    return request.param


@pytest.fixture
def nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge")


@pytest.fixture
def no_quota(settings: Any) -> None:
    """Without a quota there is no owner's lock that would keep requests apart."""
    use_policy(settings, quota=None, max_open=None)


def writer_data(writer: int, size: int = SIZE) -> bytes:
    """Return bytes that only this writer sends."""
    return bytes([65 + writer]) * size


def age(upload: UploadSession) -> None:
    past = timezone.now() - timedelta(minutes=2)
    UploadSession.objects.filter(pk=upload.pk).update(active_at=past)


def row(upload: UploadSession) -> UploadSession:
    return UploadSession.objects.get(pk=upload.pk)


def stored(upload: UploadSession) -> dict[int, bytes]:
    """Return the recorded bytes by the numbers of their chunks."""
    store = store_for(upload.storage)
    found = {}
    for chunk in Chunk.objects.filter(upload=upload):
        with store.open(Place(chunk.key, chunk.start)) as stream:
            found[chunk.number] = stream.read(chunk.size)
    return found


def codes(threads: list[Running]) -> set[str]:
    """Return the codes of the refusals; anything else that went wrong is raised."""
    found = set()
    for error in failures(threads):
        if not isinstance(error, errors.UploadError):
            raise error
        found.add(error.code)
    return found


def slowly(data: bytes, pieces: int = 10) -> Iterator[Any]:
    """Yield data in pieces, between which other threads get a turn."""
    step = max(1, len(data) // pieces)
    for start in range(0, len(data), step):
        yield data[start : start + step]
        yield lambda: time.sleep(0.0005)


# Appends


@pytest.mark.usefixtures("no_quota")
def test_eight_appends_at_one_offset_have_one_winner(places):
    for _ in range(4):
        upload = open_upload(SIZE)
        threads = at_once(
            partial(
                engine.append,
                now(upload),
                0,
                body(*slowly(writer_data(n)), length=SIZE),
            )
            for n in range(8)
        )
        assert len(values(threads)) == 1
        assert codes(threads) <= {"interrupted", "offset_mismatch", "not_receiving"}
        done = row(upload)
        assert done.state == State.COMPLETE
        assert read(done) in {writer_data(n) for n in range(8)}
        assert staged(upload.pk) == []


@pytest.mark.usefixtures("nobody_assembles")
def test_who_lost_the_lease_records_nothing(places, monkeypatch):
    """The first one has its bytes on disk when the second one asks."""
    upload = open_upload(SIZE)
    gate = held(monkeypatch, engine.appending, "_record_segment")
    first = Running(engine.append, now(upload), 0, body(writer_data(0)))
    gate.wait()
    engine.append(now(upload), 0, body(writer_data(1, 50)))
    gate.open()
    with pytest.raises(errors.Interrupted) as caught:
        first.result()
    assert caught.value.facts == {"offset": 50}
    assert b"".join(stored(upload).values()) == writer_data(1, 50)


@pytest.mark.usefixtures("nobody_assembles")
def test_who_lost_the_lease_to_a_question_records_nothing(monkeypatch):
    upload = open_upload(SIZE)
    gate = held(monkeypatch, engine.appending, "_record_segment")
    first = Running(engine.append, now(upload), 0, body(writer_data(0)))
    gate.wait()
    assert engine.take_offset(now(upload)).received == 0
    gate.open()
    with pytest.raises(errors.Interrupted):
        first.result()
    assert row(upload).received == 0


@pytest.mark.usefixtures("nobody_assembles")
def test_an_append_at_an_offset_that_has_just_passed_is_refused(monkeypatch):
    """It found the upload at 0; before it takes the lease, another one has appended."""
    upload = open_upload(SIZE)
    gate = held(monkeypatch, engine.appending, "_take_lease")
    late = Running(engine.append, now(upload), 0, body(writer_data(0)))
    gate.wait()
    engine.append(now(upload), 0, body(writer_data(1, 50)))
    gate.open()
    with pytest.raises(errors.OffsetMismatch) as caught:
        late.result()
    assert caught.value.facts == {"offset": 50}
    assert b"".join(stored(upload).values()) == writer_data(1, 50)


def test_a_hung_connection_does_not_block_the_one_that_comes_back(places):
    """And its late bytes do the finished file no harm."""
    upload = open_upload(SIZE)
    line = Gate()
    hung = Running(
        engine.append,
        now(upload),
        0,
        body(DATA[:45], line.pass_through, b"X" * 55, length=SIZE),
    )
    line.wait()
    begun = time.monotonic()
    back = engine.take_offset(now(upload))
    assert back.received == SEGMENT
    engine.append(back, SEGMENT, body(DATA[SEGMENT:]))
    assert time.monotonic() - begun < 5
    done = row(upload)
    assert done.state == State.COMPLETE
    assert read(done) == DATA
    line.open()
    with pytest.raises(errors.NotReceiving):
        hung.result()
    assert read(done) == DATA
    assert len(finished()) == 1
    assert staged(upload.pk) == []


def test_a_connection_that_hangs_before_its_first_byte_is_no_obstacle(places):
    upload = open_upload(SIZE)
    lines = [Gate() for _ in range(3)]
    hung = [
        Running(
            engine.append,
            now(upload),
            0,
            body(line.pass_through, writer_data(n), length=SIZE),
        )
        for n, line in enumerate(lines)
    ]
    for line in lines:
        line.wait()
    engine.append(engine.take_offset(now(upload)), 0, body(DATA))
    for line in lines:
        line.open()
    for thread in hung:
        with pytest.raises(errors.NotReceiving):
            thread.result()
    assert read(upload) == DATA


def test_an_answered_offset_stays_true(places):
    """Many clients go on where they were told to; who asked last gets through."""
    upload = open_upload(SIZE)

    def client() -> None:
        for _ in range(200):
            found = engine.take_offset(now(upload))
            if found.state != State.RECEIVING:
                return
            try:
                engine.append(found, found.received, body(DATA[found.received :]))
            except (errors.Interrupted, errors.OffsetMismatch, errors.NotReceiving):
                time.sleep(random.random() / 100)

    threads = at_once([client] * 4)
    assert failures(threads) == []
    assert read(upload) == DATA


# Numbered chunks


@pytest.mark.usefixtures("no_quota")
def test_64_chunks_at_once_of_a_new_file_are_one_upload_and_one_file(
    places, monkeypatch
):
    """Each request opens the upload under the same client key, and sends its chunk."""
    data = content(64 * 10 - 3)
    assemblies = counted(monkeypatch, assembly, "_assemble")

    def request(number: int) -> None:
        upload = open_upload(len(data), 10, client_key="k")
        part = data[number * 10 : number * 10 + 10]
        engine.put_chunk(upload, number, body(part))

    with (
        heard(signals.upload_created) as created,
        heard(signals.upload_completed) as completed,
    ):
        threads = at_once(partial(request, n) for n in range(64))
    assert failures(threads) == []
    upload = UploadSession.objects.get()
    assert (upload.state, upload.chunk_count) == (State.COMPLETE, 64)
    assert read(upload) == data
    assert len(finished()) == 1
    assert len(assemblies) == 1
    assert created == completed == [upload.pk]
    assert staged(upload.pk) == []


@pytest.mark.usefixtures("no_quota")
def test_one_client_key_opened_by_many_at_once_is_one_upload():
    threads = at_once([lambda: open_upload(SIZE, 10, client_key="k").pk] * 8)
    assert failures(threads) == []
    assert len(set(values(threads))) == 1
    assert UploadSession.objects.count() == 1


@pytest.mark.usefixtures("no_quota")
def test_two_that_find_no_upload_under_their_key_open_one(monkeypatch):
    gate = held(monkeypatch, engine.opening, "new_row")
    first = Running(open_upload, SIZE, client_key="k")
    gate.wait()
    second = open_upload(SIZE, client_key="k")
    gate.open()
    assert first.result().pk == second.pk


@pytest.mark.parametrize("length", [10, 20])
def test_one_chunk_eight_times_at_once_is_one_chunk(places, length, monkeypatch):
    """Whether or not it is the last one; and everybody is told that it is there."""
    for _ in range(3):
        upload = open_upload(length, 10)
        threads = at_once(
            partial(
                engine.put_chunk,
                now(upload),
                0,
                body(*slowly(DATA[:10], 2), length=10),
            )
            for _ in range(8)
        )
        assert failures(threads) == []
        assert sum(new for _, new in values(threads)) == 1
        done = row(upload)
        assert (done.received, done.chunk_count) == (10, 1)
        if length == 10:
            assert read(done) == DATA[:10]
            assert staged(upload.pk) == []
        else:
            assert stored(upload) == {0: DATA[:10]}


@pytest.mark.usefixtures("nobody_assembles")
def test_two_that_write_the_same_chunk_at_once_count_once(places, monkeypatch):
    """Both have their bytes on disk before one of them is recorded."""
    upload = open_upload(20, 10)
    gate = held(monkeypatch, engine.numbering, "_record_chunk")
    first = Running(engine.put_chunk, now(upload), 0, body(DATA[:10]))
    gate.wait()
    assert engine.put_chunk(now(upload), 0, body(DATA[:10]))[1]
    gate.open()
    chunk, new = first.result()
    assert not new
    assert (row(upload).received, row(upload).chunk_count) == (10, 1)
    assert Chunk.objects.get() == chunk
    assert stored(upload) == {0: DATA[:10]}


@pytest.mark.usefixtures("nobody_assembles")
def test_other_bytes_for_one_number_at_once_never_mix(places):
    for _ in range(4):
        upload = open_upload(20, 10)
        threads = at_once(
            partial(
                engine.put_chunk,
                now(upload),
                0,
                body(*slowly(writer_data(n, 10), 5), length=10),
            )
            for n in range(8)
        )
        assert len(values(threads)) == 1
        assert codes(threads) == {"chunk_conflict"}
        winner = threads.index(next(t for t in threads if t.error is None))
        assert stored(upload) == {0: writer_data(winner, 10)}
        assert row(upload).received == 10
        chunk = Chunk.objects.get(upload=upload)
        kept = [path for path in staged(upload.pk)[1:] if path.suffix == ".chunk"]
        assert len(kept) == chunk.key.endswith(".chunk")


@pytest.mark.usefixtures("nobody_assembles")
def test_other_bytes_that_come_while_the_first_are_written_go_elsewhere(monkeypatch):
    """The second one is recorded while the first one is still writing."""
    upload = open_upload(20, 10)
    line = Gate()
    first = Running(
        engine.put_chunk,
        now(upload),
        0,
        body(b"first", line.pass_through, b"bytes", length=10),
    )
    line.wait()
    engine.put_chunk(now(upload), 0, body(b"second one"))
    assert stored(upload) == {0: b"second one"}
    line.open()
    with pytest.raises(errors.ChunkConflict):
        first.result()
    assert stored(upload) == {0: b"second one"}


@pytest.mark.usefixtures("nobody_assembles")
def test_a_chunk_recorded_between_the_look_and_the_lock_is_not_overwritten(
    monkeypatch,
):
    """The upload was looked up before; under the lock it is looked at again."""
    upload = open_upload(20, 10)
    gate = held(monkeypatch, engine.numbering, "writing")
    late = Running(engine.put_chunk, now(upload), 0, body(b"other byte"))
    gate.wait()
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    gate.open()
    with pytest.raises(errors.ChunkConflict):
        late.result()
    assert stored(upload) == {0: DATA[:10]}


@pytest.mark.usefixtures("nobody_assembles")
def test_replacements_at_once_never_mix(places):
    upload = open_upload(20, 10, ends_when_full=False)
    for _ in range(4):
        threads = at_once(
            partial(
                engine.put_chunk,
                now(upload),
                0,
                body(*slowly(writer_data(n, 10), 5), length=10),
                replace=True,
            )
            for n in range(8)
        )
        assert failures(threads) == []
        assert stored(upload)[0] in {writer_data(n, 10) for n in range(8)}
        assert (row(upload).received, row(upload).chunk_count) == (10, 1)
        assert len([p for p in staged(upload.pk) if p.suffix == ".chunk"]) <= 1


@pytest.mark.usefixtures("nobody_assembles")
def test_a_swap_that_is_outrun_looks_again(places, monkeypatch):
    upload = open_upload(20, 10)
    engine.put_chunk(now(upload), 0, body(b"first data"))
    gate = held(monkeypatch, engine.numbering, "swap_chunk")
    slow = Running(engine.put_chunk, now(upload), 0, body(b"slow bytes"), replace=True)
    gate.wait()
    engine.put_chunk(now(upload), 0, body(b"quick data"), replace=True)
    gate.open()
    slow.result()
    assert stored(upload) == {0: b"slow bytes"}
    assert len([p for p in staged(upload.pk) if p.suffix == ".chunk"]) == 1
    assert row(upload).received == 10


@pytest.mark.usefixtures("nobody_assembles")
def test_chunks_and_appends_at_once_are_one_or_the_other(places):
    for _ in range(4):
        upload = open_upload(60, 20)
        calls: list[Callable[[], Any]] = [
            partial(engine.append, now(upload), 0, body(DATA[:60])),
            partial(engine.put_chunk, now(upload), 1, body(DATA[20:40])),
            partial(engine.put_chunk, now(upload), 2, body(DATA[40:60])),
        ]
        threads = at_once(calls)
        assert codes(threads) <= {"addressing", "interrupted", "not_receiving"}
        done = row(upload)
        chunks = list(Chunk.objects.filter(upload=upload))
        assert sum(chunk.size for chunk in chunks) == done.received
        for chunk in chunks:
            data = stored(upload)[chunk.number]
            assert data == DATA[chunk.offset : chunk.offset + chunk.size]


@pytest.mark.usefixtures("nobody_assembles")
def test_a_chunk_between_the_lease_and_the_segment_decides(places, monkeypatch):
    """The append has the lease and its bytes on disk; a chunk is recorded first."""
    upload = open_upload(60, 20)
    gate = held(monkeypatch, engine.appending, "_record_segment")
    append = Running(engine.append, now(upload), 0, body(DATA[:60]))
    gate.wait()
    engine.put_chunk(now(upload), 1, body(DATA[20:40]))
    gate.open()
    with pytest.raises(errors.Interrupted):
        append.result()
    assert stored(upload) == {1: DATA[20:40]}
    assert (row(upload).received, row(upload).addressed_by) == (20, "number")


def test_the_last_two_chunks_at_once_end_the_upload(places):
    """Neither may think that the other one will."""
    for _ in range(6):
        upload = open_upload(20, 10)
        threads = at_once(
            partial(engine.put_chunk, now(upload), n, body(DATA[n * 10 : n * 10 + 10]))
            for n in range(2)
        )
        assert failures(threads) == []
        assert row(upload).state == State.COMPLETE
        assert read(upload) == DATA[:20]


@pytest.mark.usefixtures("nobody_assembles")
def test_no_more_bytes_than_there_may_be_are_recorded_at_once(settings):
    use_policy(settings, max_size=55, quota=None, max_open=None)
    upload = open_upload(None, 10)
    threads = at_once(
        partial(engine.put_chunk, now(upload), n, body(b"x" * 10)) for n in range(8)
    )
    assert len(values(threads)) == 5
    assert codes(threads) == {"too_large"}
    assert row(upload).received == 50


# Ends while bytes arrive


def cancel(upload: UploadSession) -> None:
    engine.cancel(now(upload))


def delete_row(upload: UploadSession) -> None:
    UploadSession.objects.get(pk=upload.pk).delete()


def purge(upload: UploadSession) -> None:
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=past)
    retention.purge()


ENDS = [cancel, delete_row, purge]


def nothing_is_left(upload_id: Any) -> bool:
    rows = Chunk.objects.filter(upload=upload_id).exists()
    return not rows and not staged(upload_id) and not finished()


@pytest.mark.parametrize("end", ENDS)
def test_an_end_while_chunks_arrive_leaves_nothing(places, end):
    for delay in (0.0, 0.01, 0.03):
        upload = open_upload(200, 10)
        upload_id = upload.pk

        def send(first: int, upload: Any = upload) -> None:
            for number in range(first, 19, 4):
                found = engine.find(ALICE, upload.pk)
                engine.put_chunk(found, number, body(*slowly(DATA[:10], 2), length=10))

        def finish(upload: Any = upload, delay: float = delay) -> None:
            time.sleep(delay)
            end(upload)

        threads = at_once([*(partial(send, n) for n in range(4)), finish])
        assert codes(threads) <= {"gone", "not_found"}
        assert threads[-1].error is None
        assert nothing_is_left(upload_id)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("writing", False),
        ("_chunk_there", False),
        ("_chunk_there", True),
        ("_check_whole", False),
        ("_record_chunk", False),
        ("_record_alone", False),
        ("_insert_chunk", False),
    ],
)
def test_an_end_at_any_line_of_a_request_leaves_nothing(
    places, monkeypatch, end, name, after
):
    # What has no length yet is counted step by step.
    upload = open_upload(None if name == "_insert_chunk" else 20, 10)
    upload_id = upload.pk
    gate = held(monkeypatch, engine.numbering, name, after)
    request = Running(engine.put_chunk, now(upload), 0, body(DATA[:10]))
    gate.wait()
    # Where the request holds a transaction, SQLite lets nobody else write.
    ending = Running(end, upload)
    if name == "_insert_chunk":
        time.sleep(0.1)
    else:
        ending.result()
    gate.open()
    assert codes([request.wait()]) <= {"gone", "not_found"}
    ending.result()
    assert nothing_is_left(upload_id)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "length", [None, pytest.param(20, marks=pytest.mark.only_on("sqlite"))]
)
def test_an_end_in_the_middle_of_a_recording_leaves_nothing(
    places, monkeypatch, end, length
):
    """The request has the row's lock; the chunk comes just before the end.

    Where the length is known, PostgreSQL counts and records it in one statement.
    """
    upload = open_upload(length, 10)
    upload_id = upload.pk
    if length is None:
        gate = held(monkeypatch, engine.numbering, "advance", after=True)
    else:
        gate = held(monkeypatch, _Update, "__call__", after=True)
    request = Running(engine.put_chunk, now(upload), 0, body(DATA[:10]))
    gate.wait()
    ending = Running(end, upload)
    time.sleep(0.1)
    assert not ending.is_over
    gate.open()
    request.result()
    ending.result()
    assert nothing_is_left(upload_id)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["_take_lease", "_record_segment"])
def test_an_end_at_any_line_of_an_append_leaves_nothing(places, monkeypatch, end, name):
    upload = open_upload(SIZE)
    upload_id = upload.pk
    gate = held(monkeypatch, engine.appending, name)
    request = Running(engine.append, now(upload), 0, body(DATA))
    gate.wait()
    end(upload)
    gate.open()
    assert codes([request.wait()]) == {"not_found" if end is delete_row else "gone"}
    assert nothing_is_left(upload_id)


@pytest.mark.parametrize("end", [cancel, delete_row])
def test_an_end_while_the_file_is_assembled_leaves_nothing(monkeypatch, settings, end):
    use(settings, RUNNER="tests.making.lost_nudge")
    for name in ("_checked", "_planned_name", "_complete"):
        upload = sent(DATA, 10)
        upload_id = upload.pk
        with monkeypatch.context() as patch:
            gate = held(patch, assembly, name)
            worker = Running(assembly.assemble, upload_id)
            gate.wait()
            end(upload)
            gate.open()
            assert worker.result() is False
        assert nothing_is_left(upload_id)


def test_cancelling_and_completing_at_once_is_one_of_them(settings):
    use(settings, RUNNER="tests.making.lost_nudge")
    ends = (signals.upload_completed, signals.upload_cancelled)
    for _ in range(6):
        upload = sent(DATA, 10)
        found = now(upload)
        with heard(*ends) as told:
            threads = at_once(
                [partial(assembly.assemble, upload.pk), partial(engine.cancel, found)]
            )
        assert failures(threads) == []
        assert row(upload).state == State.CANCELLED
        assert 1 <= told.count(upload.pk) <= 2
        assert nothing_is_left(upload.pk)


def test_many_that_cancel_at_once_tell_once():
    upload = open_upload(20, 10)
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    with heard(signals.upload_cancelled) as cancelled:
        threads = at_once([partial(engine.cancel, now(upload))] * 8)
    assert failures(threads) == []
    assert cancelled == [upload.pk]
    assert nothing_is_left(upload.pk)


def test_many_that_find_it_overdue_at_once_tell_once():
    upload = open_upload(20, 10)
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    with heard(signals.upload_expired) as expired:
        threads = at_once([lambda: now(upload), retention.purge] * 4)
    assert failures(threads) == []
    assert expired == [upload.pk]
    assert row(upload).state == State.EXPIRED


def test_many_that_settle_at_once_tell_once():
    upload = open_upload(20, 10)
    UploadSession.objects.update(state=State.CANCELLED)
    with heard(signals.upload_cancelled) as cancelled:
        threads = at_once([lambda: engine.settle([upload.pk])] * 8)
    assert failures(threads) == []
    assert sum(values(threads)) == 1
    assert cancelled == [upload.pk]


# Quotas


def test_a_quota_is_exact_under_parallel_openings(settings):
    use_policy(settings, quota=100)
    # First of an owner nobody knows yet, then of one who has a lock.
    for _ in range(2):
        threads = at_once([partial(open_upload, 30)] * 8)
        assert len(values(threads)) == 3
        assert codes(threads) == {"quota_exceeded"}
        assert UploadSession.objects.count() == 3
        UploadSession.objects.all().delete()


def test_the_number_of_open_uploads_is_exact_under_parallel_openings(settings):
    use_policy(settings, quota=None, max_open=3)
    threads = at_once([lambda: open_upload(1)] * 8)
    assert len(values(threads)) == 3
    assert codes(threads) == {"too_many_uploads"}
    assert UploadSession.objects.count() == 3


@pytest.mark.usefixtures("nobody_assembles")
def test_a_quota_is_exact_for_uploads_that_grow_at_once(settings):
    use_policy(settings, quota=100)
    uploads = [open_upload() for _ in range(8)]
    threads = at_once(
        partial(engine.append, now(upload), 0, body(b"x" * 30)) for upload in uploads
    )
    assert len(values(threads)) == 3
    assert codes(threads) == {"quota_exceeded"}
    assert sum(row(upload).received for upload in uploads) == 90


def test_openings_and_growth_at_once_do_not_wait_for_each_other_forever(settings):
    """Both take the owner's lock and an upload's row; never crosswise."""
    use_policy(settings, quota=10**6, max_open=None)
    uploads = [open_upload() for _ in range(4)]
    calls: list[Callable[[], Any]] = [
        partial(engine.append, now(upload), 0, body(b"x" * 90)) for upload in uploads
    ]
    threads = at_once([*calls, *[lambda: open_upload(10)] * 4])
    assert failures(threads) == []


# The database


@pytest.fixture(params=["committed", "not committed"])
def lost_commit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lose the connection at the next commit of a chunk; was it committed or not?"""

    def arm() -> None:
        wrapper = type(connections["default"])
        # A statement that is its own transaction is committed as well.
        for owner, name in [(wrapper, "_commit"), (_UpdateAndInsert, "__call__")]:
            lose(owner, name, getattr(owner, name))

    def lose(owner: Any, name: str, commit: Callable[..., Any]) -> None:
        def lost(self: Any, *args: Any) -> None:
            monkeypatch.setattr(owner, name, commit)
            if request.param == "committed":
                commit(self, *args)
            elif owner is not _UpdateAndInsert:
                self._rollback()
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(owner, name, lost)

    return arm


@pytest.mark.usefixtures("nobody_assembles")
def test_a_commit_of_unknown_outcome_keeps_the_bytes_of_a_chunk(places, lost_commit):
    upload = open_upload(20, 10)
    found = now(upload)

    def request() -> None:
        engine.put_chunk(found, 0, body(lost_commit, DATA[:10]))

    with pytest.raises(OperationalError):
        Running(request).result()
    # Whatever became of the row: its bytes are there, or it is not.
    recorded = stored(upload)
    assert recorded in ({}, {0: DATA[:10]})
    assert row(upload).received == 10 * len(recorded)
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    assert stored(upload) == {0: DATA[:10]}
    assert row(upload).received == 10


def test_a_commit_of_unknown_outcome_keeps_the_bytes_of_an_append(places, lost_commit):
    upload = open_upload(SIZE)
    found = now(upload)

    def request() -> None:
        engine.append(found, 0, body(DATA[:45], lost_commit, DATA[45:]))

    with pytest.raises(OperationalError):
        Running(request).result()
    back = engine.take_offset(now(upload))
    assert back.received in (SEGMENT, 2 * SEGMENT)
    assert b"".join(stored(upload).values()) == DATA[: back.received]
    engine.append(back, back.received, body(DATA[back.received :]))
    assert read(upload) == DATA


def test_a_commit_of_unknown_outcome_does_not_lose_the_end(lost_commit):
    """The last chunk was recorded, the answer lost; the repeat is answered."""
    upload = open_upload(10, 10)
    found = now(upload)
    with pytest.raises(OperationalError):
        Running(engine.put_chunk, found, 0, body(lost_commit, DATA[:10])).result()
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    age(upload)
    retention.resend()
    assert read(upload) == DATA[:10]


def test_a_broker_that_is_down_at_the_last_commit_costs_time_only(settings):
    use(settings, RUNNER="tests.test_races.broken_runner")
    with heard(signals.upload_completed) as completed:
        upload = sent(DATA, 10)
        assert row(upload).state == State.ASSEMBLING
        use(settings, RUNNER="inline")
        assert retention.resend() == 0
        age(upload)
        assert retention.resend() == 1
    assert completed == [upload.pk]
    assert read(upload) == DATA


def broken_runner(name: str, *args: Any) -> None:
    raise ConnectionError("no broker")


@pytest.mark.only_on("sqlite")
def test_transactions_begin_with_a_write_so_that_sqlite_waits(settings, monkeypatch):
    """In SQLite's own mode, one that began by reading fails when it wants to write."""
    options = connections.settings["default"]["OPTIONS"]
    monkeypatch.setitem(options, "transaction_mode", None)
    use_policy(settings, quota=10**6, max_open=1000)
    data = content(16 * 10)

    def request(number: int) -> None:
        upload = open_upload(len(data), 10, client_key="k")
        engine.put_chunk(upload, number, body(data[number * 10 : number * 10 + 10]))
        other = open_upload(10)
        engine.append(other, 0, body(b"x" * 10))
        engine.cancel(open_upload(10))

    threads = at_once(partial(request, n) for n in range(16))
    assert failures(threads) == []
    upload = UploadSession.objects.get(client_key="k")
    assert read(upload) == data


# Workers


def test_many_workers_make_one_file(settings, monkeypatch):
    use(settings, RUNNER="tests.making.lost_nudge")
    assemblies = counted(monkeypatch, assembly, "_assemble")
    for _ in range(3):
        upload = sent(DATA, 10)
        assemblies.clear()
        with heard(signals.upload_completed) as completed:
            threads = at_once([partial(assembly.assemble, upload.pk)] * 8)
        assert failures(threads) == []
        assert Counter(values(threads)) == {True: 1, False: 7}
        assert completed == [upload.pk]
        assert len(assemblies) == 1
        assert read(upload) == DATA
    assert len(finished()) == 3


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("_checked", False),
        ("_looked_at", True),
        ("_planned_name", True),
        ("_note_plan", True),
        ("_complete", False),
    ],
)
def test_a_worker_that_was_asleep_and_its_successor_make_one_file(
    settings, monkeypatch, name, after
):
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)
    gate = held(monkeypatch, assembly, name, after)
    with heard(signals.upload_completed) as completed:
        asleep = Running(assembly.assemble, upload.pk)
        gate.wait()
        age(upload)
        assert assembly.assemble(upload.pk) is True
        gate.open()
        assert asleep.result() is False
    assert completed == [upload.pk]
    assert read(upload) == DATA
    assert len(finished()) == 1
    assert staged(upload.pk) == []


def test_a_worker_that_wakes_up_and_its_successor_at_once_make_one_file(
    settings, monkeypatch
):
    """They publish side by side; only who holds the lease keeps its file."""
    use(settings, RUNNER="tests.making.lost_nudge")
    for _ in range(5):
        upload = sent(DATA, 10)
        with monkeypatch.context() as patch:
            gate = held(patch, assembly, "_note_plan", after=True)
            asleep = Running(assembly.assemble, upload.pk)
            gate.wait()
            age(upload)
            # Both go on from here.
            successor = Running(assembly.assemble, upload.pk)
            time.sleep(random.random() / 50)
            gate.open()
            assert [asleep.result(), successor.result()].count(True) == 1
        assert read(upload) == DATA
        assert len(files_in(finished()[0].parents[0])) == 1
        engine.cancel(now(upload))
        assert finished() == []


def test_a_worker_that_wakes_up_just_before_its_successor_publishes_leaves_no_file(
    settings, monkeypatch
):
    """It gets the name that the other one has planned, and may not drop it itself."""
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)
    first = held(monkeypatch, filesystem.FilesystemWhole, "publish")
    asleep = Running(assembly.assemble, upload.pk)
    first.wait()
    age(upload)
    second = held(monkeypatch, filesystem.FilesystemWhole, "publish")
    successor = Running(assembly.assemble, upload.pk)
    second.wait()
    first.open()
    assert asleep.result() is False
    second.open()
    assert successor.result() is True
    assert read(upload) == DATA
    assert len(finished()) == 1


def test_a_worker_that_was_replaced_does_not_speak_for_its_upload(
    settings, monkeypatch
):
    """It fails when it wakes up; its successor is not disturbed."""

    def broken(*args: Any) -> None:
        raise OSError("a disk that does not answer")

    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)
    first = held(monkeypatch, assembly, "_checked")
    asleep = Running(assembly.assemble, upload.pk)
    first.wait()
    age(upload)
    second = held(monkeypatch, filesystem.FilesystemWhole, "publish")
    successor = Running(assembly.assemble, upload.pk)
    second.wait()
    lease = row(upload).lease
    with monkeypatch.context() as patch:
        patch.setattr(filesystem.FilesystemStore, "join", broken)
        first.open()
        assert asleep.result() is False
    assert (row(upload).lease, row(upload).error) == (lease, "")
    second.open()
    assert successor.result() is True
    assert read(upload) == DATA


def test_a_file_published_while_its_upload_is_cancelled_goes_as_well(
    settings, monkeypatch
):
    """The cancelling has looked for a file already, and has yet to drop the chunks."""
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)
    publishing = held(monkeypatch, filesystem.FilesystemWhole, "publish")
    worker = Running(assembly.assemble, upload.pk)
    publishing.wait()
    releasing = held(monkeypatch, filesystem.FilesystemStore, "release")
    ending = Running(engine.cancel, now(upload))
    releasing.wait()
    publishing.open()
    assert worker.result() is False
    releasing.open()
    ending.result()
    assert nothing_is_left(upload.pk)


def test_finishing_and_a_last_chunk_at_once_make_a_whole_file(settings):
    """The chunk is in the file, or its client is told that it is not."""
    for _ in range(6):
        upload = open_upload(None, 10)
        engine.put_chunk(now(upload), 0, body(DATA[:10]))
        found = [now(upload), now(upload)]
        threads = at_once(
            [
                partial(engine.finish, found[0]),
                partial(engine.put_chunk, found[1], 1, body(DATA[10:20])),
            ]
        )
        assert threads[0].error is None
        done = row(upload)
        assert done.state == State.COMPLETE
        assert read(done) == DATA[: done.length]
        if threads[1].error is None:
            assert done.length == 20
        else:
            assert done.length == 10
            assert isinstance(threads[1].error, errors.UploadError)


@pytest.mark.usefixtures("nobody_assembles")
def test_a_chunk_that_comes_between_the_count_and_the_freeze_is_counted(monkeypatch):
    upload = open_upload(None, 10)
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    gate = held(monkeypatch, engine.finishing, "_is_gapless", after=True)
    finish = Running(engine.finish, now(upload))
    gate.wait()
    engine.put_chunk(now(upload), 1, body(DATA[10:20]))
    gate.open()
    assert finish.result().length == 20


@pytest.mark.usefixtures("nobody_assembles")
def test_a_replacement_between_the_count_and_the_freeze_is_counted(monkeypatch):
    upload = open_upload(None, 10)
    engine.put_chunk(now(upload), 0, body(DATA[:10]))
    engine.put_chunk(now(upload), 1, body(DATA[10:20]))
    gate = held(monkeypatch, engine.finishing, "_is_gapless", after=True)
    finish = Running(engine.finish, now(upload))
    gate.wait()
    engine.put_chunk(now(upload), 1, body(b"short"), replace=True)
    gate.open()
    assert finish.result().length == 15


@pytest.mark.parametrize("written", ["during", "after"])
def test_a_forgotten_writer_never_reaches_the_published_file(
    settings, monkeypatch, written
):
    """It holds a region of the data file, and writes when the file is made of it."""
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = open_upload(SIZE, 10)
    line = Gate()
    forgotten = Running(
        engine.put_chunk,
        now(upload),
        5,
        body(b"FORG", line.pass_through, b"OTTEN!", length=10),
    )
    line.wait()
    for number in range(10):
        data = DATA[number * 10 : number * 10 + 10]
        engine.put_chunk(now(upload), number, body(data))
    gate = held(monkeypatch, assembly, "_complete")
    worker = Running(assembly.assemble, upload.pk)
    gate.wait()
    if written == "during":
        line.open()
        forgotten.wait()
    gate.open()
    assert worker.result() is True
    line.open()
    # Once the file is complete, nothing is left to compare its bytes with.
    assert codes([forgotten.wait()]) <= {"chunk_conflict"}
    assert read(upload) == DATA
    assert len(finished()) == 1
    assert staged(upload.pk) == []


def test_parts_that_are_cancelled_and_joined_at_once_are_one_or_the_other(settings):
    use(settings, RUNNER="tests.making.lost_nudge")
    policy = get_policy("default")
    for _ in range(6):
        part = open_upload(20, 10, ends_when_full=False)
        for number in range(2):
            data = DATA[number * 10 : number * 10 + 10]
            engine.put_chunk(now(part), number, body(data))
        found = now(part)
        new = engine.NewUpload("whole")
        threads = at_once(
            [
                partial(engine.concatenate, ALICE, "test", policy, new, [found]),
                partial(engine.cancel, found),
            ]
        )
        assert codes(threads) <= {"incomplete"}
        assert row(part).state == State.CANCELLED
        if threads[0].error is None:
            whole = threads[0].value
            assert assembly.assemble(whole.pk)
            assert read(whole) == DATA[:20]
        else:
            assert staged(part.pk) == []
    assert staging().exists()
