"""The door for stretches at the end: recorded in segments, under the lease."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from .. import errors
from ..body import Body, Segment
from ..changes import change_and_add, insert
from ..conf import setting
from ..models import AddressedBy, Chunk, State, UploadSession
from ..policies import UploadPolicy, policy_of
from ..stores import Place, Writer, store_for
from ..transactions import durable
from .quotas import check_growth, room_for
from .rows import (
    ENDED,
    FULL_STATES,
    change_receiving,
    check_receiving,
    new_lease,
    refreshed,
    slid,
)
from .watching import watched
from .writing import discard, new_chunk, nudged_if_full, writing, written

# What an append changes, besides the lease.
_APPENDED = ("received", "chunk_count", "addressed_by", "length")


@watched
def append(upload: UploadSession, offset: int, body: Body) -> UploadSession:
    """Add a body to the end of an upload and return the upload as it is then.

    What comes is recorded in segments, also when the body is cut short; then Truncated
    is raised. A body with a digest is recorded whole or not at all. Raise
    OffsetMismatch, TooLarge, WrongAddressing, Interrupted (another request has taken
    over), ChecksumMismatch, NotReceiving, Gone, NotFound, StorageUnavailable.
    """
    if _is_empty_repeat(upload, offset, body):
        return upload
    check_receiving(upload)
    policy = policy_of(upload)
    room = room_for(upload, policy)
    store = store_for(upload.storage)
    with nudged_if_full(upload), writing(store, upload, offset, None) as writer:
        _take_lease(upload, offset, policy)
        if body.left is not None and offset + body.left > room:
            raise errors.TooLarge(max_size=room)
        while not body.ended:
            _append_segment(upload, writer, body, room, policy)
    if body.truncated:
        raise body.cut(offset=upload.received)
    return upload


def _is_empty_repeat(upload: UploadSession, offset: int, body: Body) -> bool:
    full = upload.state in FULL_STATES
    return full and body.left == 0 and offset == upload.length


def _take_lease(upload: UploadSession, offset: int, policy: UploadPolicy) -> None:
    """Take the right to append at an offset. Raise what speaks against it."""
    token, now = new_lease(), timezone.now()
    taken = change_receiving(
        upload,
        {"lease": token, "active_at": now, **slid(upload, policy, now)},
        told=_APPENDED,
        received=offset,
        addressed_by__not=AddressedBy.NUMBER,
    )
    if taken is None:
        row = check_receiving(refreshed(upload))
        if row.addressed_by == AddressedBy.NUMBER:
            raise errors.WrongAddressing(addressed_by=row.addressed_by)
        raise errors.OffsetMismatch(row.received)
    # Another request may have appended since the row was read.
    vars(upload).update(taken, lease=token)


def _append_segment(
    upload: UploadSession, writer: Writer, body: Body, room: int, policy: UploadPolicy
) -> None:
    left = room - upload.received
    if body.expected:
        segment = body.whole(left)
    else:
        segment = body.segment(min(left, setting("SEGMENT_SIZE")))
    with written(writer, segment) as place:
        if body.expected:
            body.check_end()
            body.check_digests()
        elif segment.size == left:
            body.check_no_more()
        if segment.size:
            _record_segment(upload, segment, place, policy)
        else:
            discard(writer, place)


def _record_segment(
    upload: UploadSession, segment: Segment, place: Place, policy: UploadPolicy
) -> None:
    """Make a stretch at the end count, if this request still holds the lease."""
    while True:
        changes = _changes(upload, segment, policy)
        number, offset = upload.chunk_count, upload.received
        chunk = new_chunk(upload, number, offset, segment, place)
        try:
            if not _record_alone(upload, chunk, changes):
                with durable():
                    _advance(upload, changes)
                    check_growth(upload, policy, segment.size)
                    insert(chunk)
            break
        except _LengthTold:
            continue
    vars(upload).update(changes)


def _record_alone(upload: UploadSession, chunk: Chunk, changes: dict[str, Any]) -> bool:
    """Count a stretch and add it if all is as this request saw; tell whether it was.

    What has no length yet may outgrow a quota as well.
    """
    if upload.length is None:
        return False
    told = change_and_add(
        chunk,
        UploadSession,
        upload.pk,
        changes,
        (),
        state=State.RECEIVING,
        **_as_seen(upload),
    )
    return told is not None


class _LengthTold(Exception):
    """Another request has declared the length; this one knows it now."""


def _changes(
    upload: UploadSession, segment: Segment, policy: UploadPolicy
) -> dict[str, Any]:
    """Return what a stretch at the end changes in the upload's row."""
    now = timezone.now()
    end = upload.received + segment.size
    if upload.length is not None and end > upload.length:
        raise errors.TooLarge(max_size=upload.length)
    ends = upload.ends_when_full and end == upload.length
    return {
        "received": end,
        "chunk_count": upload.chunk_count + 1,
        "addressed_by": AddressedBy.OFFSET,
        "active_at": now,
        **slid(upload, policy, now),
        **(ENDED if ends else {}),
    }


def _advance(upload: UploadSession, changes: dict[str, Any]) -> None:
    """Count a stretch, first thing in its transaction, if all is as this request saw.

    The length too: whether these bytes are the last ones depends on it.
    """
    if change_receiving(upload, changes, **_as_seen(upload)) is not None:
        return
    row = check_receiving(refreshed(upload))
    if (row.lease, row.received) != (upload.lease, upload.received):
        raise errors.Interrupted(offset=row.received)
    upload.length = row.length
    raise _LengthTold


def _as_seen(upload: UploadSession) -> dict[str, Any]:
    return {
        "lease": upload.lease,
        "received": upload.received,
        "length": upload.length,
    }
