"""Bodies that the front server has put into files and only names.

nginx takes a body at its client's pace, and a thread of the app is needed only once all
of it is there. Believed is who knows BODY_FILES_SECRET, of files in BODY_FILES_ROOT; a
client that sends such headers by itself is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.utils.crypto import constant_time_compare

from .. import errors
from ..conf import setting
from ..sources import FileSource

NAME = "HTTP_X_UPLOAD_BODY_FILE"
SECRET = "HTTP_X_UPLOAD_BODY_SECRET"


def is_handed_over(environ: Mapping[str, Any]) -> bool:
    """Tell whether a request says that its body lies in a file."""
    return setting("BODY_FILES_ROOT") is not None and bool(environ.get(NAME))


def source_of(environ: Mapping[str, Any]) -> FileSource:
    """Return the body that a front server has put into a file.

    Raise PermissionDenied for anybody but the front server, and for any other file.
    """
    secret = setting("BODY_FILES_SECRET")
    # What a header brings is Latin-1; a secret may be any text.
    said = environ.get(SECRET, "").encode("latin-1", "replace")
    if not secret or not constant_time_compare(said, secret.encode()):
        raise errors.PermissionDenied
    file = _opened(Path(setting("BODY_FILES_ROOT")), environ[NAME])
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise errors.PermissionDenied
    return FileSource(file)


def _opened(root: Path, name: str) -> int:
    """Open a file in a folder: by no way out of it, and through no link at its end."""
    try:
        path = Path(os.path.realpath(Path(name).parent)) / Path(name).name
        if not path.is_relative_to(os.path.realpath(root)) or path.name == "..":
            raise errors.PermissionDenied
        # A pipe that nobody writes to must not hold the thread.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        raise errors.PermissionDenied from None
