"""What clients of the IETF draft send: request by request, as they do."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import urlsplit

from .client import Answer
from .tus import named

URL = "/uploads/ietf/"
V8 = {"Upload-Draft-Interop-Version": "8"}
PARTIAL = {"Content-Type": "application/partial-upload"}


def complete(ends: bool) -> dict[str, str]:
    return {"Upload-Complete": "?1" if ends else "?0"}


def create(
    me: Any, body: Any = b"", ends: bool = False, method: str = "POST", **headers: Any
) -> Answer:
    sent = V8 | {"Content-Type": ""} | complete(ends) | named(headers)
    return me.request(method, URL, body, sent)


def begin(me: Any, body: Any = b"", **headers: Any) -> str:
    """Begin an upload that is not at its end; return its path."""
    answer = create(me, body, **headers)
    assert answer.status == 201, answer.body
    return path(answer)


def path(answer: Answer) -> str:
    return urlsplit(answer.headers["Location"]).path


def append(
    me: Any, url: str, offset: Any, body: Any, ends: bool = False, **headers: Any
) -> Answer:
    sent = V8 | PARTIAL | complete(ends) | {"Upload-Offset": str(offset)}
    return me.request("PATCH", url, body, sent | named(headers))


def head(me: Any, url: str) -> Answer:
    return me.request("HEAD", url, headers=V8)


def delete(me: Any, url: str) -> Answer:
    return me.request("DELETE", url, headers=V8)


def offset_of(me: Any, url: str) -> int:
    answer = head(me, url)
    assert answer.status == 204
    return int(answer.headers["Upload-Offset"])


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
