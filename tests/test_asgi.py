"""The demo under ASGI: what Django cannot read is refused there as well."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from django.core.asgi import get_asgi_application

from project.asgi import application

UNREADABLE = [
    "a; x*=nope''%41",
    "a/b; charset=hex",
    "a/b; charset=idna",
    "a; x*=\u00e9''%41",
]

pytestmark = [
    pytest.mark.once,
    # Requests are answered in other threads, with connections of their own.
    pytest.mark.django_db(transaction=True),
]


def asked(app: Any, *kinds: str, path: str = "/uploads/") -> int:
    """Send a request with these Content-Types as an ASGI server would."""
    said: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"a=%41",
        "headers": [(b"host", b"127.0.0.1")]
        + [(b"content-type", kind.encode()) for kind in kinds],
    }

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def ask() -> None:
        coming = asyncio.Queue[dict[str, Any]]()
        coming.put_nowait({"type": "http.request", "body": b"{}"})
        await app(scope, coming.get, send)

    asyncio.run(ask())
    return said[0]["status"]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_content_type_that_django_cannot_read_is_refused(kind):
    assert asked(application, kind) == 400
    assert asked(application, "text/plain", kind) == 400


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_django_alone_would_raise():
    """Once it does not, the wrapper has no reason any more."""
    with pytest.raises((LookupError, ValueError)):
        asked(get_asgi_application(), UNREADABLE[0])
    # Django forgets to close the body that it does not come to read.
    gc.collect()


def test_other_requests_are_answered_by_django():
    # Without a token: by 403.
    assert asked(application, "application/json") == 403
    assert asked(application) == 403
