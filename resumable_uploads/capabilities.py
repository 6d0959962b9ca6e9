"""Capabilities: the right to send bytes to one upload, signed for its owner.

Whoever has proven to be the owner of an upload is given a word that proves it again for
a while, without a session: only the upload's row, and the user's beside it, are looked
at. It is good for sending bytes, and to hear where to go on; for nothing else. The word
names its upload: not each protocol has that in its URLs.

What takes it back before its time: the end of the upload, another password, and a user
who is deleted or not active any more.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.contrib.auth.backends import ModelBackend
from django.db import router
from django.utils.crypto import constant_time_compare, salted_hmac

from .conf import setting
from .lookups import Lookup, PairLookup
from .models import State, UploadSession
from .owners import BEARER, Owner

_SALT = "resumable_uploads.capabilities"
# Which upload, since when, and what proves it.
_WORD = re.compile(r"([0-9a-f-]{36})\.([0-9a-f]{1,16})\.([0-9a-f]{64})")
# What a request that brings bytes is judged by.
_FACTS = (
    *("id", "owner", "user", "protocol", "policy", "storage", "client_key", "filename"),
    *("length", "chunk_size", "chunk_total", "ends_when_full"),
    *("received", "chunk_count", "addressed_by", "state", "lease"),
    *("created_at", "expires_at"),
)
_upload_by_id = Lookup(UploadSession, ("id",), only=_FACTS)


@dataclass(frozen=True)
class Capability:
    """What a good word has proven: whose upload it is, and the upload itself."""

    owner: Owner
    upload: UploadSession


def issue(upload: UploadSession, owner: Owner) -> str:
    """Return the word that is good for this upload, or "" where there is none.

    The caller has seen that it is the owner's.
    """
    is_theirs = owner and owner != BEARER and upload.owner == owner.key
    if not is_theirs or upload.state != State.RECEIVING or not _are_on(owner):
        return ""
    issued = format(int(time.time()), "x")
    return f"{upload.pk}.{issued}.{_signature(upload, owner, issued)}"


def prove(word: str, upload_id: str = "") -> Capability | None:
    """Return what a word proves, or None: then others have to ask.

    Where an upload is asked for, of that one only.
    """
    if not (said := _WORD.fullmatch(word)):
        return None
    named, issued, signature = said.groups()
    if upload_id not in ("", named) or not _is_fresh(issued):
        return None
    try:
        found = _found(uuid.UUID(named))
    except ValueError:
        return None
    if found is None or not _are_on(found.owner):
        return None
    expected = _signature(found.upload, found.owner, issued)
    return found if constant_time_compare(signature, expected) else None


def _is_fresh(issued: str) -> bool:
    age = time.time() - int(issued, 16)
    lifetime: timedelta | None = setting("CAPABILITIES_EXPIRE_IN")
    # Another host's clock may be a little ahead.
    return lifetime is not None and -60 < age < lifetime.total_seconds()


def _found(pk: uuid.UUID) -> Capability | None:
    upload = user = None
    if _is_user_beside():
        upload, user = _upload_and_user(get_user_model())(pk) or (None, None)
    else:
        upload = _upload_by_id(pk)
    if upload is None:
        return None
    if not upload.owner.startswith("user:"):
        return Capability(Owner(upload.owner), upload)
    # Who was deleted has left uploads of nobody; who may not log in may not send.
    if user is None or not user.is_active or upload.owner != f"user:{user.pk}":
        return None
    return Capability(Owner(upload.owner, user), upload)


@cache
def _upload_and_user(user: Any) -> PairLookup[UploadSession, Any]:
    on = {user._meta.pk.name: "user"}
    return PairLookup(UploadSession, user, on=on, only=_FACTS)


def _is_user_beside() -> bool:
    """Tell whether a user is one row of the same database."""
    user = get_user_model()
    is_one_row = all(field.model is user for field in user._meta.concrete_fields)
    same = router.db_for_read(user) == router.db_for_read(UploadSession)
    return is_one_row and same


def _are_on(owner: Owner) -> bool:
    """Tell whether a word can stand for what the site itself asks of such an owner."""
    if not setting("CAPABILITIES_EXPIRE_IN"):
        return False
    return owner.user is None or (_is_user_beside() and _asks_nothing_else())


def _asks_nothing_else() -> bool:
    """Tell whether users of a session are asked for nothing but to be active."""
    backends = map(load_backend, settings.AUTHENTICATION_BACKENDS)
    return all(
        isinstance(backend, ModelBackend)
        and type(backend).get_user is ModelBackend.get_user
        and type(backend).user_can_authenticate is ModelBackend.user_can_authenticate
        for backend in backends
    )


def _signature(upload: UploadSession, owner: Owner, issued: str) -> str:
    """Sign who may send to what, since when; a user's with what hangs on the password.

    Nothing of it can be moved to another field: none of the first three has a blank.
    """
    password = ""
    if hasattr(owner.user, "get_session_auth_hash"):
        password = owner.user.get_session_auth_hash()
    text = f"{upload.pk} {issued} {password} {owner.key}"
    return salted_hmac(_SALT, text, algorithm="sha256").hexdigest()
