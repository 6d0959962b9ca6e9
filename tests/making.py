"""Uploads, bodies and policies as tests need them, small and at once."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.dispatch import Signal

from resumable_uploads import engine
from resumable_uploads.body import Body
from resumable_uploads.buffers import _of_thread
from resumable_uploads.models import UploadSession
from resumable_uploads.owners import Owner
from resumable_uploads.policies import get_policy
from resumable_uploads.sources import Idle

ALICE = Owner("session:alice")
BOB = Owner("session:bob")
PAUSE = object()


class ScriptedSource:
    """A source that brings what its script says, step by step.

    Steps are bytes, PAUSE (no byte for a while), or callables for what happens to
    others just then. After the last step the line is closed.
    """

    def __init__(self, *steps: Any, length: int | None, broken: bool = False) -> None:
        self.length = length
        self.broken = broken
        self.closed = False
        self._steps = list(steps)

    def readinto(self, view: memoryview, patience: float) -> int:
        while self._steps:
            step = self._steps.pop(0)
            if step is PAUSE:
                raise Idle
            if callable(step):
                _as_another_thread(step)
                continue
            if not step:
                continue
            size = min(len(view), len(step))
            view[:size] = step[:size]
            self._steps.insert(0, step[size:])
            return size
        return 0

    def close(self) -> None:
        self.closed = True


def _as_another_thread(step: Callable[[], Any]) -> None:
    """Do something in the middle of a request, which has a buffer of its own."""
    mine = vars(_of_thread).pop("buffer", None)
    step()
    vars(_of_thread)["buffer"] = mine


def body(
    *steps: Any, length: int | None = -1, expected: dict[str, bytes] | None = None
) -> Body:
    """Return a body that brings these steps; as long as they are, unless said."""
    if length == -1:
        length = sum(len(step) for step in steps if isinstance(step, bytes))
    return Body(ScriptedSource(*steps, length=length), expected)


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes that tell where they come from; the same for the same seed."""
    return random.Random(seed).randbytes(size)


def use(settings: Any, **changes: Any) -> None:
    """Change settings of the app for one test."""
    settings.RESUMABLE_UPLOADS = settings.RESUMABLE_UPLOADS | changes


def use_policy(settings: Any, **attributes: Any) -> None:
    """Change the default policy for one test."""
    use(settings, POLICIES={"default": attributes})


def open_upload(
    length: int | None = None,
    chunk_size: int | None = None,
    owner: Owner = ALICE,
    policy: str = "default",
    **said: Any,
) -> UploadSession:
    """Open an upload; what is not said is as simple as can be."""
    said.setdefault("filename", "film.mp4")
    new = engine.NewUpload(length=length, chunk_size=chunk_size, **said)
    return engine.open(owner, "test", get_policy(policy), new)[0]


def sent(data: bytes, chunk_size: int | None = None, **said: Any) -> UploadSession:
    """Open an upload and send all of it, by chunks where they have a size."""
    upload = open_upload(len(data), chunk_size, **said)
    if chunk_size is None:
        return engine.refreshed(engine.append(upload, 0, body(data)))
    for number, start in enumerate(range(0, len(data), chunk_size)):
        engine.put_chunk(now(upload), number, body(data[start : start + chunk_size]))
    return engine.refreshed(upload)


def now(upload: UploadSession) -> UploadSession:
    """Return an upload as another request finds it."""
    return engine.find(Owner(upload.owner, upload.user), upload.pk)


def read(upload: UploadSession) -> bytes:
    """Return the finished file of an upload."""
    with engine.refreshed(upload).file.open("rb") as file:
        return file.read()


def staging() -> Path:
    """Return the folder of chunks on local disk."""
    return Path(f"{django_settings.MEDIA_ROOT}-staging")


def files_in(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def staged(upload_id: uuid.UUID) -> list[Path]:
    """Return what lies in an upload's folder, the folder itself included."""
    folder = staging() / upload_id.hex[:2] / str(upload_id)
    return [folder, *files_in(folder)] if folder.exists() else []


def finished() -> list[Path]:
    """Return all finished files on local disk."""
    return files_in(storages["default"].location)


@contextmanager
def heard(*signals: Signal) -> Iterator[list[Any]]:
    """Collect the ids of the uploads that signals tell about."""
    ids: list[uuid.UUID] = []

    def listen(sender: Any, upload: UploadSession, **kwargs: Any) -> None:
        ids.append(upload.pk)

    for signal in signals:
        signal.connect(listen)
    try:
        yield ids
    finally:
        for signal in signals:
            signal.disconnect(listen)


def lost_nudge(name: str, *args: Any) -> None:
    """Be a runner whose messages get lost."""


def after(function: Callable[..., Any], then: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that does something else once it has done its own."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        then()
        return result

    return wrapped
