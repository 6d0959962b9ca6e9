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

    def digest_headers(self, digests: Mapping[str, str], whole: Any) -> dict[str, str]:
        if whole:
            kind, name, value = whole["type"], whole["name"], whole["value"]
            return {f"x-amz-checksum-{name}": value, "x-amz-checksum-type": kind}
        return {
            f"x-amz-checksum-{name}": encoded(digests[name])
            for name in S3_ALGORITHMS
            if name in digests
        }
