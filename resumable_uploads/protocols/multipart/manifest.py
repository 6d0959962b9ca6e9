"""The list of parts by which a client ends its upload."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...models import Chunk
from . import checksums
from .documents import ListedPart
from .refusals import Refusal


class Manifest:
    """What a client lists, and what else it says of the file in the same request.

    ``min_part_size`` is how long all parts but the last must be, in bytes.
    """

    def __init__(
        self, listed: Sequence[ListedPart], min_part_size: int, said: Mapping[str, str]
    ) -> None:
        self.listed = listed
        self.min_part_size = min_part_size
        self.said = said

    @property
    def digest(self) -> str:
        """What tells this list from any other."""
        text = ",".join(f"{part.number}:{part.etag}" for part in self.listed)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def choose(
        self, facts: Mapping[str, Any], recorded: Sequence[Chunk]
    ) -> tuple[list[Chunk], dict[str, Any]]:
        """Return the recorded parts that are listed, and the facts about the whole.

        ``facts`` are those from the upload's opening. Raise Refusal.
        """
        by_number = {part.number: part for part in recorded}
        parts = [_listed(by_number.get(one.number), one) for one in self.listed]
        if any(part.size < self.min_part_size for part in parts[:-1]):
            raise Refusal("EntityTooSmall", "A part before the last one is too small.")
        self._check_size(sum(part.size for part in parts))
        return parts, {
            "etag": _etag(facts, parts),
            "manifest": self.digest,
            "whole": self._checked(_whole(facts, parts)),
            "digests": _digests(parts),
        }

    def _check_size(self, size: int) -> None:
        said = self.said.get("x-amz-mp-object-size")
        if said is not None and said.strip() != str(size):
            raise Refusal("InvalidRequest", "The file has another size.")

    def _checked(self, whole: dict[str, str]) -> dict[str, str]:
        """Compare the checksum of the file with the one the client has sent for it."""
        said = self.said.get(f"x-amz-checksum-{whole['name']}")
        if (
            said is not None
            and said.strip().partition("-")[0] != (whole["value"].partition("-")[0])
        ):
            raise Refusal("BadDigest")
        return whole


def _listed(part: Chunk | None, one: ListedPart) -> Chunk:
    """Return a recorded part, if it is the one that is listed. Raise Refusal."""
    if part is None or part.digests.get("md5") != one.etag:
        raise Refusal("InvalidPart", PartNumber=one.number)
    for name, value in one.checksums.items():
        digits = part.digests.get(name)
        if digits is not None and checksums.encoded(digits) != value:
            raise Refusal("InvalidPart", PartNumber=one.number)
    return part


def _etag(facts: Mapping[str, Any], parts: Sequence[Chunk]) -> str:
    return checksums.etag(parts) if facts["is_multipart"] else parts[0].digests["md5"]


def _whole(facts: Mapping[str, Any], parts: Sequence[Chunk]) -> dict[str, str]:
    """Return the checksum of the file, by the one that its client has chosen."""
    if not facts["is_multipart"]:
        digests = parts[0].digests
        found = (name for name in checksums.S3_ALGORITHMS if name in digests)
        name = next(found, checksums.CRC64NVME)
        digits = digests.get(name, parts[0].checksum)
        value = checksums.encoded(digits)
        return {"name": name, "type": checksums.FULL, "value": value}
    name = facts.get("checksum", checksums.CRC64NVME)
    kind = facts.get("checksum_type", checksums.FULL)
    if kind == checksums.COMPOSITE:
        value = checksums.composite(name, parts)
    else:
        size = checksums.ALGORITHMS[name].size
        total = checksums.full(name, parts).to_bytes(size, "big")
        value = base64.b64encode(total).decode()
    return {"name": name, "type": kind, "value": value}


def _digests(parts: Sequence[Chunk]) -> dict[str, str]:
    """Return what the parts' other digests make for the whole file."""
    if not all(checksums.CRC64ECMA in part.digests for part in parts):
        return {}
    total = checksums.full(checksums.CRC64ECMA, parts)
    return {checksums.CRC64ECMA: f"{total:016x}"}
