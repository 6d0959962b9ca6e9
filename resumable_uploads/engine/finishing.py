"""From receiving to assembling, because the client says that all was sent."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Max, Q
from django.utils import timezone

from .. import errors, runner
from ..models import AddressedBy, Chunk, State, UploadSession, gaps
from ..transactions import durable
from .rows import ENDED, check_receiving, receiving, refreshed

# How long an assembly may be in line before a client's question nudges it again.
REMIND_AFTER = timedelta(seconds=5)


def check_as_seen(upload: UploadSession) -> None:
    """Raise what has become of an upload, if it is not as it was seen any more."""
    row = check_receiving(refreshed(upload))
    if row.received != upload.received:
        raise errors.Interrupted(offset=row.received)


def finish(upload: UploadSession) -> UploadSession:
    """Have the file assembled because the client says that all of it was sent.

    Repeating it is harmless; after a failed assembly it asks for another one. Raise
    Incomplete with the missing chunks, Rejected, Gone or NotFound.
    """
    while upload.state == State.RECEIVING:
        check_receiving(upload)
        length = upload.received if upload.length is None else upload.length
        if upload.received != length or not _is_gapless(upload):
            upload = _incomplete(upload)
            continue
        with durable():
            as_seen = receiving(upload).filter(
                received=length, chunk_count=upload.chunk_count
            )
            if as_seen.update(length=length, **ENDED):
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
    with durable():
        failed = UploadSession.objects.filter(pk=upload.pk, state=State.FAILED)
        if failed.update(**ENDED, active_at=timezone.now()):
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
