"""How much one owner may hold, counted by one request at a time."""

from __future__ import annotations

from django.db.models import BigIntegerField, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from .. import errors
from ..models import GONE_STATES, OPEN_STATES, OwnerLock, State, UploadSession
from ..owners import Owner
from ..policies import UploadPolicy
from .rows import WAITING_STATES

NO_LIMIT = 2**63 - 1
# All of it is there, and others may still be made of it: nobody is sending it any more.
_IS_FULL_PART = Q(
    state=State.RECEIVING,
    ends_when_full=False,
    length__gt=0,
    received=F("length"),
)


def check_quota(
    upload: UploadSession, policy: UploadPolicy, owner: Owner, growth: int
) -> None:
    """Raise QuotaExceeded or TooManyUploads; within the transaction of the growth."""
    quota = policy.get_quota(owner)
    if quota is None and policy.max_open is None:
        return
    lock_owner(owner.key)
    # Those whose time is up are as good as gone, though the purge has yet to come.
    mine = UploadSession.objects.filter(owner=owner.key, policy=policy.name).exclude(
        state__in=WAITING_STATES, expires_at__lte=timezone.now()
    )
    max_open = policy.max_open if upload._state.adding else None
    is_open = mine.filter(state__in=OPEN_STATES).exclude(_IS_FULL_PART)
    if max_open is not None and is_open.count() >= max_open:
        raise errors.TooManyUploads(max_open=max_open)
    if quota is not None and _held(mine) + growth > quota:
        raise errors.QuotaExceeded(quota=quota)


def lock_owner(owner: str) -> None:
    """Have the owner's other requests that ask for it wait for the transaction."""
    now = timezone.now()
    if not OwnerLock.objects.filter(owner=owner).update(taken_at=now):
        OwnerLock.objects.bulk_create(
            [OwnerLock(owner=owner, taken_at=now)], ignore_conflicts=True
        )
        OwnerLock.objects.filter(owner=owner).update(taken_at=now)


def _held(uploads: QuerySet[UploadSession]) -> int:
    """Return how many bytes uploads take: those sent, and those announced."""
    there = uploads.exclude(state__in=GONE_STATES)
    sizes = Sum(Coalesce("length", "received"), output_field=BigIntegerField())
    return there.aggregate(held=sizes)["held"] or 0


def room_for(upload: UploadSession, policy: UploadPolicy) -> int:
    """Return how long the file may become, in bytes."""
    if upload.length is not None:
        return upload.length
    max_size = policy.get_max_size(owner_of_upload(upload))
    return NO_LIMIT if max_size is None else max_size


def owner_of_upload(upload: UploadSession) -> Owner:
    return Owner(upload.owner, upload.user)


def check_growth(upload: UploadSession, policy: UploadPolicy) -> None:
    """Hold an upload of unknown length, which reserved nothing, to the quota."""
    if upload.length is None:
        check_quota(upload, policy, owner_of_upload(upload), 0)
