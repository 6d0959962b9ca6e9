"""What a request says of its body, and the body itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ... import errors
from ...body import Body
from ...sources import declared_length
from ..base import DRAIN_AT_MOST, DRAIN_SECONDS, nonnegative, source_of
from . import checksums, documents
from .access import Access
from .chunked import ChunkedSource
from .refusals import Refusal
from .signing import UNSIGNED, aws

STREAMING = "STREAMING-"
_UNSIGNED_PIECES = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SIGNED_PIECES = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SHA256 = re.compile("[0-9a-f]{64}")
_PREFIX = "x-amz-checksum-"
# Headers with the same beginning that are no checksums.
_NO_CHECKSUMS = {"algorithm", "type", "mode"}


@dataclass
class Said:
    """What the headers say: how the body is framed, and its digests by name."""

    payload: str
    digests: dict[str, bytes] = field(default_factory=dict)
    # Which of these the client has chosen to be kept with the file.
    checksums: set[str] = field(default_factory=set)
    # The checksum that is to come in a trailer.
    trailer: str = ""
    length: int | None = None

    @property
    def is_in_pieces(self) -> bool:
        return self.payload.startswith(STREAMING)


def said_of(request: Any, is_document: bool = False) -> Said:
    """Return what is said of the body of a signed request. Raise Refusal.

    Beside a document, checksums are those of the file that it is about.
    """
    headers = request.headers
    said = Said(request.auth.signature.payload)
    _add_md5(said, headers.get("Content-MD5"))
    for name, value in headers.items():
        word = name.lower().removeprefix(_PREFIX)
        is_checksum = name.lower().startswith(_PREFIX) and word not in _NO_CHECKSUMS
        if is_checksum and not is_document:
            said.digests[word] = _checksum(word, value)
            said.checksums.add(word)
    if _SHA256.fullmatch(said.payload):
        _add_sha256(said)
    elif said.is_in_pieces:
        _add_frame(said, headers)
    elif said.payload != UNSIGNED:
        raise Refusal("InvalidArgument", "The digest of the body is malformed.")
    return said


def _add_md5(said: Said, text: str | None) -> None:
    if text is None:
        return
    value = checksums.decoded("md5", text.strip())
    if value is None:
        raise Refusal("InvalidDigest", "Content-MD5 is malformed.")
    said.digests["md5"] = value


def _add_sha256(said: Said) -> None:
    value = bytes.fromhex(said.payload)
    if said.digests.setdefault("sha256", value) != value:
        # Whatever comes, one of the two is wrong.
        raise Refusal("BadDigest")


def _add_frame(said: Said, headers: Mapping[str, str]) -> None:
    kinds = (_UNSIGNED_PIECES, _SIGNED_PIECES, f"{_SIGNED_PIECES}-TRAILER")
    if said.payload not in kinds:
        raise Refusal("NotImplemented", f"{said.payload} is not supported.")
    length = headers.get("X-Amz-Decoded-Content-Length")
    if length is None:
        raise Refusal("MissingContentLength", "The decoded length is missing.")
    said.length = nonnegative(length, "X-Amz-Decoded-Content-Length")
    announced = headers.get("X-Amz-Trailer", "").strip().lower()
    if announced and said.payload != _SIGNED_PIECES:
        said.trailer = announced.removeprefix(_PREFIX)
        if said.trailer not in checksums.S3_ALGORITHMS:
            raise Refusal("InvalidRequest", "The trailer is not a known checksum.")
        said.checksums.add(said.trailer)


def _checksum(name: str, text: str) -> bytes:
    if name not in checksums.S3_ALGORITHMS:
        raise Refusal("InvalidRequest", f"The checksum {name} is not supported.")
    value = checksums.decoded(name, text)
    if value is None:
        raise Refusal("InvalidRequest", f"The value of {_PREFIX}{name} is malformed.")
    return value


def length_of(request: Any, said: Said) -> int | None:
    """Return how long the body was announced to be, in bytes, if it was."""
    return said.length if said.is_in_pieces else declared_length(request.META)


@contextmanager
def opened(request: Any, said: Said, wanted: Iterable[str] = ()) -> Iterator[Body]:
    """Open the body of a request; compute those digests that are wanted besides."""
    access: Access = request.auth
    source: Any = source_of(request)
    if said.is_in_pieces:
        source = ChunkedSource(
            source,
            said.length or 0,
            _signatures(said, access),
            _promised(said.trailer) if said.trailer else None,
        )
    names = {*wanted, *said.digests, *said.checksums}
    body = Body(source, said.digests, checksums.makers(names))
    try:
        yield body
    except errors.ChecksumMismatch as error:
        drained(body)
        is_checksum = error.facts["algorithm"] in {"md5", *said.checksums}
        code = "BadDigest" if is_checksum else "XAmzContentSHA256Mismatch"
        raise Refusal(code) from None
    except errors.UploadError:
        drained(body)
        raise
    finally:
        body.close()


def drained(body: Body) -> None:
    body.drain(DRAIN_AT_MOST, DRAIN_SECONDS)


def _signatures(said: Said, access: Access) -> Any:
    if said.payload == _UNSIGNED_PIECES:
        return None
    assert isinstance(access.signature, aws.V4)
    return access.signature.chunks(access.secret)


def _promised(name: str) -> Any:
    """Return what makes the digest of the trailers that come in the end."""

    def promised(trailers: Mapping[str, str]) -> dict[str, bytes]:
        text = trailers.get(f"{_PREFIX}{name}")
        if text is None or len(trailers) != 1:
            raise Refusal("InvalidRequest", "The trailer is not the announced one.")
        return {name: _checksum(name, text)}

    return promised


def document(request: Any) -> bytes:
    """Return a whole document that a request brings. Raise Refusal."""
    with opened(request, said_of(request, is_document=True)) as body:
        try:
            blocks = [bytes(block) for block in body.whole(documents.MAX_DOCUMENT)]
            body.check_end()
        except errors.TooLarge:
            raise Refusal("MalformedXML", "The document is too long.") from None
        body.check_digests()
    return b"".join(blocks)
