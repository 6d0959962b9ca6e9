"""What processes do that are killed while they do it."""

from __future__ import annotations

import hashlib

from resumable_uploads import assembly, engine, webhooks
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.stores import filesystem

from .making import body, content

__all__ = [
    "DATA",
    "append",
    "assemble",
    "cancel",
    "deliver",
    "filesystem",
    "finish_parts",
    "put_chunk",
    "put_part",
]

CHUNK = 30
DATA = content(2 * CHUNK + 7)


def found(upload_id: str) -> UploadSession:
    return UploadSession.objects.get(pk=upload_id)


def put_chunk(upload_id: str) -> None:
    """Send the first chunk that is missing."""
    upload = found(upload_id)
    assert upload.missing
    number = upload.missing[0][0]
    data = DATA[number * CHUNK : (number + 1) * CHUNK]
    engine.put_chunk(upload, number, body(data))


def put_part(upload_id: str) -> None:
    """Send the first part that is missing, or the first one again."""
    there = set(Chunk.objects.filter(upload=upload_id).values_list("number", flat=True))
    number = min({1, 2, 3} - there, default=1)
    data = DATA[(number - 1) * CHUNK : number * CHUNK]
    expected = {"md5": hashlib.md5(data).digest()}
    engine.put_part(found(upload_id), number, body(data, expected=expected), ["md5"])


def finish_parts(upload_id: str) -> None:
    """End an upload with all its parts."""
    engine.finish_with(found(upload_id), lambda parts: (parts, {"etag": "known"}))


def append(upload_id: str) -> None:
    """Send all the rest."""
    upload = engine.take_offset(found(upload_id))
    engine.append(upload, upload.received, body(DATA[upload.received :]))


def assemble(upload_id: str) -> None:
    assembly.assemble(upload_id)


def deliver(upload_id: str) -> None:
    """Send what webhooks are to tell."""
    webhooks.deliver()


def cancel(upload_id: str) -> None:
    engine.cancel(found(upload_id))
