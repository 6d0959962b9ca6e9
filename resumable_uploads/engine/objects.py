"""Files that are found by a name in a bucket: of several, the last one completed."""

from __future__ import annotations

from contextlib import suppress

from django.db import connections
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Collate

from .. import errors
from ..models import State, UploadSession
from ..owners import Owner
from .ending import cancel
from .quotas import lock_owner

# Follows all that a key may have; no character, so no key has it.
LAST = "\U0010ffff"


def find_object(owner: Owner, object_key: str) -> UploadSession | None:
    """Return the owner's file with a key."""
    return _versions(owner, object_key).order_by("completed_at", "pk").last()


def delete_object(owner: Owner, object_key: str) -> None:
    """Delete the owner's file with a key, if there is one."""
    for upload in _versions(owner, object_key):
        _drop(upload)


def supersede(upload: UploadSession) -> None:
    """Delete the files whose key a file that was completed later has. Repeatable.

    Another one may be completed meanwhile. It is newer than the newest one seen here,
    so neither of the two is in the way of the other's stay.
    """
    owner, key = Owner(upload.owner), upload.object_key
    newest = find_object(owner, key) if key else None
    if newest is None:
        return
    same_moment = Q(completed_at=newest.completed_at, pk__lt=newest.pk)
    older = Q(completed_at__lt=newest.completed_at) | same_moment
    for other in _versions(owner, key).filter(older):
        _drop(other)


def is_being_made(owner: Owner, object_key: str, but: UploadSession) -> bool:
    """Tell whether another upload is just about to become the file with a key.

    Within a transaction; until its end no other upload of the owner can get there by a
    way that asks as well.
    """
    lock_owner(owner.key)
    rows = UploadSession.objects.filter(
        owner=owner.key, object_key=object_key, state=State.ASSEMBLING
    )
    return rows.exclude(pk=but.pk).exists()


def objects_after(owner: Owner, prefix: str, after: str) -> QuerySet[UploadSession]:
    """Return the owner's files whose keys begin so, and follow a key, by their bytes.

    Each has its key as ``name``.
    """
    newer = UploadSession.objects.filter(
        Q(completed_at__gt=OuterRef("completed_at"))
        | Q(completed_at=OuterRef("completed_at"), pk__gt=OuterRef("pk")),
        owner=owner.key,
        object_key=OuterRef("object_key"),
        state=State.COMPLETE,
    )
    rows = UploadSession.objects.filter(owner=owner.key, state=State.COMPLETE)
    rows = rows.exclude(object_key="").annotate(name=_by_bytes(rows))
    rows = rows.filter(name__gte=prefix, name__lt=prefix + LAST, name__gt=after)
    return rows.filter(~Exists(newer)).order_by("name")


def _by_bytes(rows: QuerySet[UploadSession]) -> Collate:
    """Compare keys as bytes; databases may be set up to compare them as words."""
    is_sqlite = connections[rows.db].vendor == "sqlite"
    return Collate(F("object_key"), "BINARY" if is_sqlite else "C")


def _versions(owner: Owner, object_key: str) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(
        owner=owner.key, object_key=object_key, state=State.COMPLETE
    ).exclude(owner="")


def _drop(upload: UploadSession) -> None:
    # A file that another model has claimed stays, as nobody else's business.
    with suppress(errors.NotReceiving):
        cancel(upload)
