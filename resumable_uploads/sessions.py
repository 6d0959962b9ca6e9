"""Sessions in the database, looked up by a statement that is put together once.

``SESSION_ENGINE = "resumable_uploads.sessions"``. All else is as in Django's own engine
of the database, with the same table: either can be chosen at any time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.core import signing
from django.utils import timezone

from .lookups import Lookup

_by_key = Lookup(Session, ("session_key",))


class SessionStore(db.SessionStore):
    """A session in the database."""

    def _get_session_from_db(self) -> Any:
        found = _by_key(self.session_key)
        if found is None or found.expire_date <= timezone.now():
            # As Django's does: a session that is not there any more gets another key.
            self._session_key = None
            return None
        return found

    def decode(self, session_data: str) -> dict[str, Any]:
        try:
            said = _signed(session_data, self.key_salt, *_keys())
            return self.serializer().loads(said)
        except Exception:
            # What is wrong with it is for Django to judge.
            return super().decode(session_data)


def _keys() -> tuple[str, tuple[str, ...]]:
    return settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=256)
def _signed(text: str, salt: str, *keys: Any) -> bytes:
    """Return what a text says if it is signed. Raise BadSignature.

    A visitor's session is the same in all their requests. What has been found to be
    signed by these keys is so the next time, too.
    """
    return signing.loads(text, salt=salt, serializer=_AsItIs)


class _AsItIs:
    def loads(self, data: bytes) -> bytes:
        return data
