"""The signatures of Amazon S3: V4 in headers, in URLs, and of the pieces of a body."""

from __future__ import annotations

import hashlib
import re

from . import (
    UNSIGNED,
    Malformed,
    Request,
    Scope,
    Signature,
    encoded,
    hmac_sha256,
    is_same,
    iso_moment,
    percent,
    sha256,
    validity,
)

ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE, _END, _PREFIX = "s3", "aws4_request", "AWS4"
_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,]*)\s*")
_NOTHING = hashlib.sha256(b"").hexdigest()


def read(request: Request) -> Signature | None:
    """Return the signature of a request, or None. Raise Malformed."""
    header = request.headers.get("authorization", "")
    if header.startswith(ALGORITHM):
        return HeaderSignature(request, header.removeprefix(ALGORITHM))
    if header or request.parameter("AWSAccessKeyId") is not None:
        raise Malformed(f"The request is not signed by {ALGORITHM}.", not header)
    if request.parameter("X-Amz-Algorithm") is not None:
        return QuerySignature(request)
    return None


class V4(Signature):
    """HMAC-SHA256 over the path, the query and the headers that it names."""

    date: str
    given: str
    scope: Scope
    signed_headers: list[str]

    def __init__(self, request: Request) -> None:
        self.request = request

    def _begin(self, credential: str, signed: str, date: str, in_query: bool) -> None:
        self.scope = Scope.parse(credential, _SERVICE, _END)
        self.access_key_id = self.scope.access_key_id
        self.signed_headers = signed.split(";")
        self.date = date
        self.signed_at = iso_moment(date)
        if not date.startswith(self.scope.day):
            raise Malformed("The credential is of another day.", in_query)
        if "host" not in self.signed_headers:
            raise Malformed("The host is not signed.", in_query)
        # They say what is to be done, so nobody may add one on the way. The digest of
        # the body has a line of its own in what is signed.
        ours = {name for name in self.request.headers if name.startswith("x-amz-")}
        unsigned = ours - {"x-amz-content-sha256", *self.signed_headers}
        if unsigned:
            raise Malformed(f"Not signed: {', '.join(sorted(unsigned))}.", in_query)

    def is_by(self, secret: str) -> bool:
        return is_same(self._signed(secret, self.string_to_sign), self.given)

    def chunks(self, secret: str) -> ChunkSignatures:
        """Return what follows the signature of the head in a body signed in pieces."""
        return ChunkSignatures(self, self.scope.key(_PREFIX, secret))

    def _signed(self, secret: str, text: str) -> str:
        return hmac_sha256(self.scope.key(_PREFIX, secret), text).hex()

    @property
    def string_to_sign(self) -> str:
        digest = sha256(self.canonical_request)
        return "\n".join([ALGORITHM, self.date, str(self.scope), digest])

    @property
    def canonical_request(self) -> str:
        request = self.request
        headers = "".join(
            f"{name}:{' '.join(request.headers.get(name, '').split())}\n"
            for name in self.signed_headers
        )
        return "\n".join(
            [
                request.method,
                percent(request.path, "/"),
                self._query,
                headers,
                ";".join(self.signed_headers),
                self.payload,
            ]
        )

    @property
    def _query(self) -> str:
        pairs = sorted(
            (percent(name), percent(value))
            for name, value in self.request.query
            if name != "X-Amz-Signature"
        )
        return "&".join(f"{name}={value}" for name, value in pairs)


class HeaderSignature(V4):
    def __init__(self, request: Request, value: str) -> None:
        super().__init__(request)
        found = {}
        for piece in value.split(","):
            match = _FIELD.fullmatch(piece)
            if not match:
                raise Malformed("The Authorization is malformed.")
            found[match[1]] = match[2].strip()
        if len(found) != 3:
            raise Malformed("The Authorization is not complete.")
        self.given = found["Signature"]
        date = request.headers.get("x-amz-date", "")
        self._begin(found["Credential"], found["SignedHeaders"], date, False)
        self.token = request.headers.get("x-amz-security-token", "")
        self.payload = request.headers.get("x-amz-content-sha256", "")
        if not self.payload:
            raise Malformed("x-amz-content-sha256 is missing.")


class QuerySignature(V4):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.parameter("X-Amz-Algorithm") != ALGORITHM:
            raise Malformed("The algorithm is not known.", True)
        names = ("Credential", "SignedHeaders", "Date", "Signature", "Security-Token")
        credential, signed, date, self.given, self.token = (
            request.parameter(f"X-Amz-{name}") or "" for name in names
        )
        self._begin(credential, signed, date, True)
        valid_for = validity(request.parameter("X-Amz-Expires"))
        assert self.signed_at is not None
        self.expires_at = self.signed_at + valid_for
        self.payload = request.headers.get("x-amz-content-sha256", UNSIGNED)


class ChunkSignatures:
    """The chain of signatures through a body: each signs the one before it."""

    def __init__(self, head: V4, key: bytes) -> None:
        self._context = f"{head.date}\n{head.scope}"
        self._previous = head.given
        self._key = key

    def is_next(self, given: str, digest: str) -> bool:
        """Tell whether a piece with this SHA-256 follows; take it for the last one."""
        return self._follows("PAYLOAD", given, f"{_NOTHING}\n{digest}")

    def is_trailer(self, given: str, lines: str) -> bool:
        """Tell whether these trailers, as ``name:value\\n`` each, were signed."""
        return self._follows(
            "TRAILER", given, hashlib.sha256(encoded(lines)).hexdigest()
        )

    def _follows(self, kind: str, given: str, digests: str) -> bool:
        lines = [f"{ALGORITHM}-{kind}", self._context, self._previous, digests]
        expected = hmac_sha256(self._key, "\n".join(lines)).hex()
        self._previous = expected
        return is_same(expected, given)
