"""Finding an upload, and asking it for an offset that stays true."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from .. import errors
from ..lookups import Lookup, changed
from ..models import GONE_STATES, OPEN_STATES, AddressedBy, State, UploadSession
from ..owners import Owner
from ..policies import policy_of
from ..stores import store_for
from .ending import expire_if_overdue
from .rows import change_receiving, new_lease, refreshed, upload_by_id

open_by_key = Lookup(
    UploadSession,
    ("owner", "protocol", "client_key"),
    among={"state": [state.value for state in OPEN_STATES]},
)

# What another request may have changed of an upload that still takes bytes.
TAKEN = (
    *("lease", "received", "chunk_count", "addressed_by", "length", "chunk_size"),
    *("chunk_total", "active_at", "expires_at", "state"),
)

# Seconds between looks at whether a broken connection has been dealt with.
LAST_WORDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.16)


def find(owner: Owner, upload_id: Any) -> UploadSession:
    """Return the owner's upload. Raise NotFound for any other, or for none."""
    try:
        pk = uuid.UUID(str(upload_id))
    except ValueError:
        raise errors.NotFound from None
    if not owner:
        raise errors.NotFound
    upload = upload_by_id(pk)
    if upload is None or upload.owner != owner.key:
        raise errors.NotFound
    return not_overdue(upload)


def not_overdue(upload: UploadSession) -> UploadSession:
    """Return an upload that was just looked up; ended, if its time is up."""
    return refreshed(upload) if expire_if_overdue(upload) else upload


def find_by_key(owner: Owner, protocol: str, client_key: str) -> UploadSession | None:
    """Return the owner's upload with a client key: the open one, or one completed.

    A completed one counts for as long as an unfinished one would be kept.
    """
    if not owner:
        return None
    upload = open_by_key(owner.key, protocol, client_key)
    if upload is not None and not expire_if_overdue(upload):
        return upload
    return last_completed(by_key(owner, protocol, client_key))


def find_gone(owner: Owner, protocol: str, client_key: str) -> UploadSession | None:
    """Return the owner's last upload with a client key that has ended without a file.

    None where another one has been opened since.
    """
    uploads = by_key(owner, protocol, client_key)
    upload = uploads.order_by("created_at").last()
    return upload if upload is not None and upload.is_gone else None


def forget_key(owner: Owner, protocol: str, client_key: str) -> None:
    """Let the client begin anew under a key whose uploads have all ended."""
    by_key(owner, protocol, client_key).filter(state__in=GONE_STATES).update(
        client_key=None
    )


def by_key(owner: Owner, protocol: str, client_key: str) -> QuerySet[UploadSession]:
    uploads = UploadSession.objects.filter(
        owner=owner.key, protocol=protocol, client_key=client_key
    )
    return uploads.exclude(owner="")


def last_completed(uploads: QuerySet[UploadSession]) -> UploadSession | None:
    """Return the upload that was completed last, for as long as it counts."""
    upload = uploads.filter(state=State.COMPLETE).order_by("completed_at").last()
    if upload is None or upload.completed_at is None:
        return None
    kept_for = policy_of(upload).lifetime
    return upload if timezone.now() - upload.completed_at < kept_for else None


def take_offset(upload: UploadSession) -> UploadSession:
    """Return the upload as it is, with an offset that stays true.

    Any other request that is appending loses the right to. One whose connection has
    just broken is given a moment to record what came; one that hangs is not waited for.
    """
    appending = upload.state == State.RECEIVING and upload.lease
    if appending and upload.addressed_by != AddressedBy.NUMBER:
        _await_last_words(upload)
    told = change_receiving(
        upload,
        {"lease": new_lease()},
        told=TAKEN,
        addressed_by__not=AddressedBy.NUMBER,
    )
    if told is None:
        return refreshed(upload)
    return changed(upload, told)


def _await_last_words(upload: UploadSession) -> None:
    store = store_for(upload.storage)
    for wait in LAST_WORDS:
        if not store.is_being_written(upload.pk):
            return
        time.sleep(wait)
