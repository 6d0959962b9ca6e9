"""Digests in headers, as RFC 9530 (Digest Fields) writes them."""

from __future__ import annotations

import base64
import binascii
import re

from .. import errors
from ..body import CHECKSUM, DIGESTS

# RFC 8941, "Dictionaries", with only byte sequences as values.
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")
_SIZES = {CHECKSUM: 8} | {name: make().digest_size for name, make in DIGESTS.items()}


def content_digest(header: str | None) -> dict[str, bytes]:
    """Return the digests of a Content-Digest field that can be checked, by algorithm.

    Raise Invalid for a malformed field, and for one with unknown algorithms only: the
    client would believe that its bytes had been checked.
    """
    if not header:
        return {}
    found = {}
    for member in header.split(","):
        match = _MEMBER.fullmatch(member)
        if not match:
            raise errors.Invalid("Content-Digest is malformed.")
        if match[1] in _SIZES:
            found[match[1]] = _decoded(match[1], match[2])
    if not found:
        raise errors.Invalid(
            "Content-Digest has no algorithm that is known here.",
            algorithms=list(_SIZES),
        )
    return found


def _decoded(algorithm: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    if len(value) != _SIZES[algorithm]:
        raise errors.Invalid(f"Content-Digest has no proper {algorithm} value.")
    return value
