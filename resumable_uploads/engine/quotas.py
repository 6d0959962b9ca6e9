"""How much one owner may hold, counted by one request at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, router
from django.db.models import BigIntegerField, Model, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from .. import errors
from ..changes import Plus, change
from ..lookups import quoted_table
from ..models import (
    GONE_STATES,
    OPEN_INDEX,
    OPEN_STATES,
    Holding,
    OwnerLock,
    State,
    UploadSession,
)
from ..owners import Owner
from ..policies import UploadPolicy
from ..statements import Statement, kept
from .rows import WAITING_STATES

NO_LIMIT = 2**63 - 1


def check_quota(
    upload: UploadSession,
    policy: UploadPolicy,
    owner: Owner,
    growth: int,
    is_counted: bool = False,
) -> None:
    """Raise QuotaExceeded or TooManyUploads; within the transaction of the growth.

    ``growth`` is in bytes; ``is_counted`` says that it is in the upload's row by now.
    """
    quota = policy.get_quota(owner)
    max_open = policy.max_open if upload._state.adding else None
    fits = True
    if quota is not None:
        fits = _hold(policy, owner, growth, quota, is_counted)
    elif max_open is not None:
        lock_owner(owner.key)
    # From here on no other request of the owner gets past the lines above.
    if max_open is not None and _count_open(policy, owner) >= max_open:
        raise errors.TooManyUploads(max_open=max_open)
    if not fits:
        raise errors.QuotaExceeded(quota=quota)


def lock_owner(owner: str) -> None:
    """Have the owner's other requests that ask for it wait for the transaction."""
    row = OwnerLock(owner=owner, taken_at=timezone.now())
    _lock(row, {"taken_at": row.taken_at})


def hold(policy: UploadPolicy, owner: Owner, size: int) -> None:
    """Note that an owner holds so many bytes more, whatever the quota says of it."""
    change(Holding, _key(policy, owner), {"held": Plus(size)})


def _hold(
    policy: UploadPolicy, owner: Owner, growth: int, quota: int, is_counted: bool
) -> bool:
    """Return whether a growth fits in the quota, and if so, note it.

    What the owner's uploads hold is added up only where the bound that is known does
    not leave room; then until the end of the transaction by nobody else.
    """
    key, room = _key(policy, owner), min(quota, NO_LIMIT) - growth
    if change(Holding, key, {"held": Plus(growth)}, held__at_most=room) is not None:
        return True
    row = Holding(key=key, held=0, counted_at=timezone.now())
    _lock(row, {"counted_at": row.counted_at})
    held = _held(policy, owner) + (0 if is_counted else growth)
    if held > quota:
        return False
    change(Holding, key, {"held": held})
    return True


def _key(policy: UploadPolicy, owner: Owner) -> str:
    return f"{policy.name}\n{owner.key}"


def _lock(row: Model, to: dict[str, Any]) -> None:
    """Lock a row by changing it; where there is none yet, add this one."""
    if change(type(row), row.pk, to) is None:
        type(row)._default_manager.bulk_create([row], ignore_conflicts=True)
        change(type(row), row.pk, to)


def _count_open(policy: UploadPolicy, owner: Owner) -> int:
    """Return how many uploads an owner has open; counted by the index of just those.

    Those whose time is up are as good as gone, though the purge has yet to come. Of
    what others are made of nobody is sending any more.
    """
    connection = connections[router.db_for_write(UploadSession)]
    statement, expiry = kept(connection, _count_open, lambda: _counting(connection))
    now = expiry.get_db_prep_value(timezone.now(), connection)
    found = statement.first([owner.key, policy.name, now])
    return found[0] if found else 0


def _counting(connection: Any) -> tuple[Statement, Any]:
    def listed(states: Sequence[State]) -> str:
        # No parameters: databases must see that the index has all of them.
        return ", ".join(f"'{state.value}'" for state in states)

    # Without figures about its tables, SQLite would go through all of the owner's.
    by = f"INDEXED BY {OPEN_INDEX}" if connection.vendor == "sqlite" else ""
    sql = f"""
        SELECT COUNT(*) FROM {quoted_table(UploadSession, connection)} {by}
        WHERE owner = %s AND policy = %s AND state IN ({listed(OPEN_STATES)})
        AND (state NOT IN ({listed(WAITING_STATES)}) OR expires_at > %s)
        AND (state <> '{State.RECEIVING.value}' OR ends_when_full
             OR length IS NULL OR length = 0 OR received <> length)
    """  # nosec B608
    return Statement(connection, sql), UploadSession._meta.get_field("expires_at")


def _held(policy: UploadPolicy, owner: Owner) -> int:
    """Return how many bytes uploads take: those sent, and those announced."""
    mine = UploadSession.objects.filter(owner=owner.key, policy=policy.name)
    there = mine.exclude(state__in=GONE_STATES).exclude(
        state__in=WAITING_STATES, expires_at__lte=timezone.now()
    )
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


def check_growth(upload: UploadSession, policy: UploadPolicy, growth: int) -> None:
    """Hold an upload of unknown length, which reserved nothing, to the quota.

    Its row has grown by so many bytes in this transaction.
    """
    if upload.length is None:
        owner = owner_of_upload(upload)
        check_quota(upload, policy, owner, growth, is_counted=True)
