"""Where a request comes from, in place of a CSRF token, and CORS.

For protocols whose clients send no token. What a page of another site can do without
asking is a plain form or a plain GET; all else its browser first asks permission for,
by a preflight. Who requires a method or a header that is not plain, and answers no such
question, is safe. ``Origin`` and ``Sec-Fetch-Site`` are looked at as well.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.cache import patch_vary_headers
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request

ANY = "*"
# Seconds that a browser may remember what it was allowed.
MAX_AGE = 86400


class SessionWithoutToken(SessionAuthentication):
    """Who is logged in, without the check that the view makes in another way."""

    def enforce_csrf(self, request: Request) -> None:
        return


def without_token(authenticators: list[Any]) -> list[Any]:
    """Return the project's authenticators, none of which asks for a CSRF token."""
    return [
        SessionWithoutToken() if isinstance(one, SessionAuthentication) else one
        for one in authenticators
    ]


def is_from_here(request: Any) -> bool:
    """Tell whether it comes from this site, one that is trusted, or no browser."""
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        site = request.META.get("HTTP_SEC_FETCH_SITE", "none")
        return site in ("same-origin", "none")
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    # The scheme may be another one behind a front server.
    if host == request.get_host():
        return True
    return CsrfViewMiddleware(lambda _: HttpResponse())._origin_verified(
        getattr(request, "_request", request)
    )


class Cors:
    """What pages of other origins may do, and the headers that say so."""

    def __init__(
        self, origins: Collection[str], credentials: bool, methods: str, headers: str
    ) -> None:
        self.origins = origins
        # Everybody's pages with this visitor's cookies would be nobody's intention.
        self.credentials = credentials and ANY not in origins
        self.methods = methods
        self.headers = headers

    def admits(self, origin: str | None) -> bool:
        return origin is not None and (ANY in self.origins or origin in self.origins)

    def answer(self, request: Any, response: Any, exposed: str) -> None:
        """Add to a response what a page of another origin needs to read it."""
        if not self.origins:
            return
        if ANY not in self.origins:
            patch_vary_headers(response, ("Origin",))
        origin = request.META.get("HTTP_ORIGIN")
        if not self.admits(origin):
            return
        response["Access-Control-Allow-Origin"] = ANY if ANY in self.origins else origin
        if self.credentials:
            response["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            response["Access-Control-Allow-Methods"] = self.methods
            response["Access-Control-Allow-Headers"] = self.headers
            response["Access-Control-Max-Age"] = str(MAX_AGE)
        else:
            response["Access-Control-Expose-Headers"] = exposed
