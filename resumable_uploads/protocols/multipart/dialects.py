"""Where Aliyun OSS and Amazon S3 differ, in one class each: see oss.py and s3.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..base import Speaker
from .refusals import STATUSES
from .signing import Request, Signature


class Dialect(Speaker):
    """A vendor's words for what is the same."""

    # What the vendor's own headers begin with.
    prefix = ""
    namespace = ""
    # How long all parts but the last must be, in bytes.
    min_part_size = 0
    storage_class = ""
    # Digests that are computed of each part, besides its MD5.
    digests: tuple[str, ...] = ()
    # Codes that the vendor has other words for.
    codes: Mapping[str, str] = {}
    # How a client says that a file must not be there yet.
    unless_there: tuple[str, str] = ("", "")
    there_already = "PreconditionFailed"
    # Reads the signature of a request. Raise Malformed.
    read: Callable[[Request], Signature | None]

    def header(self, name: str) -> str:
        """Return a header of the vendor's: ``request-id`` is ``x-oss-request-id``."""
        return f"{self.prefix}{name}"

    def quoted(self, etag: str) -> str:
        """Return an ETag as the vendor writes it."""
        return f'"{etag}"'

    def object_type(self, is_multipart: bool) -> str | None:
        """Return what kind of an object was uploaded so, if the vendor tells."""
        return None

    def code(self, code: str) -> tuple[str, int]:
        """Return the vendor's word for a refusal, and its status."""
        said = self.codes.get(code, code)
        return said, STATUSES[said]

    # What is told of digests; those of parts are hexadecimal, by name. ``facts`` are
    # those of a file that are kept with its upload.

    def part_headers(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of the answer to a part."""
        return {}

    def part_pairs(self, digests: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the elements of a part in a list."""
        return []

    def file_headers(self, facts: Mapping[str, Any], is_asked: bool) -> dict[str, str]:
        """Return the headers of a whole file; S3's clients have to ask for them."""
        return {}

    def end_pairs(self, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the elements of the answer to a manifest."""
        return []
