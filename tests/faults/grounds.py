"""Where bytes are kept while something goes wrong, and who listens."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from resumable_uploads import signals
from resumable_uploads.stores import filesystem

FILE_SYSTEM = "django.core.files.storage.filesystem.FileSystemStorage"
# Changes to RESUMABLE_UPLOADS, by ground.
GROUNDS: dict[str, dict[str, Any]] = {
    "folder": {},
    "no locks": {},
    "no links": {},
    "storage": {"STORES": {FILE_SYSTEM: "resumable_uploads.stores.Store"}},
}
# All that can be tried, instead of what fits into every run.
IS_THOROUGH = bool(os.environ.get("FAULTS_THOROUGH"))
ENDS = {
    "complete": signals.upload_completed,
    "cancelled": signals.upload_cancelled,
    "expired": signals.upload_expired,
    "rejected": signals.upload_failed,
}


@contextmanager
def prepared(ground: str, told: str | Path) -> Iterator[None]:
    """Have a ground, and each end of an upload written down in the file ``told``."""
    listeners = {end: _listener(end, Path(told)) for end in ENDS}
    with ExitStack() as stack:
        for name in ("fsync", "fdatasync"):
            # No test can cut the power; to wait for the disk would prove nothing.
            stack.enter_context(patch.object(os, name, _at_once))
        if ground == "no locks":
            stack.enter_context(patch.object(filesystem, "_SET_LOCK", None))
        if ground == "no links":
            stack.enter_context(patch.object(os, "link", _no_link))
        for end, signal in ENDS.items():
            signal.connect(listeners[end])
        try:
            yield
        finally:
            for end, signal in ENDS.items():
                signal.disconnect(listeners[end])


def _at_once(fd: int) -> None:
    """Be quick to say that all is on disk."""


def _no_link(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.EPERM, "no links here")


def _listener(end: str, told: Path) -> Any:
    def listen(sender: Any, upload: Any, **kwargs: Any) -> None:
        with told.open("a") as file:
            file.write(f"{end} {upload.pk}\n")

    return listen
