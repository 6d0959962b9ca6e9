"""Bytes first, then the row: what all doors for bytes do around the store."""

from __future__ import annotations

import logging
from typing import Any

from django.utils import timezone

from .. import errors, runner
from ..body import Segment
from ..changes import new
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
    return new(
        Chunk,
        id=None,
        upload_id=upload.id,
        number=number,
        offset=offset,
        size=segment.size,
        checksum=f"{segment.checksum:016x}",
        digests={},
        key=place.key,
        start=place.start,
        source_id=None,
        created_at=timezone.now(),
    )


def is_same(known: Chunk, other: Chunk | Segment) -> bool:
    digits = other.checksum
    if isinstance(digits, int):
        digits = f"{digits:016x}"
    return known.size == other.size and known.checksum == digits


# Classes, since generators cost several times as much, and no chunk gets past them.


class writing:
    """Open a place to write to, and leave none behind for an upload that has ended."""

    def __init__(
        self, store: Store, upload: UploadSession, offset: int | None, size: int | None
    ) -> None:
        self._upload = upload
        with translated_errors():
            self._writer = store.writer(upload.id, offset, size)

    def __enter__(self) -> Writer:
        return self._writer

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._writer.close()
        if error is None:
            has_ended = self._upload.state == State.COMPLETE
        else:
            has_ended = isinstance(error, errors.NotReceiving | errors.NotFound)
        if has_ended:
            tidy(self._upload)


def tidy(upload: UploadSession) -> None:
    """Drop what somebody has made in the store who came after the upload's end."""
    row = UploadSession.objects.filter(pk=upload.pk).first()
    if (row is None or row.state in END_STATES) and not lenders([upload.pk]):
        with translated_errors():
            store_for(upload.storage).release(upload.pk)


class nudged_if_full:
    """Have the file assembled if these bytes were the last, once the lock is let go.

    An assembly that finds the lock still held has to copy the whole file.
    """

    def __init__(self, upload: UploadSession) -> None:
        self._upload = upload

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        nudge_if_full(self._upload)


def nudge_if_full(upload: UploadSession) -> None:
    if upload.state == State.ASSEMBLING:
        runner.nudge(runner.ASSEMBLE, upload.pk)


class written:
    """Store a segment; drop it again if it is refused, and only then.

    After any other error, the outcome of a commit may be unknown. Better an orphan than
    a chunk without bytes.
    """

    def __init__(self, writer: Writer, segment: Segment) -> None:
        self._writer = writer
        with translated_errors():
            self._place = writer.write(segment)

    def __enter__(self) -> Place:
        return self._place

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, errors.UploadError):
            discard(self._writer, self._place)


def discard(writer: Writer, place: Place) -> None:
    """Drop what nobody wants; what cannot be dropped now is swept up later."""
    try:
        writer.discard(place)
    except Exception:
        log.warning("Could not drop %s", place, exc_info=True)
