"""Amazon S3: what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checksums import S3_ALGORITHMS, encoded
from .dialects import Dialect
from .signing import aws


class S3(Dialect):
    """A namespace, and checksums that clients choose and like to hear again."""

    protocol = "s3"
    prefix = "x-amz-"
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    min_part_size = 5 * 1024 * 1024
    storage_class = "STANDARD"
    codes = {"FileAlreadyExists": "PreconditionFailed"}
    unless_there = ("if-none-match", "*")
    read = staticmethod(aws.read)

    def part_headers(self, digests: Mapping[str, str]) -> dict[str, str]:
        return {
            f"x-amz-checksum-{name}": encoded(digests[name])
            for name in S3_ALGORITHMS
            if name in digests
        }

    def part_pairs(self, digests: Mapping[str, str]) -> list[tuple[str, str]]:
        return [
            (f"Checksum{name.upper()}", encoded(digests[name]))
            for name in S3_ALGORITHMS
            if name in digests
        ]

    def file_headers(self, facts: Mapping[str, Any], is_asked: bool) -> dict[str, str]:
        whole = facts.get("whole")
        if not (whole and is_asked):
            return {}
        return {
            f"x-amz-checksum-{whole['name']}": whole["value"],
            "x-amz-checksum-type": whole["type"],
        }

    def end_pairs(self, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
        whole = facts["whole"]
        name = f"Checksum{whole['name'].upper()}"
        return [(name, whole["value"]), ("ChecksumType", whole["type"])]
