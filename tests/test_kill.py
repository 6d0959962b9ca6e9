"""kill -9 at any line leaves an upload that goes on, and nothing that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone

from resumable_uploads import engine, retention, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.stores import Place, store_for

from . import deeds
from .deeds import CHUNK, DATA
from .killed import Executioner
from .making import files_in, finished, heard, open_upload, read, staged, staging, use

pytestmark = pytest.mark.django_db(transaction=True)

ENGINE, ASSEMBLY = "resumable_uploads.engine", "resumable_uploads.assembly"
STORE = "resumable_uploads.stores.filesystem"
COMMIT = "django.db.backends.base.base:BaseDatabaseWrapper._commit"
CHANGES = "resumable_uploads.changes"
# What a chunk that is not the last one is recorded by: a transaction of its own, or
# one statement, which is as good as that.
RECORDED = COMMIT
if connection.vendor == "postgresql":
    RECORDED = f"{CHANGES}:_UpdateAndInsert.__call__"
only_in_transactions = pytest.mark.only_on("sqlite")
SMALL = {"BUFFER_SIZE": 10, "SEGMENT_SIZE": CHUNK, "FSYNC": "never"}


@pytest.fixture(autouse=True)
def _small(settings: Any) -> None:
    use(settings, **SMALL)


@pytest.fixture(scope="module")
def executioner(django_db_setup: None) -> Iterator[Executioner]:
    executioner = Executioner(str(connection.settings_dict["NAME"]))
    yield executioner
    executioner.close()


@pytest.fixture
def kill(executioner: Executioner) -> Callable[..., None]:
    """Have another process do something, and be killed at a line."""

    def kill(
        deed: str,
        upload: UploadSession,
        line: str,
        when: str,
        call: int = 1,
        locks: bool = True,
    ) -> None:
        order = {
            "media": str(django_settings.MEDIA_ROOT),
            "uploads": SMALL,
            "locks": locks,
            "deed": deed,
            "upload": str(upload.pk),
            "line": line,
            "when": when,
            "call": call,
        }
        assert executioner.carry_out(order) == -9

    return kill


def age() -> None:
    past = timezone.now() - timedelta(minutes=2)
    UploadSession.objects.update(active_at=past)


def go_on(upload: UploadSession) -> UploadSession:
    """Do what is left to do, as clients and housekeeping do."""
    row = engine.refreshed(upload)
    while row.state == State.RECEIVING:
        if row.addressed_by == "offset":
            deeds.append(str(upload.pk))
        else:
            deeds.put_chunk(str(upload.pk))
        row = engine.refreshed(upload)
    for _ in range(2):
        age()
        retention.housekeep()
    return engine.refreshed(upload)


def nothing_lies_elsewhere(upload: UploadSession) -> bool:
    """Tell whether all that is on disk lies in the upload's own folders."""
    files = [*files_in(staging()), *finished()]
    return all(str(upload.pk) in path.parts for path in files)


def is_told_apart(upload: UploadSession) -> bool:
    """Tell whether the rows say what is really there."""
    row = engine.refreshed(upload)
    chunks = list(Chunk.objects.filter(upload=upload))
    store = store_for(row.storage)
    for chunk in chunks:
        with store.open(Place(chunk.key, chunk.start)) as stream:
            if stream.read(chunk.size) != DATA[chunk.offset :][: chunk.size]:
                return False
    return row.state == State.COMPLETE or (
        row.received == sum(chunk.size for chunk in chunks)
        and row.chunk_count == len(chunks)
    )


def is_complete(upload: UploadSession) -> bool:
    row = engine.refreshed(upload)
    assert (row.state, row.settled) == (State.COMPLETE, True)
    assert read(row) == DATA
    assert len(finished()) == 1
    return not files_in(staging()) and not Chunk.objects.exists()


@pytest.mark.parametrize(
    ("line", "when", "call", "locks"),
    [
        (f"{ENGINE}.numbering:_chunk_there", "before", 1, True),
        (f"{STORE}:os.pwrite", "before", 2, True),
        (f"{STORE}:os.pwrite", "before", 2, False),
        (f"{ENGINE}.numbering:_record_chunk", "before", 1, True),
        (f"{ENGINE}.numbering:_record_chunk", "before", 1, False),
        pytest.param(
            f"{CHANGES}:_Update.__call__", "after", 1, True, marks=only_in_transactions
        ),
        (RECORDED, "before", 1, True),
        (RECORDED, "after", 1, False),
    ],
)
def test_between_the_socket_and_the_committed_row(kill, line, when, call, locks):
    upload = open_upload(len(DATA), CHUNK)
    deeds.put_chunk(str(upload.pk))
    with heard(signals.upload_completed) as completed:
        kill("put_chunk", upload, line, when, call, locks)
        is_committed = (line, when) == (RECORDED, "after")
        assert engine.refreshed(upload).received == CHUNK * (1 + is_committed)
        assert is_told_apart(upload)
        assert nothing_lies_elsewhere(upload)
        retention.sweep()
        assert is_told_apart(upload), "the sweep leaves an open upload alone"
        go_on(upload)
    assert completed == [upload.pk]
    assert is_complete(upload)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (f"{ENGINE}.numbering:advance", "after"),
        (f"{ENGINE}.numbering:end_if_full", "after"),
        (COMMIT, "before"),
    ],
)
def test_while_the_last_chunk_is_recorded(kill, line, when):
    upload = open_upload(len(DATA), CHUNK)
    deeds.put_chunk(str(upload.pk))
    deeds.put_chunk(str(upload.pk))
    kill("put_chunk", upload, line, when)
    assert engine.refreshed(upload).received == 2 * CHUNK
    assert is_told_apart(upload)
    go_on(upload)
    assert is_complete(upload)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (COMMIT, "after"),
        (f"{ENGINE}.writing:nudge_if_full", "before"),
        (f"{ASSEMBLY}:assemble", "before"),
    ],
)
def test_after_the_last_chunk(kill, line, when):
    upload = open_upload(len(DATA), CHUNK)
    deeds.put_chunk(str(upload.pk))
    deeds.put_chunk(str(upload.pk))
    kill("put_chunk", upload, line, when)
    assert engine.refreshed(upload).state == State.ASSEMBLING
    with heard(signals.upload_completed) as completed:
        go_on(upload)
    assert completed == [upload.pk]
    assert is_complete(upload)


@pytest.mark.parametrize(
    ("line", "when", "call", "kept"),
    [
        (f"{STORE}:os.pwrite", "before", 5, CHUNK),
        (f"{ENGINE}.appending:_record_segment", "before", 2, CHUNK),
        (RECORDED, "before", 2, CHUNK),
        (RECORDED, "after", 2, 2 * CHUNK),
    ],
)
def test_in_the_middle_of_an_append(kill, line, when, call, kept):
    upload = open_upload(len(DATA))
    kill("append", upload, line, when, call)
    assert engine.take_offset(upload).received == kept
    assert is_told_apart(upload)
    assert nothing_lies_elsewhere(upload)
    go_on(upload)
    assert is_complete(upload)


def parts_are_told_apart(upload: UploadSession) -> bool:
    """Tell whether the rows of parts say what is really there."""
    row, store = engine.refreshed(upload), store_for(upload.storage)
    parts = list(Chunk.objects.filter(upload=upload))
    for part in parts:
        with store.open(Place(part.key, part.start)) as stream:
            start = (part.number - 1) * CHUNK
            if stream.read(part.size) != DATA[start : start + part.size]:
                return False
    there = (sum(part.size for part in parts), len(parts))
    return (row.received, row.chunk_count) == there


@pytest.mark.parametrize(
    ("line", "when", "locks"),
    [
        (f"{ENGINE}.parts:_is_taken", "after", True),
        (f"{STORE}:os.pwrite", "before", True),
        (f"{STORE}:os.pwrite", "before", False),
        (f"{ENGINE}.parts:_record", "before", True),
        (f"{ENGINE}.parts:_insert", "after", True),
        (COMMIT, "before", True),
        (COMMIT, "after", False),
    ],
)
def test_in_the_middle_of_a_part(kill, line, when, locks):
    upload = open_upload(ends_when_full=False)
    deeds.put_part(str(upload.pk))
    kill("put_part", upload, line, when, 1, locks)
    is_committed = (line, when) == (COMMIT, "after")
    assert engine.refreshed(upload).received == CHUNK * (1 + is_committed)
    assert parts_are_told_apart(upload)
    assert nothing_lies_elsewhere(upload)
    retention.sweep()
    assert parts_are_told_apart(upload)
    for _ in range(3):
        deeds.put_part(str(upload.pk))
    deeds.finish_parts(str(upload.pk))
    assert is_complete(upload)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (f"{ENGINE}.parts:_keep_only", "before"),
        (f"{ENGINE}.parts:_keep_only", "after"),
        (COMMIT, "before"),
        (COMMIT, "after"),
        (f"{ASSEMBLY}:_claim", "after"),
        (f"{STORE}:FilesystemStore.join", "after"),
        (f"{STORE}:FilesystemWhole._link", "after"),
        (f"{ENGINE}:settle_taken", "before"),
    ],
)
def test_in_the_middle_of_a_manifest(kill, line, when):
    upload = open_upload(ends_when_full=False)
    for _ in range(3):
        deeds.put_part(str(upload.pk))
    kill("finish_parts", upload, line, when)
    assert nothing_lies_elsewhere(upload)
    row = engine.refreshed(upload)
    assert parts_are_told_apart(upload)
    # What the client was to be told is kept with the decision, or neither is.
    assert (row.metadata.get("etag") == "known") == (row.state != State.RECEIVING)
    deeds.finish_parts(str(upload.pk))
    go_on_with_assembly()
    assert is_complete(upload)
    assert engine.refreshed(upload).metadata["etag"] == "known"


def go_on_with_assembly() -> None:
    for _ in range(2):
        age()
        retention.housekeep()


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (f"{ASSEMBLY}:_claim", "after"),
        (f"{STORE}:FilesystemStore.join", "after"),
        (f"{ASSEMBLY}:_note_plan", "after"),
        (f"{STORE}:FilesystemWhole._link", "after"),
        (COMMIT, "before"),
        (COMMIT, "after"),
        (f"{STORE}:FilesystemStore.release", "before"),
        (f"{ENGINE}.ending:_drop_bytes", "after"),
    ],
)
def test_in_the_assembly(kill, settings, line, when):
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = open_upload(len(DATA), CHUNK)
    for _ in range(3):
        deeds.put_chunk(str(upload.pk))
    kill("assemble", upload, line, when)
    assert nothing_lies_elsewhere(upload)
    assert len(finished()) <= 1
    use(settings, RUNNER="inline")
    with heard(signals.upload_completed) as completed:
        go_on(upload)
    assert completed == [upload.pk]
    assert is_complete(upload)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (f"{ENGINE}.ending:_end", "before"),
        (f"{ENGINE}.ending:_end", "after"),
        (f"{STORE}:FilesystemStore.release", "before"),
        (f"{ENGINE}.ending:_drop_bytes", "after"),
        (f"{ENGINE}.ending:hooks.tell", "before"),
    ],
)
def test_in_the_middle_of_cancelling(kill, line, when):
    upload = open_upload(len(DATA), CHUNK)
    deeds.put_chunk(str(upload.pk))
    kill("cancel", upload, line, when)
    if line.endswith(":_end") and when == "before":
        go_on(upload)
        assert is_complete(upload)
        return
    with heard(signals.upload_cancelled) as cancelled:
        row = go_on(upload)
    assert (row.state, row.settled) == (State.CANCELLED, True)
    assert cancelled == [upload.pk]
    assert staged(upload.pk) == []
    assert not Chunk.objects.exists()


def test_what_a_dead_process_left_of_a_row_that_is_gone_is_swept(kill):
    """Somebody else deletes the row; the bytes come after it."""
    upload = open_upload(len(DATA), CHUNK)
    deeds.put_chunk(str(upload.pk))
    kill(
        "put_chunk",
        upload,
        f"{ENGINE}.numbering:_record_chunk",
        "before",
        1,
        locks=False,
    )
    left = staged(upload.pk)
    assert len([path for path in left if path.suffix == ".chunk"]) == 1
    UploadSession.objects.filter(pk=upload.pk).update(state=State.CANCELLED)
    assert retention.sweep() == 1
    assert staged(upload.pk) == []
