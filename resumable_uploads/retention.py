"""Uploads nobody came back for, and whatever else was left lying.

All of it is done in batches, decided by states and conditional updates: nothing that is
still being sent, complete or claimed is ever touched.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from django.core.files.storage import InvalidStorageError
from django.db.models import Q, QuerySet
from django.utils import timezone

from . import assembly, engine, errors, runner, webhooks
from .conf import setting
from .models import (
    END_STATES,
    GONE_STATES,
    Chunk,
    Holding,
    OwnerLock,
    State,
    UploadSession,
)
from .policies import get_policy
from .stores import Store, store_for
from .transactions import after_commit

log = logging.getLogger(__name__)

# A folder without a row has lost it for good; this only spares clocks and replicas.
ORPHANS_ARE_OLDER_THAN = timedelta(hours=1)
RESEND_AT_MOST = 1000
OWNERS_KEPT_FOR = timedelta(days=1)
# What was changed past the engine, or while there was no quota, counts after that.
HOLDINGS_KEPT_FOR = timedelta(hours=1)


@dataclass
class Purged:
    """What a purge has done, or would do: numbers of uploads."""

    expired: int = 0
    forgotten: int = 0
    settled: int = 0


def purge(
    batch_size: int | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
    at_most: int | None = None,
) -> Purged:
    """Expire uploads whose time is up and forget those ended long ago.

    With ``older_than``, uploads that have been idle for so long expire too. At most so
    many of each kind; memory and the length of transactions are bounded by the batch.
    """
    size = batch_size or setting("PURGE_BATCH_SIZE")
    idle = _idle(older_than)
    if dry_run:
        forgotten = _those(_forgettable()).count()
        return Purged(_those(idle).count(), forgotten, _unsettled().count())
    webhooks.forget(size)
    return Purged(
        expired=_in_batches(idle, size, at_most, _expire_batch),
        forgotten=_in_batches(_forgettable(), size, at_most, _forget_batch),
        settled=settle_left_overs(size),
    )


def _idle(older_than: timedelta | None) -> Q:
    if older_than is None:
        return engine.is_overdue()
    return engine.is_overdue() | engine.is_idle_since(timezone.now() - older_than)


def _those(which: Q) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(which)


def _in_batches(which: Q, size: int, at_most: int | None, verb: Any) -> int:
    """Do a verb to all uploads of a kind, batch after batch; return to how many.

    A batch to which another purge was quicker is no reason to stop.
    """
    # The order of an index: without, PostgreSQL may go through the whole table for each
    # batch, by what it knew of it before the purge.
    keys, total = _those(which).order_by("state", "expires_at").values_list("pk"), 0
    before: list[uuid.UUID] = []
    while at_most is None or total < at_most:
        wanted = size if at_most is None else min(size, at_most - total)
        batch = [pk for (pk,) in keys[:wanted]]
        done = verb(batch, which) if batch else 0
        total += done
        if len(batch) < wanted or (not done and batch == before):
            break
        before = batch
    return total


def _expire_batch(batch: list[uuid.UUID], which: Q) -> int:
    expired = engine.expire_all(engine.among(batch, which))
    engine.settle(batch)
    return expired


def _forgettable() -> Q:
    """Tell of an upload that it is a tombstone that nobody asks about any more."""
    return Q(state__in=GONE_STATES, settled=True, expires_at__lte=timezone.now())


def _forget_batch(batch: list[uuid.UUID], which: Q) -> int:
    # Other apps may refer to uploads, so that their on_delete has to be heeded.
    _, by_model = engine.among(batch, which).delete()
    return by_model.get(UploadSession._meta.label, 0)


# What the index of the unsettled ones says of them, without parameters: only so SQLite
# sees that it has them all, and does not go through whatever has ever ended.
_IN_INDEX = f"NOT settled AND state IN ({', '.join(repr(s.value) for s in END_STATES)})"


def _unsettled() -> QuerySet[UploadSession]:
    return UploadSession.objects.extra(where=[_IN_INDEX]).filter(  # nosec B610
        active_at__lt=timezone.now() - engine.SETTLING_TAKES
    )


def settle_left_overs(batch_size: int) -> int:
    """Do what a process that died had still to do after an end."""
    # Not by the key alone, which PostgreSQL would go through from end to end.
    left_over = _unsettled().order_by("state", "pk").values_list("state", "pk")
    total, after = 0, Q()
    while found := list(left_over.filter(after)[:batch_size]):
        batch = [pk for _, pk in found]
        _supersede(batch)
        total += engine.settle(batch)
        state, pk = found[-1]
        after = Q(state__gt=state) | Q(state=state, pk__gt=pk)
    return total


def _supersede(batch: list[uuid.UUID]) -> None:
    """Drop the files in whose place others have come before their process died."""
    complete = UploadSession.objects.filter(pk__in=batch, state=State.COMPLETE)
    for upload in complete.exclude(object_key=""):
        engine.supersede(upload)


def resend() -> int:
    """Nudge the assembly of uploads that wait for it; return how many.

    Webhooks that are due are sent again as well.
    """
    now = timezone.now()
    # Those nudged a moment ago are left alone: their message may still be in line.
    waiting = assembly.waiting(now).filter(
        active_at__lt=now - setting("ASSEMBLY_TIMEOUT")
    )
    pks = list(waiting.values_list("pk", flat=True)[:RESEND_AT_MOST])
    waiting.filter(pk__in=pks).update(lease="", active_at=now)
    for pk in pks:
        runner.nudge(runner.ASSEMBLE, pk)
    if webhooks.due(now).exists():
        runner.nudge(runner.DELIVER)
    return len(pks)


def housekeep() -> Purged:
    """Do all that is to be done now and then."""
    resend()
    _forget_owners()
    return purge()


def _forget_owners() -> None:
    """Drop what is known of owners for long: who comes back is counted anew."""
    now, size = timezone.now(), setting("PURGE_BATCH_SIZE")
    for rows in (
        OwnerLock.objects.filter(taken_at__lt=now - OWNERS_KEPT_FOR),
        Holding.objects.filter(counted_at__lt=now - HOLDINGS_KEPT_FOR),
    ):
        while batch := list(rows.values_list("pk", flat=True)[:size]):
            rows.filter(pk__in=batch).delete()


# Orphans


def stores() -> list[Store]:
    """Return the stores of all policies."""
    aliases = {get_policy(name).storage for name in setting("POLICIES")}
    return [store_for(alias) for alias in sorted(aliases)]


def orphans(store: Store) -> Iterator[uuid.UUID]:
    """Yield the uploads whose bytes lie in a store for nothing.

    An upload's folder is judged by the upload's own state, never by its age alone.
    """
    ids = store.uploads()
    while batch := list(islice(ids, setting("PURGE_BATCH_SIZE"))):
        rows = dict(
            UploadSession.objects.filter(pk__in=batch).values_list("pk", "state")
        )
        lent = set(
            Chunk.objects.filter(source__in=batch).values_list("source", flat=True)
        )
        for pk in batch:
            if pk not in lent and _is_orphan(store, pk, rows.get(pk)):
                yield pk


def _is_orphan(store: Store, pk: uuid.UUID, state: str | None) -> bool:
    if state is not None and (state not in END_STATES or not store.doomed(pk)):
        return state in END_STATES
    age = time.time() - store.touched_at(pk)
    return age > ORPHANS_ARE_OLDER_THAN.total_seconds()


def sweep() -> int:
    """Drop the bytes that belong to no upload; return of how many uploads."""
    swept = 0
    for store in stores():
        for pk in orphans(store):
            try:
                _drop_orphan(store, pk)
                swept += 1
            except (OSError, errors.UploadError):
                log.warning("Orphan %s could not be dropped", pk, exc_info=True)
    return swept


def _drop_orphan(store: Store, pk: uuid.UUID) -> None:
    """Drop bytes without an upload, and files that were to go and are still there."""
    if name := store.doomed(pk):
        row = UploadSession.objects.filter(pk=pk).first()
        is_file = not name.endswith("/")
        if is_file and (row is None or row.is_gone):
            store.delete_file(pk, name)
        # Of a folder whose row has gone nobody knows which file is to stay.
        if is_file or row is not None:
            assembly.drop_strays(store, pk, name)
    store.release(pk)


def forget_bytes(sender: Any, instance: UploadSession, **kwargs: Any) -> None:
    """Drop the bytes of an upload whose row is about to be deleted, after the commit.

    The file of a complete upload goes as well, unless another model has claimed it.
    """
    if instance.is_gone and instance.settled:
        return
    # First of all the row: a chunk that is just being recorded comes before the end of
    # it, or finds it gone.
    rows = UploadSession.objects.filter(pk=instance.pk)
    rows.update(lease="")
    upload = rows.first() or instance
    try:
        store = store_for(upload.storage)
    except InvalidStorageError:
        log.warning("The bytes of upload %s are left: no such storage", upload.pk)
        return
    keys = engine.chunk_keys(store, upload)
    if _takes_file_along(store, upload):
        keys += _doomed(store, upload)

    def drop() -> None:
        if _takes_file_along(store, upload):
            store.delete_file(upload.pk, upload.file_name)
        store.release(upload.pk, keys)
        if upload.state == State.ASSEMBLING and not store.finishes_at_once:
            # Whoever is about to publish it may die before he finds that it has gone.
            _doomed(store, upload)

    after_commit(drop, robust=True)


def _takes_file_along(store: Store, upload: UploadSession) -> bool:
    return not upload.claimed_at and engine.has_made_file(store, upload)


def _doomed(store: Store, upload: UploadSession) -> list[str]:
    """Note which file goes; return the key of the note, where it could be written."""
    try:
        return [store.doom(upload.pk, upload.file_name)] if upload.file_name else []
    except Exception:
        log.warning("Nobody else would delete %s", upload.file_name, exc_info=True)
        return []
