"""A Content-Type that Django cannot read is answered by 400.

Django reads it before any handler of its own could catch what goes wrong, and takes the
name of any codec for a charset: the server would answer by 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def refuse_unreadable(application: Application) -> Application:
    """Return a WSGI application that asks another one where Django is able to."""

    def answer(
        request: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if is_readable(request.get("CONTENT_TYPE") or ""):
            return application(request, start_response)
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"The Content-Type is malformed.\n"]

    return answer


def is_readable(content_type: str) -> bool:
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", "utf-8")
        b"a".decode(charset, "replace")
    except (LookupError, ValueError):
        return False
    return True
