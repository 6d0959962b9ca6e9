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


def _no_link(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.EPERM, "no links here")


def _listener(end: str, told: Path) -> Any:
    def listen(sender: Any, upload: Any, **kwargs: Any) -> None:
        with told.open("a") as file:
            file.write(f"{end} {upload.pk}\n")

    return listen
