"""A session's row: what it must be like for a verb, and how its time slides."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

from django.db import connections, router
from django.db.models import QuerySet
from django.db.models.sql import InsertQuery
from django.utils import timezone

from .. import errors
from ..changes import change, new
from ..lookups import Lookup
from ..models import AddressedBy, State, UploadSession
from ..policies import UploadPolicy, policy_of
from ..statements import Statement, kept
from ..values import Preparers, prepared, preparers

upload_by_id = Lookup(UploadSession, ("id",))

# All bytes are there: a repeat of any of them is harmless.
FULL_STATES = (State.ASSEMBLING, State.COMPLETE)


# It is somebody's turn; if nobody takes it, the time is up one day.
WAITING_STATES = (State.RECEIVING, State.FAILED)


# Sliding the expiry with every chunk would touch an index each time.
SLIDE_STEP = timedelta(minutes=1)


def refreshed(upload: UploadSession) -> UploadSession:
    """Return the upload as it is now. Raise NotFound where its row is gone."""
    found = upload_by_id(upload.pk)
    if found is None:
        raise errors.NotFound
    return found


def outcome(upload: UploadSession) -> UploadSession:
    """Return the upload with what has become of it since bytes of it were recorded.

    One that takes more of them is returned as it was then, without another look.
    """
    return upload if upload.state == State.RECEIVING else refreshed(upload)


def made(**values: Any) -> UploadSession:
    """Return a row that is still to be added; the values by the names of columns."""
    own = {"id": uuid.uuid4(), "metadata": {}}
    return new(UploadSession, **_blank() | own | values)


@cache
def _blank() -> dict[str, Any]:
    """Return what a new row has in each of its columns."""
    row = UploadSession()
    return {name: row.__dict__[name] for name in _NAMES}


def add(upload: UploadSession) -> None:
    """Add the row of a new upload. Raise IntegrityError as ``save`` does.

    By the statement of ``save``, which is put together once; no signals are sent.
    """
    connection = connections[router.db_for_write(UploadSession)]
    statement, prepare = kept(connection, add, lambda: _adding(upload, connection))
    statement.run(prepared(prepare, _values(upload)))
    upload._state.adding, upload._state.db = False, connection.alias


_FIELDS = UploadSession._meta.concrete_fields
_NAMES = [field.attname for field in _FIELDS]
# No field has anything to do before a row is added: there is no file yet, and who adds
# it says when that is.
_values = attrgetter(*_NAMES)


def _adding(upload: UploadSession, connection: Any) -> tuple[Statement, Preparers]:
    query = InsertQuery(UploadSession)
    query.insert_values(_FIELDS, [upload])
    [(sql, _)] = query.get_compiler(connection=connection).as_sql()
    prepare = preparers(_FIELDS, connection, "get_db_prep_save")
    return Statement(connection, sql), prepare


def check_not_ended(upload: UploadSession) -> UploadSession:
    """Return an upload that takes chunks, or repeats of them; else raise."""
    return upload if upload.state in FULL_STATES else check_receiving(upload)


def end_if_full(upload: UploadSession, received: int, chunk_count: int) -> None:
    """Have the file assembled if its row, as it is now in this transaction, is full.

    Whoever commits the last chunk decides, so a full upload cannot be left unfinished.
    """
    upload.received, upload.chunk_count = received, chunk_count
    upload.addressed_by = upload.addressed_by or AddressedBy.NUMBER
    if upload.ends_when_full and upload.is_full:
        change_receiving(upload, ENDED)
        upload.state = State.ASSEMBLING


ENDED: dict[str, Any] = {
    "state": State.ASSEMBLING,
    "lease": "",
    "attempts": 0,
    "retry_at": None,
    "error_code": "",
    "error": "",
}


def new_lease() -> str:
    return os.urandom(16).hex()


def receiving(upload: UploadSession) -> QuerySet[UploadSession]:
    return UploadSession.objects.filter(pk=upload.pk, state=State.RECEIVING)


def change_receiving(
    upload: UploadSession,
    to: Mapping[str, Any],
    told: tuple[str, ...] = (),
    **where: Any,
) -> dict[str, Any] | None:
    """Change the row of an upload that takes chunks, and is as it is said to be.

    What ``receiving(upload).filter(...).update(...)`` does, for what is done for each
    chunk. Return None where nothing was changed; see ``changes.change``.
    """
    return change(UploadSession, upload.id, to, told, state=State.RECEIVING, **where)


def check_receiving(upload: UploadSession) -> UploadSession:
    """Return an upload that takes chunks. Raise Gone or NotReceiving for any other."""
    if upload.is_gone:
        raise errors.Gone(state=upload.state)
    if upload.state != State.RECEIVING:
        raise errors.NotReceiving(state=upload.state)
    return upload


def slid(
    upload: UploadSession, policy: UploadPolicy, now: datetime
) -> dict[str, datetime]:
    """Return the new expiry of an active upload, if it is worth an index update."""
    expires_at = policy.expiry(upload.created_at, now)
    step = min(SLIDE_STEP, policy.lifetime / 100)
    return {"expires_at": expires_at} if expires_at - upload.expires_at > step else {}


def slide(upload: UploadSession) -> None:
    now = timezone.now()
    expiry = slid(upload, policy_of(upload), now)
    change_receiving(upload, {"active_at": now, **expiry})


def slide_if_near(upload: UploadSession) -> None:
    """Keep an upload from expiring while one of its chunks is on the way."""
    policy = policy_of(upload)
    if upload.expires_at - timezone.now() < policy.lifetime / 2:
        slide(upload)
