"""What the first request of an upload says of the file, and what it may not say."""

from __future__ import annotations

from collections.abc import Mapping
from unicodedata import category

from ... import engine
from ...buckets import MAX_KEY_BYTES
from . import checksums
from .dialects import Dialect
from .refusals import Refusal
from .signing import header_text

MAX_METADATA = 8 * 1024
# Headers that are told again with the file.
KEPT_HEADERS = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
)
_NOT_IN_KEYS = {"Cc", "Cs"}


def checksum_facts(headers: Mapping[str, str]) -> dict[str, str]:
    """Return which checksum the client has chosen. Raise Refusal."""
    name = headers.get("x-amz-checksum-algorithm", "").lower()
    if not name:
        return {}
    if name not in checksums.S3_ALGORITHMS:
        raise Refusal("InvalidRequest", f"The checksum {name} is not supported.")
    can_be_full = checksums.ALGORITHMS[name].combine is not None
    by_default = checksums.FULL if name == checksums.CRC64NVME else checksums.COMPOSITE
    kind = headers.get("x-amz-checksum-type", by_default).upper()
    fits = {checksums.FULL: can_be_full, checksums.COMPOSITE: True}
    if not fits.get(kind) or (name == checksums.CRC64NVME and kind != checksums.FULL):
        raise Refusal("InvalidRequest", f"{name} cannot be {kind[:20]}.")
    return {"checksum": name, "checksum_type": kind}


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are told again with the file. Raise Refusal."""
    kept = {
        name: printable(header_text(headers[name]))
        for name in KEPT_HEADERS
        if name in headers
    }
    encodings = [one.strip() for one in kept.pop("Content-Encoding", "").split(",")]
    encodings = [one for one in encodings if one and one != "aws-chunked"]
    if encodings:
        kept["Content-Encoding"] = ", ".join(encodings)
    return kept


def metadata(headers: Mapping[str, str], dialect: Dialect) -> dict[str, str]:
    """Return the metadata that the client gives to the file. Raise Refusal."""
    begin = dialect.header("meta-")
    found = {
        name.lower().removeprefix(begin): header_text(value)
        for name, value in headers.items()
        if name.lower().startswith(begin)
    }
    if sum(len(name) + len(value) for name, value in found.items()) > MAX_METADATA:
        raise Refusal("MetadataTooLarge", "There is too much metadata.")
    return {name: printable(value) for name, value in found.items()}


def printable(value: str) -> str:
    """Return what is to become a header. Raise Refusal."""
    if not value.isprintable():
        raise Refusal("InvalidArgument", "A header must be printable text.")
    return value


def check_key(key: str) -> None:
    """Raise Refusal for what is no name of an object."""
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise Refusal("KeyTooLongError", "The key is longer than 1023 bytes.")
    if {".", ".."} & set(key.split("/")):
        raise Refusal("InvalidURI", "A key must have no steps of dots.")
    if engine.LAST in key or any(category(one) in _NOT_IN_KEYS for one in key):
        raise Refusal("InvalidURI", "A key must have no control characters.")
