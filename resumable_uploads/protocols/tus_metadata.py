"""Upload-Metadata: pairs of a key and a value in base64, as tus writes them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from .. import errors
from ..names import REQUEST_HEADERS

MAX_LENGTH = 4 * 1024
# Under this key of UploadSession.metadata is kept what was said in headers and is to be
# said again as it was. No key of a client's has a space in it.
HEADERS = REQUEST_HEADERS

_KEY = re.compile(r"[!-+\--~]+")
# What the clients call the name of a file, and its type.
_NAMES = ("filename", "name")
_TYPES = ("filetype", "type", "contentType", "content-type", "mimetype")
_PATHS = ("relativePath", "relative_path")


class InvalidMetadata(errors.Invalid):
    """Upload-Metadata cannot be read."""

    code = "invalid_metadata"
    message = "Upload-Metadata is malformed."


class MetadataTooLong(errors.Invalid):
    """Upload-Metadata is longer than it may be. Fact: ``max_length`` (bytes)."""

    code = "metadata_too_long"
    message = f"Upload-Metadata may have {MAX_LENGTH} bytes."


@dataclass
class Metadata:
    """What a client says of its file, decoded; ``header`` is how it said it."""

    header: str = ""
    values: dict[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        return self._first(_NAMES)

    @property
    def content_type(self) -> str:
        return self._first(_TYPES)

    @property
    def folder(self) -> str:
        """The folders of the relative path, which Uppy says is "null" for none."""
        path = self._first(_PATHS).replace("\\", "/")
        return "" if path == "null" else path.rpartition("/")[0]

    def kept(self, **headers: str) -> dict[str, Any]:
        """Return what to keep in UploadSession.metadata, with other headers too."""
        said = {"Upload-Metadata": self.header} | headers
        said = {name.replace("_", "-"): value for name, value in said.items() if value}
        return {**self.values, **({HEADERS: said} if said else {})}

    def _first(self, keys: tuple[str, ...]) -> str:
        return next((self.values[key] for key in keys if self.values.get(key)), "")


def parse(header: str | None) -> Metadata:
    """Return what Upload-Metadata says. Raise InvalidMetadata, MetadataTooLong.

    There may be spaces around the commas, and nothing at all, as some clients write it.
    """
    header = (header or "").strip()
    if len(header) > MAX_LENGTH:
        raise MetadataTooLong(max_length=MAX_LENGTH)
    found = Metadata(header)
    for pair in header.split(",") if header else ():
        key, _, value = pair.strip().partition(" ")
        if not _KEY.fullmatch(key):
            raise InvalidMetadata("Upload-Metadata has a key that cannot be one.")
        if key in found.values:
            raise InvalidMetadata(f"Upload-Metadata has {key!r} twice.")
        found.values[key] = _decoded(key, value.strip())
    return found


def _decoded(key: str, value: str) -> str:
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidMetadata(f"Upload-Metadata: {key!r} is not in base64.") from None
    # PostgreSQL keeps no NUL in JSON.
    return data.decode(errors="replace").replace("\0", "\ufffd")
