"""What tus clients send: request by request, as they do."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .client import Answer

URL = "/uploads/tus/"
V1 = {"Tus-Resumable": "1.0.0"}
OFFSETS = {"Content-Type": "application/offset+octet-stream"}


def metadata(**values: str) -> dict[str, str]:
    """Return Upload-Metadata with these values."""
    pairs = [f"{key} {b64(value.encode())}" for key, value in values.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


DIGESTS = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}


def checksum(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {b64(DIGESTS[algorithm](data))}"}


def named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): str(value) for name, value in headers.items()}


def post(me: Any, body: Any = b"", url: str = URL, **headers: Any) -> Answer:
    """Send a creation, with bytes if there are any."""
    sent = V1 | (OFFSETS if body else {"Content-Type": ""}) | named(headers)
    return me.request("POST", url, body, sent)


def create(me: Any, size: int | None, body: Any = b"", **headers: Any) -> str:
    """Open an upload; return its path."""
    length = {"Upload_Defer_Length": 1} if size is None else {"Upload_Length": size}
    answer = post(me, body, **length, **headers)
    assert answer.status == 201, answer.body
    return path(answer)


def path(answer: Answer) -> str:
    return urlsplit(answer.headers["Location"]).path


def patch(me: Any, url: str, offset: Any, body: Any, **headers: Any) -> Answer:
    sent = V1 | OFFSETS | {"Upload-Offset": str(offset)} | named(headers)
    return me.request("PATCH", url, body, sent)


def head(me: Any, url: str, **headers: Any) -> Answer:
    return me.request("HEAD", url, headers=V1 | named(headers))


def delete(me: Any, url: str) -> Answer:
    return me.request("DELETE", url, headers=V1)


def options(me: Any, url: str = URL, **headers: Any) -> Answer:
    return me.request("OPTIONS", url, headers=named(headers))


def offset_of(me: Any, url: str) -> int:
    answer = head(me, url)
    assert answer.status == 200, answer.status
    return int(answer.headers["Upload-Offset"])


def cut(
    me: Any, url: str, offset: int, body: bytes, after: int, how: str = "fin", **more
) -> Any:
    """Announce a body and break off after so many bytes of it."""
    headers = V1 | OFFSETS | {"Upload-Offset": str(offset)} | named(more)
    return me.cut("PATCH", url, body, after, how, headers=headers)
