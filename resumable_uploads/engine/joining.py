"""An upload made of others, without copying a byte."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db.models import F, Value
from django.db.models.functions import Least
from django.utils import timezone

from .. import errors, runner
from ..models import AddressedBy, Chunk, State, UploadSession
from ..owners import Owner
from ..policies import UploadPolicy
from ..transactions import durable
from .opening import NewUpload, ask, check_new, new_row, note_opened
from .quotas import check_quota, hold
from .rows import ENDED, add, receiving, refreshed

# Whose answer was lost asks for the whole again, and needs the parts for it; longer
# than this they would only take space.
PARTS_KEPT_FOR = timedelta(hours=1)


def concatenate(
    owner: Owner,
    protocol: str,
    policy: UploadPolicy,
    new: NewUpload,
    parts: Sequence[UploadSession],
) -> UploadSession:
    """Open an upload made of the chunks of others, one after another.

    The parts must be the owner's, all there, and not finished by themselves. No byte
    is copied; the parts' bytes cannot go before the file is assembled, and go an hour
    later. Raise Incomplete for a
    part that is not full or has ended, and what ``open`` raises.
    """
    new.length = sum(part.length or 0 for part in parts)
    new.client_key = new.chunk_size = None
    policy.check_owner(owner)
    check_new(new, owner, policy)
    if any(part.storage != policy.storage for part in parts):
        raise errors.Invalid("A part is kept in another storage.")
    ask(owner, protocol, policy, new)
    upload = new_row(owner, protocol, policy, new)
    with durable():
        _hold_parts(owner, {part.pk: part for part in parts})
        # The parts count already; they and the whole do not live together for long.
        check_quota(upload, policy, owner, 0)
        hold(policy, owner, new.length or 0)
        upload.addressed_by = AddressedBy.OFFSET
        add(upload)
        chunks = list(_lent_chunks(upload, parts))
        Chunk.objects.bulk_create(chunks, batch_size=500)
        receiving(upload).update(received=new.length, chunk_count=len(chunks), **ENDED)
        note_opened(upload)
        runner.nudge(runner.ASSEMBLE, upload.pk)
    return refreshed(upload)


def _hold_parts(owner: Owner, parts: dict[uuid.UUID, UploadSession]) -> None:
    """Keep the parts from ending until the transaction does."""
    rows = UploadSession.objects.filter(
        pk__in=parts, owner=owner.key, state=State.RECEIVING, received=F("length")
    )
    now = timezone.now()
    expires_at = Least(F("expires_at"), Value(now + PARTS_KEPT_FOR))
    if rows.update(active_at=now, expires_at=expires_at) != len(parts):
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
