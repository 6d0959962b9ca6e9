"""From chunks to the file: by one worker at a time, repeatable after any death.

Whoever assembles holds the upload's lease and shows signs of life. A worker that was
killed is followed by the next one; a worker that was only asleep finds, when it wants
to make the file known, that it does not hold the lease any more.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from . import body, engine, errors, hooks, outbox
from .changes import Plus, change
from .conf import seconds, setting
from .lookups import Listing
from .models import Chunk, State, UploadSession
from .policies import UploadPolicy, get_policy, policy_of
from .stores import Piece, Place, Store, Whole, store_for
from .transactions import atomic, durable

log = logging.getLogger(__name__)

READ_SIZE = 1024 * 1024
MAX_BACK_OFF = timedelta(hours=1)


class LeaseLost(Exception):
    """Another worker assembles, or the upload is not to be assembled any more."""


def assemble(upload_id: uuid.UUID | str) -> bool:
    """Make the file of an upload that has all its chunks; return whether it is done.

    False: another worker is at it, or there is nothing to do. After an error the upload
    stays in line and the error is raised; after ASSEMBLY_ATTEMPTS of them it is failed.
    """
    lease = uuid.uuid4().hex
    if not _claim(upload_id, lease):
        return False
    upload = engine.upload_by_id(upload_id)
    if upload is None:
        return False
    if upload.attempts > setting("ASSEMBLY_ATTEMPTS"):
        _note_failure(upload, errors.StorageUnavailable("Its assembly dies each time."))
        return False
    try:
        with _signs_of_life(upload):
            _assemble(upload)
    except LeaseLost:
        _leave(upload)
        return False
    except errors.Rejected as refusal:
        engine.reject(upload, lease, refusal)
        return False
    except Exception as error:
        if not _note_failure(upload, error):
            log.info("Upload %s has ended meanwhile", upload.pk, exc_info=True)
            _leave(upload)
            return False
        raise
    store = store_for(upload.storage)
    if upload.attempts > 1:
        drop_strays(store, upload.pk, upload.file_name)
    # Before it is settled: what is not settled is found again by housekeeping.
    engine.supersede(upload)
    engine.settle_taken(upload)
    if upload.attempts > 1:
        _expect_strays(store, upload)
    return True


def waiting(now: datetime | None = None) -> QuerySet[UploadSession]:
    """Return the uploads that nobody is assembling though somebody should."""
    now = now or timezone.now()
    dead = Q(active_at__lt=now - setting("ASSEMBLY_TIMEOUT"))
    rested = Q(retry_at=None) | Q(retry_at__lte=now)
    return UploadSession.objects.filter(
        Q(lease="") & rested | ~Q(lease="") & dead, state=State.ASSEMBLING
    )


def _claim(upload_id: uuid.UUID | str, lease: str) -> bool:
    now = timezone.now()
    mine = {"lease": lease, "active_at": now}
    is_new: dict[str, Any] = {"state": State.ASSEMBLING, "lease": "", "retry_at": None}
    counted = mine | {"attempts": Plus(1)}
    if change(UploadSession, upload_id, counted, (), **is_new) is not None:
        return True
    # It was tried before, or its worker is dead, or there is nothing to do.
    free = waiting(now).filter(pk=upload_id)
    return bool(free.update(attempts=F("attempts") + 1, **mine))


def _mine(upload: UploadSession) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(
        pk=upload.pk, state=State.ASSEMBLING, lease=upload.lease
    )


def _change_mine(upload: UploadSession, to: Mapping[str, Any]) -> None:
    """Change the row of an upload that this worker assembles. Raise LeaseLost."""
    state, lease = State.ASSEMBLING, upload.lease
    if change(UploadSession, upload.pk, to, state=state, lease=lease) is None:
        raise LeaseLost


def _assemble(upload: UploadSession) -> None:
    store, policy = store_for(upload.storage), get_policy(upload.policy)
    chunks = _chunks(upload)
    checksum = _checked(upload, chunks)
    if upload.file and store.is_published(
        upload.pk, upload.file_name, upload.length or 0
    ):
        # An assembly has died between publishing and saying so.
        _complete(upload, upload.file_name, upload.checksum or checksum)
        return
    pieces = [Piece(Place(chunk.key, chunk.start), chunk.size) for chunk in chunks]
    with _joined(store, upload, pieces) as whole:
        if _may_be_lost(upload, whole):
            _read_back(whole, checksum)
        checksum = _looked_at(upload, policy, whole, checksum)
        planned = _planned_name(upload, policy, store)
        _note_plan(upload, planned, checksum)
        name = whole.publish(planned)
        try:
            _complete(upload, name, checksum)
        except LeaseLost:
            _take_back(upload, store, name)
            raise
        if name != planned and str(upload.pk) in planned:
            # A worker that woke up late was quicker, and has left its file to us.
            _take_back(upload, store, planned)


class _Chunk(NamedTuple):
    """What of a chunk makes the file; there may be ten thousand of them."""

    offset: int | None
    size: int
    checksum: str
    key: str
    start: int


def _chunks(upload: UploadSession) -> list[_Chunk]:
    return [_Chunk(*row) for row in _chunks_of(upload.pk)]


_chunks_of = Listing(Chunk, "upload", _Chunk._fields, order="offset number")


def _checked(upload: UploadSession, chunks: list[_Chunk]) -> str:
    """See that the chunks make the file; return their checksum, which is the file's."""
    offset = total = 0
    for chunk in chunks:
        if chunk.offset not in (None, offset):
            break
        total = body.combine(total, int(chunk.checksum, 16), chunk.size)
        offset += chunk.size
    else:
        if offset == upload.length:
            return f"{body.CHECKSUM}:{total:016x}"
    raise errors.StorageUnavailable("The recorded chunks do not make the file.")


@contextmanager
def _joined(
    store: Store, upload: UploadSession, pieces: list[Piece]
) -> Iterator[Whole]:
    whole = store.join(upload.pk, pieces)
    try:
        yield whole
    finally:
        whole.close()


def _may_be_lost(upload: UploadSession, whole: Whole) -> bool:
    """Tell whether bytes that were recorded may not be there any more.

    That is so after an attempt at the file that has failed; after a start of the
    machine, since what it had not yet written to disk by then is gone; and where a file
    has gaps, since its folder may have been lost, and begun anew. (Zeros that were sent
    may lie in a gap as well.)
    """
    return (
        upload.attempts > 1
        or upload.created_at.timestamp() <= _machine_began_at()
        or whole.has_gaps()
    )


def _machine_began_at() -> float:
    """Return when the machine was started (Unix time), where the system can tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _read_back(whole: Whole, checksum: str) -> None:
    """Compare the bytes with their checksum. Raise StorageUnavailable."""
    total = 0
    with whole.open() as file:
        for block in iter(lambda: file.read(READ_SIZE), b""):
            total = body.checksum(block, total)
    if checksum != f"{body.CHECKSUM}:{total:016x}":
        raise errors.StorageUnavailable("Recorded bytes have changed in the store.")


def _looked_at(
    upload: UploadSession, policy: UploadPolicy, whole: Whole, checksum: str
) -> str:
    """Have the whole file judged; return the checksum to keep. Raise Rejected."""
    checksum = _check_declared(upload, policy, whole, checksum)
    if hooks.wants_file(policy):
        with whole.open() as file:
            hooks.pre_finish(upload, policy, file)
    return checksum


def _check_declared(
    upload: UploadSession, policy: UploadPolicy, whole: Whole, checksum: str
) -> str:
    declared = upload.declared_checksum
    algorithm = declared.partition(":")[0] or policy.digest
    if algorithm and algorithm != body.CHECKSUM:
        checksum = f"{algorithm}:{_digest(whole, algorithm)}"
    if declared and declared != checksum:
        raise errors.Rejected("The file does not have the checksum it should have.")
    return checksum


def _digest(whole: Whole, algorithm: str) -> str:
    digest: Any = body.DIGESTS[algorithm]()
    with whole.open() as file:
        for block in iter(lambda: file.read(READ_SIZE), b""):
            digest.update(block)
    return digest.hexdigest()


def _planned_name(upload: UploadSession, policy: UploadPolicy, store: Store) -> str:
    """Return a free name for the file, dropping what a dead assembly has left there.

    Only under a name with the upload's id in it can that be nobody else's.
    """
    previous = upload.file_name
    if previous and str(upload.pk) in previous and store.final.exists(previous):
        store.delete_file(upload.pk, previous)
    name = store.final.generate_filename(policy.get_name(upload))
    return store.final.get_available_name(name, max_length=1024)


def _note_plan(upload: UploadSession, name: str, checksum: str) -> None:
    upload.file.name, upload.checksum = name, checksum
    _change_mine(upload, {"file": name, "checksum": checksum})


def _complete(upload: UploadSession, name: str, checksum: str) -> None:
    """Make the file known. Exactly one worker comes through here.

    It has the lease for what follows, too: see ``engine.settle_taken``.
    """
    now, token = timezone.now(), uuid.uuid4().hex
    completed = {
        "state": State.COMPLETE,
        "file": name,
        "checksum": checksum,
        "completed_at": now,
        "active_at": now,
        "lease": token,
        "error": "",
        "error_code": "",
        "settled": False,
    }
    with durable():
        _change_mine(upload, completed)
        _note(hooks.COMPLETED, upload)
    upload.lease = token


def _note(event: str, upload: UploadSession) -> None:
    """Have it told by webhooks what this transaction does to an upload."""
    if outbox.wanted(event):
        outbox.note(event, [engine.refreshed(upload)])


def _take_back(upload: UploadSession, store: Store, name: str) -> None:
    """Drop a file that was published too late, unless it has become another's."""
    row = UploadSession.objects.filter(pk=upload.pk).first()
    in_use = row is not None and row.state in (State.ASSEMBLING, State.COMPLETE)
    if not (row and in_use and row.file_name == name):
        store.delete_file(upload.pk, name)


def _leave(upload: UploadSession) -> None:
    """Take along what a worker has made that came too late."""
    # First of all the files: who dies now leaves the note of them to the next sweep.
    drop_strays(store_for(upload.storage), upload.pk, upload.file_name)
    engine.tidy(upload)


def drop_strays(store: Store, upload_id: uuid.UUID, name: str) -> None:
    """Drop what publications have left beside the file of an upload, or in its place.

    Where the name is taken, a storage chooses another one, and does not tell it before
    it is done. Only a folder with the upload's id as its name can be nobody else's; and
    while somebody assembles, nobody knows which name will be the right one.
    """
    folder, _, _ = name.rpartition("/")
    row = UploadSession.objects.filter(pk=upload_id).first()
    if not folder.endswith(str(upload_id)) or (row and row.is_open):
        return
    kept = row.file_name if row and row.state == State.COMPLETE else ""
    try:
        for name in store.final.listdir(folder)[1]:
            if f"{folder}/{name}" != kept:
                store.delete_file(upload_id, f"{folder}/{name}")
    except (FileNotFoundError, NotImplementedError):
        return
    except Exception:
        log.warning("Strays of upload %s are left", upload_id, exc_info=True)


def _expect_strays(store: Store, upload: UploadSession) -> None:
    """Have it looked for strays again, should a worker who was outrun die over one.

    The note names the folder, and not the file: that is to stay.
    """
    folder, _, _ = upload.file_name.rpartition("/")
    try:
        if folder.endswith(str(upload.pk)) and not store.finishes_at_once:
            store.doom(upload.pk, f"{folder}/")
    except Exception:
        log.warning("Nobody looks for strays of %s again", upload.pk, exc_info=True)


def _note_failure(upload: UploadSession, error: Exception) -> bool:
    """Write down why an assembly has failed, if it was still its upload's."""
    now = timezone.now()
    exhausted = upload.attempts >= setting("ASSEMBLY_ATTEMPTS")
    with atomic():
        noted = _mine(upload).update(
            state=State.FAILED if exhausted else State.ASSEMBLING,
            lease="",
            error_code=getattr(error, "code", "assembly_failed"),
            error=f"{type(error).__name__}: {error}",
            active_at=now,
            retry_at=None if exhausted else now + back_off(upload.attempts),
            expires_at=policy_of(upload).expiry(upload.created_at, now),
        )
        if noted and exhausted:
            _note(hooks.FAILED, upload)
    if noted:
        log.error("Upload %s could not be assembled", upload.pk, exc_info=error)
    if noted and exhausted:
        upload = UploadSession.objects.get(pk=upload.pk)
        hooks.tell(hooks.FAILED, upload)
    return bool(noted)


def back_off(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts in vain."""
    return min(timedelta(seconds=2 ** min(attempts, 16)), MAX_BACK_OFF)


def wait_for_next_try(upload_id: uuid.UUID | str) -> float | None:
    """Return in how many seconds to try again; None when an operator has to look."""
    rows = UploadSession.objects.filter(pk=upload_id, state=State.ASSEMBLING)
    retry_at = rows.values_list("retry_at", flat=True).first()
    if retry_at is None:
        return None
    return max(0.0, (retry_at - timezone.now()).total_seconds())


@contextmanager
def _signs_of_life(upload: UploadSession) -> Iterator[None]:
    """Keep the lease while a long assembly, or a long look at the file, goes on."""
    over = threading.Event()
    thread = threading.Thread(
        target=_show_signs, args=(upload, over), name="assembly", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()


def _show_signs(upload: UploadSession, over: threading.Event) -> None:
    while not over.wait(seconds("ASSEMBLY_TIMEOUT") / 4):
        try:
            _mine(upload).update(active_at=timezone.now())
        except Exception:
            log.warning("No sign of life for upload %s", upload.pk, exc_info=True)
        finally:
            connections.close_all()
