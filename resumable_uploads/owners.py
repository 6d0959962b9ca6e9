"""Who an upload belongs to: a user, or the browser session of a visitor.

An anonymous visitor is known by a random token kept *in* the session, not by the
session's key: the key changes at login and would have to be kept out of sight.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

SESSION_NAME = "resumable_uploads_owner"


@dataclass(frozen=True)
class Owner:
    """The owner of uploads; ``key`` is "" for nobody, who owns nothing."""

    key: str = ""
    user: Any = None

    def __bool__(self) -> bool:
        return bool(self.key)


NOBODY = Owner()
# Whoever knows an upload's URL, where the policy takes that for enough.
BEARER = Owner("url")


def owner_of(request: Any, create: bool = False) -> Owner:
    """Return who makes a request.

    A visitor without a session is NOBODY, unless ``create``: then the session is begun
    and saved at once, so that parallel first requests find the same one.
    """
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return Owner(f"user:{user.pk}", user)
    session = getattr(request, "session", None)
    if session is None:
        return NOBODY
    token = session.get(SESSION_NAME)
    if token is None and create:
        token = session[SESSION_NAME] = secrets.token_urlsafe(24)
        session.save()
    return Owner(f"session:{token}") if token else NOBODY
