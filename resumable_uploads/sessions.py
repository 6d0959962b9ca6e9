"""Sessions in the database, looked up by a statement that is put together once.

``SESSION_ENGINE = "resumable_uploads.sessions"``. All else is as in Django's own engine
of the database, with the same table: either can be chosen at any time.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
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
