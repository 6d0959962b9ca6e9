"""A Content-Type that Django cannot read is answered by 400.

Django reads it before any handler of its own could catch what goes wrong, and takes the
name of any codec for a charset: the server would answer by 500.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
AsyncApplication = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

# What nearly all clients say.
_PLAIN = re.compile(r"[a-z0-9/+.-]*(?:; ?boundary=[0-9A-Za-z_-]+)?")

KIND, SAID = "text/plain", b"The Content-Type is malformed.\n"


def refuse_unreadable(application: Application) -> Application:
    """Return a WSGI application that asks another one where Django is able to."""

    def answer(
        request: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if is_readable(request.get("CONTENT_TYPE") or ""):
            return application(request, start_response)
        start_response("400 Bad Request", [("Content-Type", KIND)])
        return [SAID]

    return answer


def refuse_unreadable_async(application: AsyncApplication) -> AsyncApplication:
    """Return an ASGI application that asks another one where Django is able to."""

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if all(map(is_readable, _content_types(scope))):
            return await application(scope, receive, send)
        headers = [(b"content-type", KIND.encode())]
        start = {"type": "http.response.start", "status": 400, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": SAID})

    return answer


def _content_types(scope: dict[str, Any]) -> list[str]:
    """Return what Django would read; several headers are one value for it."""
    named = scope.get("headers") or []
    values = [value for name, value in named if name.lower() == b"content-type"]
    return [value.decode("latin-1") for value in (*values, b",".join(values))]


def is_readable(content_type: str) -> bool:
    if _PLAIN.fullmatch(content_type):
        return True
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", "utf-8")
        b"a".decode(charset, "replace")
    except (LookupError, ValueError):
        return False
    return True
