"""Who has signed a request: OSS V1 and V4, AWS V4, in headers and in URLs.

The request is signed again with the secret that it should have been signed with, and
the signatures are compared. That is done with the standard library alone: the vendors'
own libraries are made to send requests, weigh 30 to 50 MB and are used in the tests,
where both must agree. Nothing here knows of Django.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

# How far the clock of a client may be off.
MAX_SKEW = timedelta(minutes=15)
# For how long a URL may be signed.
MAX_VALIDITY = 7 * 24 * 60 * 60
# A validity has to be added to a date.
MAX_YEAR = 9000
UNSIGNED = "UNSIGNED-PAYLOAD"


class Malformed(Exception):
    """A signature that cannot be read. ``in_query`` tells where it was."""

    def __init__(self, message: str, in_query: bool = False) -> None:
        super().__init__(message)
        self.in_query = in_query


@dataclass(frozen=True)
class Request:
    """What of a request can be signed; all of it decoded, header names lower case."""

    method: str
    # All of the path, which AWS signs, and "/bucket/key", which OSS signs.
    path: str
    resource: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]

    def parameter(self, name: str) -> str | None:
        """Return the value of a query parameter; the last one counts."""
        return dict(self.query).get(name)


class Signature:
    """A signature as it came with a request, and what it says of itself."""

    access_key_id: str
    # The token of temporary credentials.
    token = ""  # nosec B105
    # When it was signed, where it says so; until when it counts, where a URL is signed.
    signed_at: datetime | None = None
    expires_at: datetime | None = None
    # What its client says of the body: a SHA-256 or one of the vendors' words.
    payload = UNSIGNED

    def is_by(self, secret: str) -> bool:
        """Tell whether the request was signed with this secret."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scope:
    """What a V4 signature is good for: one day, one region, one service."""

    access_key_id: str
    day: str
    region: str
    service: str
    end: str

    @classmethod
    def parse(cls, credential: str, service: str, end: str) -> Scope:
        """Read ``key/day/region/service/end``. Raise Malformed."""
        steps = credential.rsplit("/", 4)
        if len(steps) != 5 or not all(steps):
            raise Malformed("The credential is malformed.")
        scope = cls(*steps)
        if (scope.service, scope.end) != (service, end):
            raise Malformed(f"The credential is not one for {service}.")
        return scope

    def __str__(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/{self.end}"

    def key(self, prefix: str, secret: str) -> bytes:
        """Return the key that signs within this scope."""
        key = f"{prefix}{secret}".encode()
        for step in (self.day, self.region, self.service, self.end):
            key = hmac_sha256(key, step)
        return key


def hmac_sha256(key: bytes, text: str) -> bytes:
    return hmac.new(key, encoded(text), hashlib.sha256).digest()


def sha256(text: str) -> str:
    return hashlib.sha256(encoded(text)).hexdigest()


def is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(encoded(one), encoded(other))


def percent(text: str, safe: str = "") -> str:
    """Return text as both vendors' V4 encode it, but for "/" where that is safe."""
    return quote(encoded(text), safe=f"-_.~{safe}")


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def header_text(value: str) -> str:
    """Return a header, which WSGI decodes as Latin-1, as the UTF-8 that was signed."""
    return value.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def parsed_query(text: str) -> tuple[tuple[str, str], ...]:
    """Return the parameters of a raw query; "+" is a plus here, not a space."""
    pairs = (piece.partition("=") for piece in text.split("&") if piece)
    return tuple((_unquoted(name), _unquoted(value)) for name, _, value in pairs)


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def iso_moment(text: str) -> datetime:
    """Return the moment that ``20261121T080000Z`` means. Raise Malformed."""
    try:
        found = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Malformed("The date is malformed.") from None
    if found.year > MAX_YEAR:
        raise Malformed("The date is too far off.")
    return found


def validity(text: str | None) -> timedelta:
    """Return for how long a URL is signed. Raise Malformed."""
    is_number = text and text.isascii() and text.isdigit() and len(text) < 8
    if not (text and is_number and 0 < int(text) <= MAX_VALIDITY):
        raise Malformed("The URL must expire within 1 to 604800 seconds.", True)
    return timedelta(seconds=int(text))
