"""Aliyun OSS: what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checksums import CRC64ECMA
from .dialects import Dialect
from .signing import oss


class Oss(Dialect):
    """ETags in upper case, a CRC-64 that its Python clients compare."""

    protocol = "oss"
    prefix = "x-oss-"
    min_part_size = 100 * 1024
    storage_class = "Standard"
    digests = (CRC64ECMA,)
    codes = {
        "AuthorizationHeaderMalformed": "InvalidArgument",
        "AuthorizationQueryParametersError": "InvalidArgument",
        "BadDigest": "InvalidDigest",
        "ConditionalRequestConflict": "FileAlreadyExists",
        "ExpiredToken": "SecurityTokenExpired",
        "InvalidToken": "InvalidSecurityToken",
        "InvalidURI": "InvalidObjectName",
        "KeyTooLongError": "InvalidObjectName",
        "XAmzContentSHA256Mismatch": "InvalidDigest",
    }
    unless_there = ("x-oss-forbid-overwrite", "true")
    there_already = "FileAlreadyExists"
    read = staticmethod(oss.read)

    def quoted(self, etag: str) -> str:
        return f'"{etag.upper()}"'

    def object_type(self, is_multipart: bool) -> str | None:
        return "Multipart" if is_multipart else "Normal"

    def digest_headers(self, digests: Mapping[str, str], whole: Any) -> dict[str, str]:
        if CRC64ECMA not in digests:
            return {}
        return {"x-oss-hash-crc64ecma": str(int(digests[CRC64ECMA], 16))}
