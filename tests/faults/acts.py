"""What is done to uploads while it is broken off: each verb of the app, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from resumable_uploads import assembly, engine, retention
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import get_policy
from tests.making import ALICE, body, content

CHUNK = 30
DATA = content(2 * CHUNK + 7)
KEY = "demo-bucket/film.mp4"
WRONG = "sha-256:" + "0" * 64


def found(upload_id: str) -> UploadSession:
    return UploadSession.objects.get(pk=upload_id)


def opened(**said: Any) -> UploadSession:
    said = {"filename": "film.mp4"} | said
    new = engine.NewUpload(**said)
    return engine.open(ALICE, "test", get_policy("default"), new)[0]


def numbered(chunks: int, **said: Any) -> UploadSession:
    """Return an upload with so many of its three chunks."""
    upload = opened(length=len(DATA), chunk_size=CHUNK, **said)
    for _ in range(chunks):
        put_chunk(str(upload.pk))
    return upload


def appended(size: int, **said: Any) -> UploadSession:
    """Return an upload with so many of its bytes, in two stretches."""
    upload = opened(**{"length": len(DATA)} | said)
    for start, end in ((0, size // 2), (size // 2, size)):
        if end > start:
            engine.append(found(upload.pk), start, body(DATA[start:end]))
    return upload


def with_parts(parts: int, **said: Any) -> UploadSession:
    upload = opened(ends_when_full=False, **said)
    for number in range(1, parts + 1):
        put_part(str(upload.pk), number)
    return upload


def put_chunk(upload_id: str) -> None:
    """Send the first chunk that is missing."""
    upload = found(upload_id)
    assert upload.missing
    number = upload.missing[0][0]
    data = DATA[number * CHUNK :][: upload.size_of(number)]
    engine.put_chunk(upload, number, body(data))


def append(upload_id: str) -> None:
    """Send all the rest."""
    upload = engine.take_offset(found(upload_id))
    engine.append(upload, upload.received, body(DATA[upload.received :]))


def put_part(upload_id: str, number: int = 0) -> None:
    """Send a part; if none is said, the first that is missing."""
    numbers = Chunk.objects.filter(upload=upload_id).values_list("number", flat=True)
    number = number or min({1, 2, 3} - set(numbers))
    data = DATA[(number - 1) * CHUNK :][:CHUNK]
    engine.put_part(found(upload_id), number, body(data))


def replace_part(upload_id: str) -> None:
    """Send the second part again, as it should have been at first."""
    put_part(upload_id, 2)


def wrong_part(upload_id: str, size: int = CHUNK) -> None:
    """Send other bytes as the second part."""
    engine.put_part(found(upload_id), 2, body(content(size, seed=2)))


def finish_parts(upload_id: str) -> None:
    """End an upload of parts with its first three."""
    upload = found(upload_id)
    assert not upload.ends_when_full, "not made of parts"
    assert upload.length is None, "half of a file, or ended"
    engine.finish_with(upload, lambda parts: (parts[:3], {"etag": "known"}))


def finish(upload_id: str) -> None:
    engine.finish(found(upload_id))


def tell_length(upload_id: str) -> None:
    engine.declare_length(found(upload_id), len(DATA))


def concatenate(upload_id: str) -> None:
    """Make a whole of an upload and of its other half."""
    first = found(upload_id)
    second = found(first.metadata["other"])
    new = engine.NewUpload("film.mp4", metadata={"first": upload_id})
    engine.concatenate(ALICE, "test", get_policy("default"), new, [first, second])


def two_halves() -> UploadSession:
    """Return one of two uploads that are halves of the file."""
    pks = []
    for data in (DATA[:40], DATA[40:]):
        upload = opened(length=len(data), ends_when_full=False, is_part=True)
        engine.append(upload, 0, body(data))
        pks.append(upload.pk)
    UploadSession.objects.filter(pk=pks[0]).update(metadata={"other": str(pks[1])})
    return found(str(pks[0]))


def open_(upload_id: str) -> None:
    """Open an upload that its client will find by its key."""
    opened(length=len(DATA), chunk_size=CHUNK, client_key=f"beside {upload_id}")


def open_empty(upload_id: str) -> None:
    opened(length=0, client_key=f"beside {upload_id}", key_is_file=True)


def assemble(upload_id: str) -> None:
    assembly.assemble(upload_id)


def cancel(upload_id: str) -> None:
    engine.cancel(found(upload_id))


def expire(upload_id: str) -> None:
    """Ask for an upload whose time is up."""
    let_time_pass(upload_id)
    engine.find(ALICE, upload_id)


def let_time_pass(upload_id: str) -> None:
    past = timezone.now() - timedelta(seconds=1)
    rows = UploadSession.objects.filter(pk=upload_id, state=State.RECEIVING)
    rows.update(expires_at=past)


def purge(upload_id: str) -> None:
    """Expire an upload, and forget it."""
    let_time_pass(upload_id)
    retention.purge()
    rows = UploadSession.objects.filter(pk=upload_id, settled=True)
    rows.update(expires_at=timezone.now() - timedelta(seconds=1))
    retention.purge()


def delete(upload_id: str) -> None:
    """Delete the row, as an admin does."""
    found(upload_id).delete()


def rewind(upload_id: str) -> None:
    """Take back what came after the twentieth byte."""
    engine.rewind(found(upload_id), 20)


def restart(upload_id: str) -> None:
    engine.restart(found(upload_id))


def reshape(upload_id: str) -> None:
    """Say that the last chunk is longer than the others."""
    engine.reshape(found(upload_id), 2)


def take_over(upload_id: str) -> None:
    """Assemble an upload whose worker seems to be dead."""
    past = timezone.now() - timedelta(hours=1)
    rows = UploadSession.objects.filter(pk=upload_id, state=State.ASSEMBLING)
    rows.update(active_at=past, retry_at=None)
    assembly.assemble(upload_id)


def keep_house(upload_id: str) -> None:
    """Send again, purge and sweep, as if nothing had moved for an hour."""
    past = timezone.now() - timedelta(hours=1)
    UploadSession.objects.filter(pk=upload_id).update(active_at=past, retry_at=None)
    retention.housekeep()
    retention.sweep()


def ask_offset(upload_id: str) -> None:
    engine.take_offset(found(upload_id))
