"""Uploads through the native protocol, as its tests need them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from resumable_uploads import assembly, runner
from resumable_uploads.models import Chunk, UploadSession

from .client import Answer
from .visitor import Visitor

UPLOADS = "/uploads/"
JSON = {"Content-Type": "application/json"}
# What changes when somebody only asks.
PASSING = ("active_at", "expires_at", "lease")


def some_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes that are the same in every run, and compress badly."""
    return random.Random(seed).randbytes(size)


def open_upload(me: Visitor, size: int | None = 10, **said: Any) -> dict[str, Any]:
    """Open an upload and return it."""
    answer = me.post(UPLOADS, {"filename": "a.bin", "size": size} | said)
    assert answer.status == 201, answer.body
    return answer.json()


def chunk(upload: Mapping[str, Any], number: object) -> str:
    return f"{upload['url']}chunks/{number}/"


def send_file(me: Visitor, data: bytes = b"0123456789", **said: Any) -> dict[str, Any]:
    """Upload a file in one chunk and return the upload as it is then."""
    upload = open_upload(me, len(data), **said)
    if data:
        answer = me.put(chunk(upload, 0), data)
        assert answer.status == 201, answer.body
    return me.get(upload["url"]).json()


def policies(site: Any, **found: Any) -> None:
    """Have these upload policies; ``default`` is what most tests use."""
    change(site, POLICIES=found)


def change(site: Any, **found: Any) -> None:
    """Change entries of RESUMABLE_UPLOADS, through pytest's ``settings``."""
    site.RESUMABLE_UPLOADS = site.RESUMABLE_UPLOADS | found


def nobody(name: str, *args: Any) -> None:
    """Be a runner that never comes to anything."""


def assembles(name: str, *args: Any) -> None:
    """Be a runner that assembles at once, and does nothing else."""
    if name == runner.ASSEMBLE:
        assembly.assemble(*args)


def assert_refused(answer: Answer, status: int, code: str, **facts: Any) -> None:
    """See that a request was refused, in the form of all refusals."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    found = answer.json()
    assert found["code"] == code, found
    assert found["detail"]
    assert found | facts == found


def kept() -> Any:
    """Return what the site keeps, but for what changes when somebody only asks."""
    uploads = [
        {name: value for name, value in row.items() if name not in PASSING}
        for row in UploadSession.objects.order_by("pk").values()
    ]
    return uploads, list(Chunk.objects.order_by("pk").values()), finished()


def finished() -> dict[str, str]:
    """Return the finished files on disk and their SHA-256, by path."""
    root = Path(settings.MEDIA_ROOT)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): sha256(path.read_bytes()) for path in files}


def staged() -> int:
    """Return how many bytes of unfinished uploads lie on disk."""
    files = Path(f"{settings.MEDIA_ROOT}-staging").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
