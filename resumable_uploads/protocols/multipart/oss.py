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

    def part_headers(self, digests: Mapping[str, str]) -> dict[str, str]:
        digits = digests.get(CRC64ECMA)
        return {"x-oss-hash-crc64ecma": str(int(digits, 16))} if digits else {}

    def part_pairs(self, digests: Mapping[str, str]) -> list[tuple[str, str]]:
        digits = digests.get(CRC64ECMA)
        return [("HashCrc64ecma", str(int(digits, 16)))] if digits else []

    def file_headers(self, facts: Mapping[str, Any], is_asked: bool) -> dict[str, str]:
        return self.part_headers(facts.get("digests") or {})
