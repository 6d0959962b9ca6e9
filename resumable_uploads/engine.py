"""The verbs of uploads, their rules, and all their concurrency.

Three ideas make the verbs safe on any database and any number of hosts:

1. Bytes first, then the row. Slow work holds no transaction; a byte is there when the
   row of its chunk is committed, and not before.
2. A transaction begins with a conditional UPDATE of the session's row. It takes the
   lock and checks the state in one step, also where SELECT ... FOR UPDATE does nothing.
3. The last to ask wins. Whoever wants to append, or to know the offset, takes the
   lease; the forgotten request of a dead connection finds out at its next segment.

Nothing here knows of requests, statuses or task queues.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO, Any

from django.db import IntegrityError, transaction
from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    F,
    Max,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from . import errors, names, runner, signals
from .body import CHECKSUM, DIGESTS, Body, Segment, checksum
from .conf import setting
from .models import (
    END_STATES,
    GONE_STATES,
    OPEN_STATES,
    AddressedBy,
    Chunk,
    OwnerLock,
    State,
    UploadSession,
    gaps,
)
from .owners import Owner
from .policies import UploadPolicy, policy_of
from .stores import Place, Store, Writer, store_for
from .stores.base import translated_errors

log = logging.getLogger(__name__)

NO_LIMIT = 2**63 - 1
# All bytes are there: a repeat of any of them is harmless.
FULL_STATES = (State.ASSEMBLING, State.COMPLETE)
# It is somebody's turn; if nobody takes it, the time is up one day.
WAITING_STATES = (State.RECEIVING, State.FAILED)
# Who settles an upload has so long; then somebody else does.
SETTLING_TAKES = timedelta(minutes=1)
# Sliding the expiry with every chunk would touch an index each time.
SLIDE_STEP = timedelta(minutes=1)
# Seconds between looks at whether a broken connection has been dealt with.
LAST_WORDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.16)
# How often an opening may find that another one with its client key was quicker.
OPEN_TRIES = 10
# How long an assembly may be in line before a client's question nudges it again.
REMIND_AFTER = timedelta(seconds=5)


@dataclass
class NewUpload:
    """What a client says of the file it is about to send. Sizes are bytes."""

    filename: str
    length: int | None = None
    content_type: str = ""
    relative_path: str = ""
    client_key: str | None = None
    chunk_size: int | None = None
    # The number of chunks, where the last one is longer than the others.
    chunk_total: int | None = None
    declared_checksum: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    ends_when_full: bool = True
    # Should the server choose the chunk size where the client has not?
    advise_chunk_size: bool = False
    # Does the client key name the file itself? Then a completed upload is found by it
    # too: the file is there, and need not be sent again.
    key_is_file: bool = False


# open


def open(
    owner: Owner, protocol: str, policy: UploadPolicy, new: NewUpload
) -> tuple[UploadSession, bool]:
    """Open an upload, or find the owner's open one with the same client key.

    Return it and whether it is new. Raise Invalid, PermissionDenied, TooLarge,
    TypeNotAllowed, QuotaExceeded, TooManyUploads, or ClientKeyInUse where the same
    client key has another length or chunk size.
    """
    policy.check_owner(owner)
    _check(new, owner, policy)
    tries_left = OPEN_TRIES
    while True:
        tries_left -= 1
        if found := _find_by_key(owner, protocol, new):
            if found.policy != policy.name:
                raise errors.ClientKeyInUse(id=str(found.pk))
            return found, False
        if new.chunk_size is None and new.advise_chunk_size:
            new.chunk_size = advised_chunk_size(new.length)
            _check_geometry(new)
        upload = _row(owner, protocol, policy, new)
        try:
            with transaction.atomic(durable=True):
                _check_quota(upload, policy, owner, new.length or 0)
                upload.save(force_insert=True)
                _check_not_completed(owner, protocol, new)
                _end_if_full(upload)
                signals.send_after_commit(signals.upload_created, upload)
                _nudge_if_full(upload)
                runner.nudge(runner.HOUSEKEEP)
        except (IntegrityError, _Outrun):
            # Another request has opened it at the same moment: find it.
            if not new.client_key or not tries_left:
                raise
            continue
        return refreshed(upload), True


def _check(new: NewUpload, owner: Owner, policy: UploadPolicy) -> None:
    """Check what a client says, and put its names in order."""
    new.filename = names.filename(new.filename)
    new.relative_path = names.relative_path(new.relative_path)
    new.content_type = names.content_type(new.content_type)
    if not new.filename:
        raise errors.Invalid("The file has no name.")
    if new.length is not None and not 0 <= new.length <= NO_LIMIT:
        raise errors.Invalid("The size is not a possible one.")
    policy.check_file(new.filename, new.content_type)
    policy.check_length(owner, new.length)
    _check_declared_checksum(new.declared_checksum)
    _check_geometry(new)


def _check_geometry(new: NewUpload) -> None:
    if new.chunk_size is None:
        return
    if not 0 < new.chunk_size <= setting("MAX_CHUNK_SIZE"):
        raise errors.Invalid(
            "The chunk size is not a possible one.",
            max_chunk_size=setting("MAX_CHUNK_SIZE"),
        )
    if new.chunk_total is not None:
        _check_chunk_total(new)
    if (new.length or 0) > new.chunk_size * setting("MAX_CHUNKS"):
        raise errors.Invalid(
            "The file has too many chunks of this size.",
            max_chunks=setting("MAX_CHUNKS"),
        )


def _check_chunk_total(new: NewUpload) -> None:
    """See that the last chunk, with all that is left, is less than two chunks."""
    total, size = new.chunk_total or 0, new.chunk_size or 0
    last = (new.length or 0) - (total - 1) * size
    if total < 1 or not 0 <= last < 2 * size:
        raise errors.Invalid("The number of chunks does not fit their size.")


def _check_declared_checksum(declared: str) -> None:
    algorithm, _, value = declared.partition(":")
    if not declared:
        return
    size = 16 if algorithm == CHECKSUM else _hex_size(algorithm)
    if len(value) != size or not all(digit in "0123456789abcdef" for digit in value):
        raise errors.Invalid(
            'A checksum is "algorithm:digits", the digits in lower case hexadecimal.',
            algorithms=[CHECKSUM, *DIGESTS],
        )


def _hex_size(algorithm: str) -> int:
    return 2 * DIGESTS[algorithm]().digest_size if algorithm in DIGESTS else -1


def advised_chunk_size(length: int | None) -> int:
    """Return the chunk size (bytes) for a client that has not chosen one."""
    size: int = setting("CHUNK_SIZE")
    while (length or 0) > size * setting("MAX_CHUNKS"):
        size *= 2
    return min(size, setting("MAX_CHUNK_SIZE"))


def _find_by_key(owner: Owner, protocol: str, new: NewUpload) -> UploadSession | None:
    if not new.client_key:
        return None
    uploads = UploadSession.objects.filter(
        owner=owner.key,
        protocol=protocol,
        client_key=new.client_key,
        state__in=OPEN_STATES,
    )
    upload = uploads.first()
    if upload is None or _expire_if_overdue(upload):
        return _find_completed(owner, protocol, new)
    chunk_size = new.chunk_size or (new.advise_chunk_size and upload.chunk_size) or None
    geometry = (new.length, chunk_size, new.chunk_total)
    if (upload.length, upload.chunk_size, upload.chunk_total) != geometry:
        raise errors.ClientKeyInUse(id=str(upload.pk))
    _slide(upload)
    return upload


def _row(
    owner: Owner, protocol: str, policy: UploadPolicy, new: NewUpload
) -> UploadSession:
    now = timezone.now()
    return UploadSession(
        owner=owner.key,
        user=owner.user,
        protocol=protocol,
        policy=policy.name,
        storage=policy.storage,
        created_at=now,
        active_at=now,
        expires_at=policy.expiry(now, now),
        filename=new.filename,
        relative_path=new.relative_path,
        content_type=new.content_type,
        metadata=new.metadata,
        client_key=new.client_key or None,
        length=new.length,
        chunk_size=new.chunk_size,
        chunk_total=new.chunk_total,
        declared_checksum=new.declared_checksum,
        ends_when_full=new.ends_when_full,
    )


# Quotas


def _check_quota(
    upload: UploadSession, policy: UploadPolicy, owner: Owner, growth: int
) -> None:
    """Raise QuotaExceeded or TooManyUploads; within the transaction of the growth."""
    quota = policy.get_quota(owner)
    if quota is None and policy.max_open is None:
        return
    _lock_owner(owner.key)
    # Those whose time is up are as good as gone, though the purge has yet to come.
    mine = UploadSession.objects.filter(owner=owner.key, policy=policy.name).exclude(
        state__in=WAITING_STATES, expires_at__lte=timezone.now()
    )
    max_open = policy.max_open if upload._state.adding else None
    is_open = mine.filter(state__in=OPEN_STATES)
    if max_open is not None and is_open.count() >= max_open:
        raise errors.TooManyUploads(max_open=max_open)
    if quota is not None and _held(mine) + growth > quota:
        raise errors.QuotaExceeded(quota=quota)


def _lock_owner(owner: str) -> None:
    now = timezone.now()
    if not OwnerLock.objects.filter(owner=owner).update(taken_at=now):
        OwnerLock.objects.bulk_create(
            [OwnerLock(owner=owner, taken_at=now)], ignore_conflicts=True
        )
        OwnerLock.objects.filter(owner=owner).update(taken_at=now)


def _held(uploads: QuerySet[UploadSession]) -> int:
    """Return how many bytes uploads take: those sent, and those announced."""
    there = uploads.exclude(state__in=GONE_STATES)
    sizes = Sum(Coalesce("length", "received"), output_field=BigIntegerField())
    return there.aggregate(held=sizes)["held"] or 0


def _room(upload: UploadSession, policy: UploadPolicy) -> int:
    """Return how long the file may become, in bytes."""
    if upload.length is not None:
        return upload.length
    max_size = policy.get_max_size(owner_of_upload(upload))
    return NO_LIMIT if max_size is None else max_size


def owner_of_upload(upload: UploadSession) -> Owner:
    return Owner(upload.owner, upload.user)


# find and look


def find(owner: Owner, upload_id: Any) -> UploadSession:
    """Return the owner's upload. Raise NotFound for any other, or for none."""
    try:
        pk = uuid.UUID(str(upload_id))
    except ValueError:
        raise errors.NotFound from None
    if not owner:
        raise errors.NotFound
    try:
        upload = UploadSession.objects.get(pk=pk, owner=owner.key)
    except UploadSession.DoesNotExist:
        raise errors.NotFound from None
    if _expire_if_overdue(upload):
        upload = refreshed(upload)
    return upload


def find_by_key(owner: Owner, protocol: str, client_key: str) -> UploadSession | None:
    """Return the owner's upload with a client key: the open one, or one completed.

    A completed one counts for as long as an unfinished one would be kept.
    """
    uploads = _by_key(owner, protocol, client_key)
    upload = uploads.filter(state__in=OPEN_STATES).first()
    if upload is not None and not _expire_if_overdue(upload):
        return upload
    return _last_completed(uploads)


def find_gone(owner: Owner, protocol: str, client_key: str) -> UploadSession | None:
    """Return the owner's last upload with a client key that has ended without a file.

    None where another one has been opened since.
    """
    uploads = _by_key(owner, protocol, client_key)
    upload = uploads.order_by("created_at").last()
    return upload if upload is not None and upload.is_gone else None


def forget_key(owner: Owner, protocol: str, client_key: str) -> None:
    """Let the client begin anew under a key whose uploads have all ended."""
    _by_key(owner, protocol, client_key).filter(state__in=GONE_STATES).update(
        client_key=None
    )


def _by_key(owner: Owner, protocol: str, client_key: str) -> QuerySet[UploadSession]:
    uploads = UploadSession.objects.filter(
        owner=owner.key, protocol=protocol, client_key=client_key
    )
    return uploads.exclude(owner="")


def _last_completed(uploads: QuerySet[UploadSession]) -> UploadSession | None:
    """Return the upload that was completed last, for as long as it counts."""
    upload = uploads.filter(state=State.COMPLETE).order_by("completed_at").last()
    if upload is None or upload.completed_at is None:
        return None
    kept_for = policy_of(upload).lifetime
    return upload if timezone.now() - upload.completed_at < kept_for else None


def _find_completed(
    owner: Owner, protocol: str, new: NewUpload
) -> UploadSession | None:
    """Return the upload by which a new one is not needed any more."""
    if not new.key_is_file or not new.client_key:
        return None
    return _last_completed(_by_key(owner, protocol, new.client_key))


def _check_not_completed(owner: Owner, protocol: str, new: NewUpload) -> None:
    """See, within the transaction of an opening, that the file is still not there.

    Another request may have opened the upload and completed it since this one looked.
    """
    if _find_completed(owner, protocol, new):
        raise _Outrun


def refreshed(upload: UploadSession) -> UploadSession:
    """Return the upload as it is now. Raise NotFound where its row is gone."""
    found = UploadSession.objects.filter(pk=upload.pk).first()
    if found is None:
        raise errors.NotFound
    return found


def take_offset(upload: UploadSession) -> UploadSession:
    """Return the upload as it is, with an offset that stays true.

    Any other request that is appending loses the right to. One whose connection has
    just broken is given a moment to record what came; one that hangs is not waited for.
    """
    appending = upload.state == State.RECEIVING and upload.lease
    if appending and upload.addressed_by != AddressedBy.NUMBER:
        _await_last_words(upload)
    _receiving(upload).exclude(addressed_by=AddressedBy.NUMBER).update(lease=_token())
    return refreshed(upload)


def _await_last_words(upload: UploadSession) -> None:
    store = store_for(upload.storage)
    for wait in LAST_WORDS:
        if not store.is_being_written(upload.pk):
            return
        time.sleep(wait)


# append


def append(upload: UploadSession, offset: int, body: Body) -> UploadSession:
    """Add a body to the end of an upload and return the upload as it is then.

    What comes is recorded in segments, also when the body is cut short; then Truncated
    is raised. A body with a digest is recorded whole or not at all. Raise
    OffsetMismatch, TooLarge, WrongAddressing, Interrupted (another request has taken
    over), ChecksumMismatch, NotReceiving, Gone, NotFound, StorageUnavailable.
    """
    if _is_empty_repeat(upload, offset, body):
        return upload
    _check_receiving(upload)
    policy = policy_of(upload)
    room = _room(upload, policy)
    store = store_for(upload.storage)
    with _nudged_if_full(upload), _writer(store, upload, offset, None) as writer:
        _take_lease(upload, offset)
        if body.left is not None and offset + body.left > room:
            raise errors.TooLarge(max_size=room)
        while not body.ended:
            _append_segment(upload, writer, body, room, policy)
    if body.truncated:
        raise errors.Truncated(
            received=body.received, expected=body.length, offset=upload.received
        )
    return upload


def _is_empty_repeat(upload: UploadSession, offset: int, body: Body) -> bool:
    full = upload.state in FULL_STATES
    return full and body.left == 0 and offset == upload.length


def _take_lease(upload: UploadSession, offset: int) -> None:
    """Take the right to append at an offset. Raise what speaks against it."""
    token, now = _token(), timezone.now()
    taken = (
        _receiving(upload)
        .filter(received=offset)
        .exclude(addressed_by=AddressedBy.NUMBER)
        .update(lease=token, active_at=now, **_slid(upload, now))
    )
    if not taken:
        row = _check_receiving(refreshed(upload))
        if row.addressed_by == AddressedBy.NUMBER:
            raise errors.WrongAddressing(addressed_by=row.addressed_by)
        raise errors.OffsetMismatch(row.received)
    if upload.received != offset:
        # Another request has appended since the row was read.
        upload.refresh_from_db()
    upload.lease = token


def _append_segment(
    upload: UploadSession, writer: Writer, body: Body, room: int, policy: UploadPolicy
) -> None:
    left = room - upload.received
    if body.expected:
        segment = body.whole(left)
    else:
        segment = body.segment(min(left, setting("SEGMENT_SIZE")))
    with _written(writer, segment) as place:
        if body.expected:
            body.check_end()
            body.check_digests()
        elif segment.size == left:
            body.check_no_more()
        if segment.size:
            _record_segment(upload, segment, place, policy)
        else:
            _discard(writer, place)


def _record_segment(
    upload: UploadSession, segment: Segment, place: Place, policy: UploadPolicy
) -> None:
    """Make a stretch at the end count, if this request still holds the lease."""
    now = timezone.now()
    end = upload.received + segment.size
    ends = upload.ends_when_full and end == upload.length
    changes: dict[str, Any] = {
        "received": end,
        "chunk_count": upload.chunk_count + 1,
        "addressed_by": AddressedBy.OFFSET,
        "active_at": now,
        **_slid(upload, now),
        **(_ENDED if ends else {}),
    }
    with transaction.atomic(durable=True):
        mine = _receiving(upload).filter(lease=upload.lease, received=upload.received)
        if not mine.update(**changes):
            raise errors.Interrupted(
                offset=_check_receiving(refreshed(upload)).received
            )
        _check_growth(upload, policy)
        _chunk(upload, upload.chunk_count, upload.received, segment, place).save(
            force_insert=True
        )
    for name, value in changes.items():
        setattr(upload, name, value)


# put_chunk


def put_chunk(
    upload: UploadSession, number: int, body: Body, replace: bool = False
) -> tuple[Chunk, bool]:
    """Record a body as the chunk with a number, from 0; return it and if it is new.

    Chunks may come in any order, at the same time, and repeatedly: the same bytes
    again change nothing, other bytes raise ChunkConflict, or take the place of the
    first ones if ``replace``. The upload is left as it is then. Raise WrongSize,
    Truncated, ChecksumMismatch, WrongAddressing, Invalid, NotReceiving, Gone,
    NotFound, StorageUnavailable; nothing is kept of what is refused.
    """
    size = _expected_size(upload, number, body)
    if upload.state in FULL_STATES:
        return _read_repeat(upload, number, None, body), False
    _check_receiving(upload)
    _slide_if_near(upload)
    store = store_for(upload.storage)
    offset = number * (upload.chunk_size or 0)
    with _nudged_if_full(upload), _writer(store, upload, offset, size) as writer:
        # What was true when the request came may not be true any more, and only now
        # does the lock keep others from writing here.
        known = _chunk_there(upload, number)
        if not known and upload.state == State.RECEIVING:
            return _store_chunk(upload, number, body, size, writer, replace)
    if not replace or upload.state != State.RECEIVING:
        return _read_repeat(upload, number, known, body), False
    # The bytes of a recorded chunk are never overwritten: beside them, then.
    with _nudged_if_full(upload), _writer(store, upload, None, size) as writer:
        return _store_chunk(upload, number, body, size, writer, replace)


def _store_chunk(
    upload: UploadSession,
    number: int,
    body: Body,
    size: int,
    writer: Writer,
    replace: bool,
) -> tuple[Chunk, bool]:
    segment = body.whole(size)
    with _written(writer, segment) as place:
        _check_whole(upload, segment, body, size)
        offset = number * (upload.chunk_size or 0)
        chunk = _chunk(upload, number, offset, segment, place)
        return _record_chunk(upload, chunk, writer, replace)


def _expected_size(upload: UploadSession, number: int, body: Body) -> int:
    """Return the most bytes a chunk may have. Raise for what cannot be one."""
    if not upload.chunk_size:
        raise errors.WrongAddressing("The upload has no chunk size.")
    last = upload.last_number
    size = upload.size_of(number)
    if not 0 <= number <= (setting("MAX_CHUNKS") - 1 if last is None else last):
        raise errors.Invalid("There is no chunk with this number.", last_number=last)
    assert size is not None
    if last is None and number * size >= _room(upload, policy_of(upload)):
        raise errors.TooLarge(max_size=_room(upload, policy_of(upload)))
    if body.length is None or body.length == size:
        return size
    if upload.length is None and body.length < size:
        return size
    raise errors.WrongSize(expected=size)


def _chunk_there(upload: UploadSession, number: int) -> Chunk | None:
    """Return the recorded chunk with a number, and note how the upload stands now."""
    known = _known_chunk(upload, number)
    row = _check_not_ended(refreshed(upload))
    if row.addressed_by == AddressedBy.OFFSET:
        raise errors.WrongAddressing(addressed_by=row.addressed_by)
    upload.state, upload.received, upload.length = row.state, row.received, row.length
    return known


def _known_chunk(upload: UploadSession, number: int) -> Chunk | None:
    return Chunk.objects.filter(upload=upload.pk, number=number).first()


def _check_not_ended(upload: UploadSession) -> UploadSession:
    """Return an upload that takes chunks, or repeats of them; else raise."""
    return upload if upload.state in FULL_STATES else _check_receiving(upload)


def _check_whole(
    upload: UploadSession, segment: Segment, body: Body, size: int
) -> None:
    """See that a chunk came as it was meant to."""
    body.check_end()
    if segment.size != size and (upload.length is not None or not segment.size):
        raise errors.WrongSize(expected=size)
    body.check_digests()


def _read_repeat(
    upload: UploadSession, number: int, known: Chunk | None, body: Body
) -> Chunk:
    """Compare a body with the chunk recorded under its number, and return that.

    Once the file is complete, nothing is left to compare with, and nothing to harm.
    """
    # The length may have become known only now, and the number may be none of it.
    size = _expected_size(upload, number, body)
    known = known or _known_chunk(upload, number)
    segment = body.whole(size)
    for _ in segment:
        pass
    _check_whole(upload, segment, body, size)
    if known and not _is_same(known, segment):
        raise errors.ChunkConflict(number=number)
    return known or Chunk(upload=upload, number=number, size=size)


def _record_chunk(
    upload: UploadSession, chunk: Chunk, writer: Writer, replace: bool
) -> tuple[Chunk, bool]:
    """Make a chunk count, unless one with its number has been recorded meanwhile."""
    while True:
        try:
            with transaction.atomic(durable=True):
                _insert_chunk(upload, chunk)
            return chunk, True
        except (IntegrityError, _Outrun):
            known = _known_chunk(upload, chunk.number) or _lost_chunk(upload, chunk)
        if _is_same(known, chunk):
            _discard(writer, Place(chunk.key, chunk.start))
            return known, False
        if not replace or upload.state != State.RECEIVING:
            raise errors.ChunkConflict(number=chunk.number)
        if _swap_chunk(upload, known, chunk):
            if not _lenders([upload.pk]):
                _discard(writer, Place(known.key, known.start))
            return chunk, True


def _lost_chunk(upload: UploadSession, chunk: Chunk) -> Chunk:
    """Return what stands for a recorded chunk whose row is not there any more."""
    row = refreshed(upload)
    if row.state != State.COMPLETE or not row.has_chunk(chunk.number, chunk.size):
        _check_receiving(row)
        raise errors.StorageUnavailable
    upload.state = row.state
    return chunk


def _insert_chunk(upload: UploadSession, chunk: Chunk) -> None:
    _advance(upload, chunk.size, F("chunk_count") + 1)
    chunk.save(force_insert=True)
    _check_fits(upload, chunk)
    _end_if_full(upload)


def _check_fits(upload: UploadSession, chunk: Chunk) -> None:
    """See that a chunk has still its place in the file; the row is locked.

    Another one may have told meanwhile that the last chunk is longer than the others.
    Raise Interrupted.
    """
    rows = UploadSession.objects.filter(pk=upload.pk)
    chunk_total = rows.values_list("chunk_total", flat=True).get()
    if chunk_total == upload.chunk_total:
        return
    upload.chunk_total = chunk_total
    is_beyond = chunk.number > (upload.last_number or 0)
    if is_beyond or chunk.size != upload.size_of(chunk.number):
        raise errors.Interrupted(offset=upload.received)


def _swap_chunk(upload: UploadSession, known: Chunk, chunk: Chunk) -> bool:
    """Put a chunk in the place of one, unless that is not the recorded one any more."""
    changed = ("key", "start", "size", "checksum", "created_at")
    try:
        with transaction.atomic(durable=True):
            _advance(upload, chunk.size - known.size, F("chunk_count"))
            as_seen = Chunk.objects.filter(
                pk=known.pk, key=known.key, start=known.start
            )
            if not as_seen.update(**{name: getattr(chunk, name) for name in changed}):
                raise _Outrun
            _end_if_full(upload)
    except _Outrun:
        return False
    return True


class _Outrun(Exception):
    """Another request was quicker; look again."""


def _advance(upload: UploadSession, growth: int, chunk_count: Any) -> None:
    """Count bytes of a numbered chunk, first thing in the transaction."""
    now = timezone.now()
    policy = policy_of(upload)
    room = _room(upload, policy)
    rows = _receiving(upload).exclude(addressed_by=AddressedBy.OFFSET)
    changed = rows.filter(received__lte=room - growth).update(
        received=F("received") + growth,
        chunk_count=chunk_count,
        addressed_by=AddressedBy.NUMBER,
        active_at=now,
        **_slid(upload, now),
    )
    if not changed:
        row = _check_not_ended(refreshed(upload))
        if row.addressed_by == AddressedBy.OFFSET:
            raise errors.WrongAddressing(addressed_by=row.addressed_by)
        if row.state == State.RECEIVING and upload.length is None:
            raise errors.TooLarge(max_size=room)
        # All bytes are there already, so this number is as well.
        upload.state = row.state
        raise _Outrun
    _check_growth(upload, policy)


def _end_if_full(upload: UploadSession) -> None:
    """Have the file assembled if all of it is there; in the last chunk's transaction.

    Whoever commits the last chunk decides, so a full upload cannot be left unfinished.
    """
    row = UploadSession.objects.only("received", "chunk_count", "state").get(
        pk=upload.pk
    )
    upload.received, upload.chunk_count = row.received, row.chunk_count
    upload.addressed_by = upload.addressed_by or AddressedBy.NUMBER
    if upload.ends_when_full and upload.is_full:
        _receiving(upload).update(**_ENDED)
        upload.state = State.ASSEMBLING


def reshape(upload: UploadSession, chunk_total: int | None) -> None:
    """Correct the number of chunks, once a chunk tells which geometry it is.

    Chunks recorded under another idea of it are forgotten: the client sends theirs
    again. Raise NotReceiving, Gone or NotFound.
    """
    if upload.chunk_total == chunk_total:
        return
    with transaction.atomic(durable=True):
        if not _receiving(upload).update(chunk_total=chunk_total):
            _check_receiving(refreshed(upload))
        upload.chunk_total = chunk_total
        misfits = [
            chunk
            for chunk in Chunk.objects.filter(upload=upload.pk).order_by("-number")[:2]
            if chunk.number > (upload.last_number or 0)
            or chunk.size != upload.size_of(chunk.number)
        ]
        _receiving(upload).update(
            received=F("received") - sum(chunk.size for chunk in misfits),
            chunk_count=F("chunk_count") - len(misfits),
        )
        Chunk.objects.filter(pk__in=[chunk.pk for chunk in misfits]).delete()


def restart(upload: UploadSession) -> None:
    """Forget all chunks, so that the client can send the file from its start.

    The upload is left as it is then. Raise NotReceiving, Gone or NotFound.
    """
    _forget(upload, 0)


def rewind(upload: UploadSession, offset: int) -> None:
    """Forget what was appended from an offset on, so that it can be sent again.

    A request that is still appending loses the right to. The upload is left as it is
    then. Raise OffsetMismatch where fewer bytes are there, WrongAddressing,
    Interrupted, NotReceiving, Gone, NotFound, StorageUnavailable.
    """
    if upload.addressed_by == AddressedBy.NUMBER:
        raise errors.WrongAddressing(addressed_by=upload.addressed_by)
    if offset > upload.received:
        raise errors.OffsetMismatch(upload.received)
    if offset < upload.received:
        _forget(upload, offset)


def _forget(upload: UploadSession, offset: int) -> None:
    """Forget the chunks from an offset on; of one that crosses it, keep the front."""
    chunks = Chunk.objects.filter(upload=upload.pk)
    cut = chunks.filter(offset__lt=offset, offset__gt=offset - F("size")).first()
    try:
        front = _front_of(upload, cut, offset - (cut.offset or 0)) if cut else None
    except errors.StorageUnavailable:
        # The bytes may have gone because another request was quicker.
        _check_as_seen(upload)
        raise
    with transaction.atomic(durable=True):
        as_seen = _receiving(upload).filter(
            received=upload.received, lease=upload.lease
        )
        if not as_seen.update(received=offset, lease=_token()):
            _check_as_seen(upload)
            raise errors.Interrupted(offset=upload.received)
        chunks.filter(offset__gte=offset).delete()
        if cut and front:
            chunks.filter(pk=cut.pk).update(size=front.size, checksum=front.checksum)
        _receiving(upload).update(chunk_count=chunks.count())
    upload.refresh_from_db()


def _check_as_seen(upload: UploadSession) -> None:
    """Raise what has become of an upload, if it is not as it was seen any more."""
    row = _check_receiving(refreshed(upload))
    if row.received != upload.received:
        raise errors.Interrupted(offset=row.received)


def _front_of(upload: UploadSession, chunk: Chunk, size: int) -> Chunk:
    """Return a recorded chunk as it would be with fewer bytes."""
    left, total = size, 0
    with translated_errors(), _opened(upload, chunk) as stream:
        while left and (data := stream.read(min(left, setting("BUFFER_SIZE")))):
            left, total = left - len(data), checksum(data, total)
    if left:
        raise errors.StorageUnavailable("Recorded bytes are missing in the store.")
    return Chunk(size=size, checksum=f"{total:016x}")


@contextmanager
def _opened(upload: UploadSession, chunk: Chunk) -> Iterator[IO[bytes]]:
    stream = store_for(upload.storage).open(Place(chunk.key, chunk.start))
    try:
        yield stream
    finally:
        stream.close()


# finish


def finish(upload: UploadSession) -> UploadSession:
    """Have the file assembled because the client says that all of it was sent.

    Repeating it is harmless; after a failed assembly it asks for another one. Raise
    Incomplete with the missing chunks, Rejected, Gone or NotFound.
    """
    while upload.state == State.RECEIVING:
        _check_receiving(upload)
        length = upload.received if upload.length is None else upload.length
        if upload.received != length or not _is_gapless(upload):
            upload = _incomplete(upload)
            continue
        with transaction.atomic(durable=True):
            as_seen = _receiving(upload).filter(
                received=length, chunk_count=upload.chunk_count
            )
            if as_seen.update(length=length, **_ENDED):
                runner.nudge(runner.ASSEMBLE, upload.pk)
        upload = refreshed(upload)
    if upload.state == State.REJECTED:
        raise errors.Rejected(upload.error, state=upload.state)
    if upload.is_gone:
        raise errors.Gone(state=upload.state)
    if upload.state == State.FAILED:
        return retry(upload)
    if upload.state == State.ASSEMBLING:
        _remind(upload)
        return refreshed(upload)
    return upload


def _incomplete(upload: UploadSession) -> UploadSession:
    """Raise Incomplete, or return the upload anew if something has come meanwhile."""
    missing, offset = upload.missing or _known_gaps(upload), upload.offset
    row = refreshed(upload)
    if (row.received, row.state) == (upload.received, upload.state):
        raise errors.Incomplete(missing=missing, offset=offset)
    return row


def retry(upload: UploadSession) -> UploadSession:
    """Have a failed assembly tried again, with all its attempts."""
    with transaction.atomic(durable=True):
        failed = UploadSession.objects.filter(pk=upload.pk, state=State.FAILED)
        if failed.update(**_ENDED, active_at=timezone.now()):
            runner.nudge(runner.ASSEMBLE, upload.pk)
    return refreshed(upload)


def _remind(upload: UploadSession) -> None:
    """Nudge an assembly that nobody has begun, as when the first nudge was lost."""
    now = timezone.now()
    idle = UploadSession.objects.filter(
        Q(retry_at=None) | Q(retry_at__lte=now),
        pk=upload.pk,
        state=State.ASSEMBLING,
        lease="",
        active_at__lt=now - REMIND_AFTER,
    )
    if idle.update(active_at=now):
        runner.nudge(runner.ASSEMBLE, upload.pk)


def _is_gapless(upload: UploadSession) -> bool:
    """Tell whether the chunks follow each other, all whole but the last."""
    if upload.addressed_by != AddressedBy.NUMBER or upload.length is not None:
        return True
    chunks = Chunk.objects.filter(upload=upload.pk)
    last = chunks.aggregate(last=Max("number"))["last"]
    short = chunks.filter(number__lt=last, size__lt=upload.chunk_size)
    return last == upload.chunk_count - 1 and not short.exists()


def _known_gaps(upload: UploadSession) -> list[tuple[int, int]]:
    """Return what is missing before the last chunk of a file of unknown length."""
    if upload.addressed_by != AddressedBy.NUMBER:
        return []
    chunks = Chunk.objects.filter(upload=upload.pk, size=upload.chunk_size or 0)
    numbers = chunks.order_by("number").values_list("number", flat=True)
    last = Chunk.objects.filter(upload=upload.pk).aggregate(last=Max("number"))["last"]
    return list(gaps(numbers, (last or 0) - 1))


# cancel, expire and what follows an end


def cancel(upload: UploadSession, with_file: bool = True) -> None:
    """End an upload for good and drop its bytes; ``with_file`` also a finished file.

    Repeating it is harmless. Raise NotReceiving where the file is complete and is to
    stay, or another model has claimed it.
    """
    states = (*OPEN_STATES, State.COMPLETE) if with_file else OPEN_STATES
    rows = UploadSession.objects.filter(pk=upload.pk, claimed_at=None)
    if _end(rows.filter(state__in=states), State.CANCELLED):
        settle([upload.pk])
    elif UploadSession.objects.filter(pk=upload.pk, state=State.COMPLETE).exists():
        raise errors.NotReceiving("The file is complete.", state=State.COMPLETE)


def expire(upload: UploadSession) -> bool:
    """End an upload whose time is up. Return whether this call has."""
    expired = bool(_end(overdue().filter(pk=upload.pk), State.EXPIRED))
    if expired:
        settle([upload.pk])
    return expired


def overdue(now: datetime | None = None) -> QuerySet[UploadSession]:
    """Return the uploads whose time is up."""
    return UploadSession.objects.filter(
        state__in=WAITING_STATES,
        expires_at__lte=now or timezone.now(),
        claimed_at=None,
    )


def idle_since(moment: datetime) -> QuerySet[UploadSession]:
    """Return the unfinished uploads that nothing has come for since a moment."""
    return UploadSession.objects.filter(
        state__in=WAITING_STATES, active_at__lt=moment, claimed_at=None
    )


def expire_all(rows: QuerySet[UploadSession]) -> int:
    """End uploads whose time is up and return how many; settle none of them."""
    return _end(rows, State.EXPIRED)


def _expire_if_overdue(upload: UploadSession) -> bool:
    waits = upload.state in WAITING_STATES
    return waits and upload.expires_at <= timezone.now() and expire(upload)


def _end(rows: QuerySet[UploadSession], state: State, **changes: Any) -> int:
    now = timezone.now()
    return rows.update(
        state=state,
        settled=False,
        active_at=now,
        expires_at=now + setting("TOMBSTONES_KEPT_FOR"),
        lease="",
        **changes,
    )


def reject(upload: UploadSession, lease: str, error: errors.UploadError) -> None:
    """End an upload whose assembled file was refused."""
    rows = UploadSession.objects.filter(
        pk=upload.pk, state=State.ASSEMBLING, lease=lease
    )
    if _end(rows, State.REJECTED, error_code=error.code, error=error.message):
        settle([upload.pk])


_SIGNALS = {
    State.COMPLETE: signals.upload_completed,
    State.CANCELLED: signals.upload_cancelled,
    State.EXPIRED: signals.upload_expired,
    State.REJECTED: signals.upload_failed,
}


def settle(upload_ids: Iterable[uuid.UUID]) -> int:
    """Do what follows an end: drop the bytes, tell the listeners. Repeatable.

    Return how many uploads are settled by this call. What cannot be done now stays
    undone for the next housekeeping.
    """
    mine = _taken_to_settle(list(upload_ids))
    ended = list(mine)
    lent = _lenders(upload.pk for upload in ended)
    done = [
        upload.pk for upload in ended if upload.pk not in lent and _drop_bytes(upload)
    ]
    Chunk.objects.filter(upload__in=done).delete()
    for upload in mine.filter(pk__in=done):
        signals.send_after_commit(_SIGNALS[State(upload.state)], upload)
    # What is gone has no file any more, and its name may one day be another one's.
    kept = Case(
        When(state=State.COMPLETE, then=F("file")),
        default=Value(""),
        output_field=CharField(),
    )
    return mine.filter(pk__in=done).update(settled=True, lease="", file=kept)


def _taken_to_settle(upload_ids: list[uuid.UUID]) -> QuerySet[UploadSession]:
    """Take those that have ended and that nobody else is settling; return them.

    Who is killed while telling the listeners is followed by another one, who tells them
    again: one that has heard nothing would be worse.
    """
    token, now = _token(), timezone.now()
    rows = UploadSession.objects.filter(
        pk__in=upload_ids, settled=False, state__in=_SIGNALS
    )
    free = Q(lease="") | Q(active_at__lt=now - SETTLING_TAKES)
    rows.filter(free).update(lease=token, active_at=now)
    return rows.filter(lease=token)


def _lenders(upload_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return those whose bytes other uploads are made of; they cannot go yet."""
    lent = Chunk.objects.filter(source__in=list(upload_ids))
    return set(lent.values_list("source", flat=True))


def _drop_bytes(upload: UploadSession) -> bool:
    """Release an ended upload's chunks, and its file if it is not complete."""
    try:
        with translated_errors():
            store = store_for(upload.storage)
            if upload.is_gone and has_made_file(store, upload):
                store.delete_file(upload.pk, upload.file_name)
            store.release(upload.pk, chunk_keys(store, upload))
    except errors.StorageUnavailable:
        log.warning("Upload %s could not be released", upload.pk, exc_info=True)
        return False
    return True


def chunk_keys(store: Store, upload: UploadSession) -> list[str]:
    """Return the keys of an upload's own chunks, for a store that has to know."""
    if not store.needs_keys:
        return []
    chunks = Chunk.objects.filter(upload=upload.pk, source=None)
    return list(chunks.values_list("key", flat=True))


def has_made_file(store: Store, upload: UploadSession) -> bool:
    """Tell whether the file under the upload's name is its own, and not only meant."""
    if not upload.file:
        return False
    if upload.completed_at or str(upload.pk) in upload.file_name:
        return True
    return store.is_published(upload.pk, upload.file_name, upload.length or 0)


# concatenate


def concatenate(
    owner: Owner,
    protocol: str,
    policy: UploadPolicy,
    new: NewUpload,
    parts: Sequence[UploadSession],
) -> UploadSession:
    """Open an upload made of the chunks of others, one after another.

    The parts must be the owner's, all there, and not finished by themselves. No byte
    is copied; the parts cannot go before the file is assembled. Raise Incomplete for a
    part that is not full or has ended, and what ``open`` raises.
    """
    new.length = sum(part.length or 0 for part in parts)
    new.client_key = new.chunk_size = None
    policy.check_owner(owner)
    _check(new, owner, policy)
    if any(part.storage != policy.storage for part in parts):
        raise errors.Invalid("A part is kept in another storage.")
    upload = _row(owner, protocol, policy, new)
    with transaction.atomic(durable=True):
        _hold_parts(owner, {part.pk: part for part in parts})
        # The parts count already; they and the whole do not live together for long.
        _check_quota(upload, policy, owner, 0)
        upload.addressed_by = AddressedBy.OFFSET
        upload.save(force_insert=True)
        chunks = list(_lent_chunks(upload, parts))
        Chunk.objects.bulk_create(chunks, batch_size=500)
        _receiving(upload).update(
            received=new.length, chunk_count=len(chunks), **_ENDED
        )
        signals.send_after_commit(signals.upload_created, upload)
        runner.nudge(runner.ASSEMBLE, upload.pk)
    return refreshed(upload)


def _hold_parts(owner: Owner, parts: dict[uuid.UUID, UploadSession]) -> None:
    """Keep the parts from ending until the transaction does."""
    rows = UploadSession.objects.filter(
        pk__in=parts, owner=owner.key, state=State.RECEIVING, received=F("length")
    )
    if rows.update(active_at=timezone.now()) != len(parts):
        raise errors.Incomplete("A part is not complete, or is gone.", missing=[])


def _lent_chunks(
    upload: UploadSession, parts: Sequence[UploadSession]
) -> Iterator[Chunk]:
    number = offset = 0
    for part in parts:
        for chunk in Chunk.objects.filter(upload=part.pk).order_by("number"):
            yield Chunk(
                upload=upload,
                number=number,
                offset=offset,
                size=chunk.size,
                checksum=chunk.checksum,
                key=chunk.key,
                start=chunk.start,
                source_id=chunk.source_id or part.pk,
                created_at=upload.created_at,
            )
            number, offset = number + 1, offset + chunk.size


# The machinery

_ENDED: dict[str, Any] = {
    "state": State.ASSEMBLING,
    "lease": "",
    "attempts": 0,
    "retry_at": None,
    "error_code": "",
    "error": "",
}


def _token() -> str:
    return uuid.uuid4().hex


def _receiving(upload: UploadSession) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(pk=upload.pk, state=State.RECEIVING)


def _check_receiving(upload: UploadSession) -> UploadSession:
    """Return an upload that takes chunks. Raise Gone or NotReceiving for any other."""
    if upload.is_gone:
        raise errors.Gone(state=upload.state)
    if upload.state != State.RECEIVING:
        raise errors.NotReceiving(state=upload.state)
    return upload


def _slid(upload: UploadSession, now: datetime) -> dict[str, datetime]:
    """Return the new expiry of an active upload, if it is worth an index update."""
    policy = policy_of(upload)
    expires_at = policy.expiry(upload.created_at, now)
    step = min(SLIDE_STEP, policy.lifetime / 100)
    return {"expires_at": expires_at} if expires_at - upload.expires_at > step else {}


def _slide(upload: UploadSession) -> None:
    now = timezone.now()
    _receiving(upload).update(active_at=now, **_slid(upload, now))


def _slide_if_near(upload: UploadSession) -> None:
    """Keep an upload from expiring while one of its chunks is on the way."""
    policy = policy_of(upload)
    if upload.expires_at - timezone.now() < policy.lifetime / 2:
        _slide(upload)


def _check_growth(upload: UploadSession, policy: UploadPolicy) -> None:
    """Hold an upload of unknown length, which reserved nothing, to the quota."""
    if upload.length is None:
        _check_quota(upload, policy, owner_of_upload(upload), 0)


def _chunk(
    upload: UploadSession, number: int, offset: int, segment: Segment, place: Place
) -> Chunk:
    return Chunk(
        upload=upload,
        number=number,
        offset=offset,
        size=segment.size,
        checksum=f"{segment.checksum:016x}",
        key=place.key,
        start=place.start,
        created_at=timezone.now(),
    )


def _is_same(known: Chunk, other: Chunk | Segment) -> bool:
    digits = other.checksum
    if isinstance(digits, int):
        digits = f"{digits:016x}"
    return known.size == other.size and known.checksum == digits


@contextmanager
def _writer(
    store: Store, upload: UploadSession, offset: int | None, size: int | None
) -> Iterator[Writer]:
    """Open a place to write to, and leave none behind for an upload that has ended."""
    with translated_errors():
        writer = store.writer(upload.pk, offset, size)
    try:
        yield writer
    except (errors.NotReceiving, errors.NotFound):
        writer.close()
        tidy(upload)
        raise
    else:
        writer.close()
        if upload.state == State.COMPLETE:
            tidy(upload)
    finally:
        writer.close()


def tidy(upload: UploadSession) -> None:
    """Drop what somebody has made in the store who came after the upload's end."""
    row = UploadSession.objects.filter(pk=upload.pk).first()
    if (row is None or row.state in END_STATES) and not _lenders([upload.pk]):
        with translated_errors():
            store_for(upload.storage).release(upload.pk)


@contextmanager
def _nudged_if_full(upload: UploadSession) -> Iterator[None]:
    """Have the file assembled if these bytes were the last, once the lock is let go.

    An assembly that finds the lock still held has to copy the whole file.
    """
    try:
        yield
    finally:
        _nudge_if_full(upload)


def _nudge_if_full(upload: UploadSession) -> None:
    if upload.state == State.ASSEMBLING:
        runner.nudge(runner.ASSEMBLE, upload.pk)


@contextmanager
def _written(writer: Writer, segment: Segment) -> Iterator[Place]:
    """Store a segment; drop it again if it is refused, and only then.

    After any other error, the outcome of a commit may be unknown. Better an orphan than
    a chunk without bytes.
    """
    with translated_errors():
        place = writer.write(segment)
    try:
        yield place
    except errors.UploadError:
        _discard(writer, place)
        raise


def _discard(writer: Writer, place: Place) -> None:
    """Drop what nobody wants; what cannot be dropped now is swept up later."""
    try:
        writer.discard(place)
    except Exception:
        log.warning("Could not drop %s", place, exc_info=True)
