"""The door for numbered chunks: in any order, at once, repeatedly."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError

from .. import errors
from ..body import Body, Segment
from ..changes import Plus, change_and_add, insert
from ..conf import setting
from ..lookups import Lookup, PairLookup
from ..models import AddressedBy, Chunk, State, UploadSession
from ..policies import UploadPolicy, policy_of
from ..stores import Place, Writer, store_for
from ..transactions import durable
from .ending import lenders
from .quotas import NO_LIMIT, check_growth, room_for
from .rows import (
    FULL_STATES,
    change_receiving,
    check_not_ended,
    check_receiving,
    end_if_full,
    refreshed,
    slid,
    slide_if_near,
)
from .watching import watched
from .writing import discard, is_same, new_chunk, nudged_if_full, writing, written

_chunk_by_number = Lookup(Chunk, ("upload", "number"))
_upload_and_chunk = PairLookup(
    UploadSession,
    Chunk,
    on={"upload": "id", "number": None},
    only=("state", "received", "length", "chunk_total", "addressed_by"),
)


@watched
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
    check_receiving(upload)
    slide_if_near(upload)
    store = store_for(upload.storage)
    offset = number * (upload.chunk_size or 0)
    with nudged_if_full(upload), writing(store, upload, offset, size) as writer:
        # What was true when the request came may not be true any more, and only now
        # does the lock keep others from writing here.
        known = _chunk_there(upload, number)
        if not known and upload.state == State.RECEIVING:
            return _store_chunk(upload, number, body, size, writer, replace)
    if not replace or upload.state != State.RECEIVING:
        return _read_repeat(upload, number, known, body), False
    # The bytes of a recorded chunk are never overwritten: beside them, then.
    with nudged_if_full(upload), writing(store, upload, None, size) as writer:
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
    segment.is_all = upload.last_number == 0
    with written(writer, segment) as place:
        _check_whole(upload, segment, body, size)
        offset = number * (upload.chunk_size or 0)
        chunk = new_chunk(upload, number, offset, segment, place)
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
    if last is None and number * size >= room_for(upload, policy_of(upload)):
        raise errors.TooLarge(max_size=room_for(upload, policy_of(upload)))
    if body.length is None or body.length == size:
        return size
    if upload.length is None and body.length < size:
        return size
    raise errors.WrongSize(expected=size)


def _chunk_there(upload: UploadSession, number: int) -> Chunk | None:
    """Return the recorded chunk with a number, and note how the upload stands now."""
    found = _upload_and_chunk.facts(upload.id, number)
    if found is None:
        raise errors.NotFound
    row, known = found
    upload.state, upload.received = row["state"], row["received"]
    upload.length = row["length"]
    check_not_ended(upload)
    if row["addressed_by"] == AddressedBy.OFFSET:
        raise errors.WrongAddressing(addressed_by=row["addressed_by"])
    _check_place(upload, number, row["chunk_total"])
    return known


def _check_place(upload: UploadSession, number: int, chunk_total: int | None) -> None:
    """See that a chunk still lies where it did, before it is written over another.

    Another request may have told meanwhile that the last chunk is longer than the
    others. Raise Interrupted.
    """
    if chunk_total == upload.chunk_total:
        return
    before = upload.size_of(number)
    upload.chunk_total = chunk_total
    is_beyond = number > (number if upload.last_number is None else upload.last_number)
    if is_beyond or upload.size_of(number) != before:
        raise errors.Interrupted(offset=upload.received)


def known_chunk(upload: UploadSession, number: int) -> Chunk | None:
    return _chunk_by_number(upload.pk, number)


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
    # What is there already is no progress.
    body.watch = None
    # The length may have become known only now, and the number may be none of it.
    size = _expected_size(upload, number, body)
    known = known or known_chunk(upload, number)
    segment = body.whole(size)
    for _ in segment:
        pass
    _check_whole(upload, segment, body, size)
    if known and not is_same(known, segment):
        raise _conflict(upload, known)
    return known or Chunk(upload=upload, number=number, size=size)


def _record_chunk(
    upload: UploadSession, chunk: Chunk, writer: Writer, replace: bool
) -> tuple[Chunk, bool]:
    """Make a chunk count, unless one with its number has been recorded meanwhile."""
    while True:
        try:
            if not _record_alone(upload, chunk):
                with durable():
                    _insert_chunk(upload, chunk)
            return chunk, True
        except (IntegrityError, Outrun):
            known = known_chunk(upload, chunk.number) or _lost_chunk(upload, chunk)
        if is_same(known, chunk):
            discard(writer, Place(chunk.key, chunk.start))
            return known, False
        if not replace or upload.state != State.RECEIVING:
            raise _conflict(upload, known)
        if swap_chunk(upload, known, chunk):
            if not lenders([upload.pk]):
                discard(writer, Place(known.key, known.start))
            return chunk, True


def _conflict(upload: UploadSession, known: Chunk) -> errors.UploadError:
    """Return what to say of a recorded chunk with other bytes.

    With another size than its place has, it is one of another geometry, which another
    request has told meanwhile.
    """
    if upload.length is not None and known.size != upload.size_of(known.number):
        return errors.Interrupted(offset=upload.received)
    return errors.ChunkConflict(number=known.number)


def _lost_chunk(upload: UploadSession, chunk: Chunk) -> Chunk:
    """Return what stands for a recorded chunk whose row is not there any more."""
    row = refreshed(upload)
    if row.state in FULL_STATES and row.chunk_total != upload.chunk_total:
        # The file is all there in another geometry.
        raise errors.Interrupted(offset=row.received)
    if row.state != State.COMPLETE or not row.has_chunk(chunk.number, chunk.size):
        check_receiving(row)
        raise errors.StorageUnavailable
    upload.state = row.state
    return chunk


def _record_alone(upload: UploadSession, chunk: Chunk) -> bool:
    """Count a chunk and add it if it is as most are; tell whether it was.

    One that is not the last, of an upload whose length has long been known and whose
    geometry nobody has changed meanwhile: nothing is left to be decided then.
    """
    length = upload.length
    if length is None or upload.received + chunk.size >= length:
        return False
    told = change_and_add(
        chunk,
        UploadSession,
        upload.pk,
        _counted(upload, policy_of(upload), chunk.size, chunk.created_at)
        | {"chunk_count": Plus(1)},
        ("received", "chunk_count"),
        state=State.RECEIVING,
        addressed_by__not=AddressedBy.OFFSET,
        received__at_most=length - chunk.size - 1,
        chunk_total=upload.chunk_total,
    )
    if told is None:
        return False
    vars(upload).update(told)
    upload.addressed_by = upload.addressed_by or AddressedBy.NUMBER
    return True


def _insert_chunk(upload: UploadSession, chunk: Chunk) -> None:
    # The row is locked from here on: what it says stays true.
    row = advance(upload, chunk.size, chunk.created_at, chunk_count=Plus(1))
    insert(chunk)
    _check_place(upload, chunk.number, row["chunk_total"])
    end_if_full(upload, row["received"], row["chunk_count"])


def swap_chunk(upload: UploadSession, known: Chunk, chunk: Chunk) -> bool:
    """Put a chunk in the place of one, unless that is not the recorded one any more."""
    changed = ("key", "start", "size", "checksum", "digests", "created_at")
    try:
        with durable():
            row = advance(upload, chunk.size - known.size, chunk.created_at)
            as_seen = Chunk.objects.filter(
                pk=known.pk, key=known.key, start=known.start
            )
            if not as_seen.update(**{name: getattr(chunk, name) for name in changed}):
                raise Outrun
            end_if_full(upload, row["received"], row["chunk_count"])
    except Outrun:
        return False
    return True


class Outrun(Exception):
    """Another request was quicker; look again."""


def advance(
    upload: UploadSession, growth: int, now: datetime, **changes: Any
) -> dict[str, Any]:
    """Count bytes of a numbered chunk that came now, first thing in the transaction.

    Return what the row then says of the chunks there are. Raise Outrun where the upload
    takes no more, but is not gone.
    """
    policy = policy_of(upload)
    room = room_for(upload, policy)
    changed = change_receiving(
        upload,
        changes | _counted(upload, policy, growth, now),
        told=("received", "chunk_count", "chunk_total"),
        addressed_by__not=AddressedBy.OFFSET,
        received__at_most=min(room - growth, NO_LIMIT),
    )
    if changed is None:
        row = check_not_ended(refreshed(upload))
        if row.addressed_by == AddressedBy.OFFSET:
            raise errors.WrongAddressing(addressed_by=row.addressed_by)
        if row.state == State.RECEIVING and upload.length is None:
            raise errors.TooLarge(max_size=room)
        # All bytes are there already, so this number is as well.
        upload.state = row.state
        raise Outrun
    check_growth(upload, policy, growth)
    return changed


def _counted(
    upload: UploadSession, policy: UploadPolicy, growth: int, now: datetime
) -> dict[str, Any]:
    """Return what bytes of a numbered chunk that came now change in the row."""
    return {
        "received": Plus(growth),
        "addressed_by": AddressedBy.NUMBER,
        "active_at": now,
        **slid(upload, policy, now),
    }
