"""Taking recorded chunks back, where a protocol lets its client start again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from django.db.models import F

from .. import errors
from ..body import Body, checksum
from ..conf import setting
from ..models import AddressedBy, Chunk, UploadSession
from ..stores import Piece, Place, store_for
from ..stores.base import JoinedFile, translated_errors
from ..transactions import durable
from .ending import lenders
from .finishing import check_as_seen
from .rows import check_receiving, new_lease, receiving, refreshed


def reshape(upload: UploadSession, chunk_total: int | None) -> None:
    """Correct the number of chunks, once a chunk tells which geometry it is.

    Chunks recorded under another idea of it are forgotten: the client sends theirs
    again. Raise NotReceiving, Gone or NotFound.
    """
    if upload.chunk_total == chunk_total:
        return
    with durable():
        if not receiving(upload).update(chunk_total=chunk_total):
            check_receiving(refreshed(upload))
        _check_not_lent(upload)
        upload.chunk_total = chunk_total
        misfits = [
            chunk
            for chunk in Chunk.objects.filter(upload=upload.pk).order_by("-number")[:2]
            if chunk.number > (upload.last_number or 0)
            or chunk.size != upload.size_of(chunk.number)
        ]
        receiving(upload).update(
            received=F("received") - sum(chunk.size for chunk in misfits),
            chunk_count=F("chunk_count") - len(misfits),
        )
        Chunk.objects.filter(pk__in=[chunk.pk for chunk in misfits]).delete()


def restart(upload: UploadSession) -> None:
    """Forget all chunks, so that the client can send the file from its start.

    The upload is left as it is then. Raise NotReceiving, Gone or NotFound.
    """
    _forget(upload, 0)


def skip_known(upload: UploadSession, offset: int, body: Body) -> int:
    """Read what a body brings again, from an offset on; return where it goes on.

    That is at the end of what is recorded, or where the body brings other bytes. Raise
    Interrupted, NotReceiving, Gone, NotFound, StorageUnavailable.
    """
    if offset >= upload.received:
        return offset
    chunks = Chunk.objects.filter(upload=upload.pk).order_by("number")
    pieces = [Piece(Place(chunk.key, chunk.start), chunk.size) for chunk in chunks]
    known = JoinedFile(store_for(upload.storage), pieces)
    try:
        with translated_errors():
            known.seek(offset)
            return offset + body.skip_same(upload.received - offset, known)
    except errors.StorageUnavailable:
        # The bytes may have gone because another request was quicker.
        check_as_seen(upload)
        raise
    finally:
        known.close()


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
        check_as_seen(upload)
        raise
    with durable():
        as_seen = receiving(upload).filter(received=upload.received, lease=upload.lease)
        if not as_seen.update(received=offset, lease=new_lease()):
            check_as_seen(upload)
            raise errors.Interrupted(offset=upload.received)
        _check_not_lent(upload)
        chunks.filter(offset__gte=offset).delete()
        if cut and front:
            chunks.filter(pk=cut.pk).update(size=front.size, checksum=front.checksum)
        receiving(upload).update(chunk_count=chunks.count())
    upload.refresh_from_db()


def _check_not_lent(upload: UploadSession) -> None:
    """See that no other upload is made of the chunks; the row is locked.

    The places of forgotten chunks are written to again. Raise NotReceiving.
    """
    if lenders([upload.pk]):
        raise errors.NotReceiving(
            "Other uploads are made of these chunks.", state=upload.state
        )


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
