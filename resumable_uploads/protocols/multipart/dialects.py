"""Where Aliyun OSS and Amazon S3 differ, in one class each: see oss.py and s3.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .refusals import STATUSES
from .signing import Request, Signature


class Dialect:
    """A vendor's words for what is the same."""

    # The word in UploadSession.protocol.
    protocol = ""
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

    def digest_headers(self, digests: Mapping[str, str], whole: Any) -> dict[str, str]:
        """Return headers that tell the digests (hexadecimal) of a part or a file."""
        return {}
