"""Bytes first, then the row: what all doors for bytes do around the store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.utils import timezone

from .. import errors, runner
from ..body import Segment
from ..models import END_STATES, Chunk, State, UploadSession
from ..stores import Place, Store, Writer, store_for
from ..stores.base import translated_errors
from .ending import lenders

log = logging.getLogger(__name__)


def new_chunk(
    upload: UploadSession,
    number: int,
    offset: int | None,
    segment: Segment,
    place: Place,
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


def is_same(known: Chunk, other: Chunk | Segment) -> bool:
    digits = other.checksum
    if isinstance(digits, int):
        digits = f"{digits:016x}"
    return known.size == other.size and known.checksum == digits


@contextmanager
def writing(
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
    if (row is None or row.state in END_STATES) and not lenders([upload.pk]):
        with translated_errors():
            store_for(upload.storage).release(upload.pk)


@contextmanager
def nudged_if_full(upload: UploadSession) -> Iterator[None]:
    """Have the file assembled if these bytes were the last, once the lock is let go.

    An assembly that finds the lock still held has to copy the whole file.
    """
    try:
        yield
    finally:
        nudge_if_full(upload)


def nudge_if_full(upload: UploadSession) -> None:
    if upload.state == State.ASSEMBLING:
        runner.nudge(runner.ASSEMBLE, upload.pk)


@contextmanager
def written(writer: Writer, segment: Segment) -> Iterator[Place]:
    """Store a segment; drop it again if it is refused, and only then.

    After any other error, the outcome of a commit may be unknown. Better an orphan than
    a chunk without bytes.
    """
    with translated_errors():
        place = writer.write(segment)
    try:
        yield place
    except errors.UploadError:
        discard(writer, place)
        raise


def discard(writer: Writer, place: Place) -> None:
    """Drop what nobody wants; what cannot be dropped now is swept up later."""
    try:
        writer.discard(place)
    except Exception:
        log.warning("Could not drop %s", place, exc_info=True)
