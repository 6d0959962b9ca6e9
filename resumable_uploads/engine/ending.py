"""The ends of an upload, and what follows each of them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, CharField, F, Q, QuerySet, Value, When
from django.utils import timezone

from .. import errors, hooks, outbox
from ..changes import change
from ..conf import setting
from ..lookups import Listing
from ..models import OPEN_STATES, Chunk, State, UploadSession
from ..stores import Store, store_for
from ..stores.base import translated_errors
from ..transactions import atomic
from .rows import WAITING_STATES, new_lease, upload_by_id

log = logging.getLogger(__name__)

# Who settles an upload has so long; then somebody else does.
SETTLING_TAKES = timedelta(minutes=1)

# The chunks of others that are made of an upload's bytes.
_lent = Listing(Chunk, by="source", fields=("number",))


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


def is_overdue(now: datetime | None = None) -> Q:
    """Tell of an upload that its time is up."""
    return Q(
        state__in=WAITING_STATES,
        expires_at__lte=now or timezone.now(),
        claimed_at=None,
    )


def overdue(now: datetime | None = None) -> QuerySet[UploadSession]:
    """Return the uploads whose time is up."""
    return UploadSession.objects.filter(is_overdue(now))


def is_idle_since(moment: datetime) -> Q:
    """Tell of an unfinished upload that nothing has come for it since a moment."""
    return Q(state__in=WAITING_STATES, active_at__lt=moment, claimed_at=None)


def among(upload_ids: Collection[uuid.UUID], condition: Q) -> QuerySet[UploadSession]:
    """Return those of some uploads of which a condition is true, by their keys.

    That it is not untrue says the same, and is nothing that an index could be used for.
    SQLite takes any index for better than a list of keys, and would go through all the
    uploads that are so, for each batch anew.
    """
    return UploadSession.objects.filter(~Q(~condition), pk__in=upload_ids)


def expire_all(rows: QuerySet[UploadSession]) -> int:
    """End uploads whose time is up and return how many; settle none of them."""
    return _end(rows, State.EXPIRED)


def expire_if_overdue(upload: UploadSession) -> bool:
    """End an upload whose time is up; return whether it has ended, by whomever."""
    waits = upload.state in WAITING_STATES
    if not waits or upload.expires_at > timezone.now():
        return False
    still_open = UploadSession.objects.filter(pk=upload.pk, state__in=OPEN_STATES)
    return expire(upload) or not still_open.exists()


def _end(rows: QuerySet[UploadSession], state: State, **changes: Any) -> int:
    now = timezone.now()
    changes |= {
        "state": state,
        "settled": False,
        "active_at": now,
        "expires_at": now + setting("TOMBSTONES_KEPT_FOR"),
        "lease": "",
    }
    if not outbox.wanted(_EVENTS[state]):
        return rows.update(**changes)
    return _end_and_note(rows, _EVENTS[state], changes)


def _end_and_note(
    rows: QuerySet[UploadSession], event: str, changes: dict[str, Any]
) -> int:
    """End uploads, and have it told of those that this call has ended."""
    pks, token = list(rows.values_list("pk", flat=True)), new_lease()
    with atomic():
        rows.filter(pk__in=pks).update(**changes | {"lease": token})
        ended = UploadSession.objects.filter(pk__in=pks, lease=token)
        outbox.note(event, ended)
        return ended.update(lease="")


def reject(upload: UploadSession, lease: str, error: errors.UploadError) -> None:
    """End an upload whose assembled file was refused."""
    rows = UploadSession.objects.filter(
        pk=upload.pk, state=State.ASSEMBLING, lease=lease
    )
    if _end(rows, State.REJECTED, error_code=error.code, error=error.message):
        settle([upload.pk])


def stop(upload: UploadSession, error: errors.UploadError) -> None:
    """End an upload that was refused while it was being sent."""
    rows = UploadSession.objects.filter(pk=upload.pk, state=State.RECEIVING)
    if _end(rows, State.REJECTED, error_code=error.code, error=error.message):
        settle([upload.pk])


_EVENTS = {
    State.COMPLETE: hooks.COMPLETED,
    State.CANCELLED: hooks.CANCELLED,
    State.EXPIRED: hooks.EXPIRED,
    State.REJECTED: hooks.FAILED,
}


def settle(upload_ids: Iterable[uuid.UUID]) -> int:
    """Do what follows an end: drop the bytes, tell the listeners. Repeatable.

    Return how many uploads are settled by this call. What cannot be done now stays
    undone for the next housekeeping.
    """
    token = new_lease()
    return _settle(list(_taken_to_settle(list(upload_ids), token)), token)


def settle_taken(upload: UploadSession) -> int:
    """Do the same for an upload whose lease was taken for that by what has ended it."""
    row = upload_by_id(upload.pk)
    return _settle([row], row.lease) if row and row.lease == upload.lease else 0


def _settle(ended: Sequence[UploadSession], token: str) -> int:
    lent = lenders(upload.pk for upload in ended)
    done = [
        upload.pk for upload in ended if upload.pk not in lent and _drop_bytes(upload)
    ]
    Chunk.objects.filter(upload__in=done).delete()
    # It may have taken so long that another one is at it by now.
    for row in _still_held(done, token):
        hooks.tell(_EVENTS[State(row.state)], row)
    return _note_settled(done, token)


# An assembly settles one upload, by statements that are kept; a purge a whole batch, by
# one query for each step.


def _still_held(upload_ids: Sequence[uuid.UUID], token: str) -> Iterable[UploadSession]:
    if len(upload_ids) == 1:
        row = upload_by_id(upload_ids[0])
        return [row] if row and row.lease == token else []
    return UploadSession.objects.filter(pk__in=upload_ids, lease=token)


def _note_settled(upload_ids: Sequence[uuid.UUID], token: str) -> int:
    done = {"settled": True, "lease": ""}
    if len(upload_ids) == 1:
        pk, state = upload_ids[0], State.COMPLETE
        if change(UploadSession, pk, done, state=state, lease=token) is not None:
            return 1
    # What is gone has no file any more, and its name may one day be another one's.
    kept = Case(
        When(state=State.COMPLETE, then=F("file")),
        default=Value(""),
        output_field=CharField(),
    )
    mine = UploadSession.objects.filter(pk__in=upload_ids, lease=token)
    return mine.update(file=kept, **done)


def _taken_to_settle(
    upload_ids: list[uuid.UUID], token: str
) -> QuerySet[UploadSession]:
    """Take those that have ended and that nobody else is settling; return them.

    Who is killed while telling the listeners is followed by another one, who tells them
    again: one that has heard nothing would be worse.
    """
    now = timezone.now()
    unsettled = Q(settled=False, state__in=_EVENTS)
    free = Q(lease="") | Q(active_at__lt=now - SETTLING_TAKES)
    among(upload_ids, unsettled & free).update(lease=token, active_at=now)
    return among(upload_ids, unsettled & Q(lease=token))


def lenders(upload_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return those whose bytes other uploads are made of; they cannot go yet."""
    pks = list(upload_ids)
    if len(pks) == 1:
        return set(pks) if _lent(pks[0]) else set()
    lent = Chunk.objects.filter(source__in=pks)
    return set(lent.values_list("source", flat=True))


def _drop_bytes(upload: UploadSession) -> bool:
    """Release an ended upload's chunks, and its file if it is not complete."""
    try:
        with translated_errors():
            store = store_for(upload.storage)
            has_file = upload.is_gone and has_made_file(store, upload)
            is_named = str(upload.pk) in upload.file_name
            if has_file and not is_named:
                store.delete_file(upload.pk, upload.file_name)
            store.release(upload.pk, chunk_keys(store, upload))
            if has_file and is_named:
                # Now, when there is nothing left that could be given this name.
                store.delete_file(upload.pk, upload.file_name)
                _expect_late(store, upload)
    except errors.StorageUnavailable:
        log.warning("Upload %s could not be released", upload.pk, exc_info=True)
        return False
    return True


def _expect_late(store: Store, upload: UploadSession) -> None:
    """Have a file deleted that is still being copied, should its worker die then."""
    if not (upload.completed_at or store.finishes_at_once):
        store.doom(upload.pk, upload.file_name)


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
