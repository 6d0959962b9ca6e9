"""Checksums that clients send and compare, and what parts' become of the whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import fastcrc
from awscrt import checksums

from ...models import Chunk

Combine = Callable[[int, int, int], int]


class Crc:
    """A cyclic redundancy check as something that digests, like those of hashlib."""

    def __init__(self, function: Callable[[Any, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, block: Any) -> None:
        self._value = self._function(block, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


@dataclass(frozen=True)
class Algorithm:
    """A checksum: how it is made, and combined from those of parts if it can be."""

    make: Callable[[], Any]
    size: int
    combine: Combine | None = None


def _crc64ecma(block: Any, previous: int) -> int:
    return fastcrc.crc64.xz(block, previous)


# CRC-64/XZ, which Aliyun calls ECMA: the polynomial, lowest power first.
_POLYNOMIAL = 0xC96C5795D7870F42
_ONE = 1 << 63


def _times(one: int, other: int) -> int:
    """Multiply two polynomials modulo that of the CRC."""
    product, bit = 0, _ONE
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ _POLYNOMIAL if other & 1 else other >> 1
    return product


@lru_cache(maxsize=64)
def _shift(size: int) -> int:
    """Return what a CRC is multiplied by when so many bytes follow."""
    power, square = _ONE, _ONE >> 8
    while size:
        if size & 1:
            power = _times(power, square)
        square = _times(square, square)
        size >>= 1
    return power


def combine_crc64ecma(first: int, second: int, second_size: int) -> int:
    """Return the CRC of two stretches from theirs, without the bytes."""
    return _times(_shift(second_size), first) ^ second


CRC64ECMA, CRC64NVME = "crc64ecma", "crc64nvme"
ALGORITHMS = {
    "md5": Algorithm(hashlib.md5, 16),
    "sha1": Algorithm(hashlib.sha1, 20),
    "sha256": Algorithm(hashlib.sha256, 32),
    "crc32": Algorithm(lambda: Crc(checksums.crc32, 4), 4, checksums.combine_crc32),
    "crc32c": Algorithm(lambda: Crc(checksums.crc32c, 4), 4, checksums.combine_crc32c),
    CRC64NVME: Algorithm(
        lambda: Crc(checksums.crc64nvme, 8), 8, checksums.combine_crc64nvme
    ),
    CRC64ECMA: Algorithm(lambda: Crc(_crc64ecma, 8), 8, combine_crc64ecma),
}
# Those that S3's clients may ask for.
S3_ALGORITHMS = ("crc32", "crc32c", CRC64NVME, "sha1", "sha256")
COMPOSITE, FULL = "COMPOSITE", "FULL_OBJECT"


def makers(names: Iterable[str]) -> dict[str, Any]:
    """Return digests of these names, ready to see bytes."""
    return {name: ALGORITHMS[name].make() for name in names}


def decoded(name: str, text: str) -> bytes | None:
    """Return the value of a checksum from Base64, or None for what is none."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == ALGORITHMS[name].size else None


def encoded(digits: str) -> str:
    """Return a checksum in Base64, from hexadecimal digits."""
    return base64.b64encode(bytes.fromhex(digits)).decode()


def etag(parts: Sequence[Chunk]) -> str:
    """Return what a file of these parts is called by: "MD5 of the MD5s"-"count"."""
    joined = b"".join(bytes.fromhex(part.digests["md5"]) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def composite(name: str, parts: Sequence[Chunk]) -> str:
    """Return the checksum of the parts' checksums, in Base64, and their count."""
    joined = b"".join(bytes.fromhex(part.digests[name]) for part in parts)
    digest = makers([name])[name]
    digest.update(joined)
    return f"{base64.b64encode(digest.digest()).decode()}-{len(parts)}"


def full(name: str, parts: Sequence[Chunk]) -> int:
    """Return the checksum of the file, from those of its parts."""
    combine = ALGORITHMS[name].combine
    assert combine is not None

    def add(total: int, part: Chunk) -> int:
        # Each chunk has that one anyway.
        digits = part.checksum if name == CRC64NVME else part.digests[name]
        return combine(total, int(digits, 16), part.size)

    return reduce(add, parts, 0)
