"""Who asks: the signature of a request, and what its credentials allow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication

from ... import credentials
from . import documents, signing
from .dialects import Dialect
from .refusals import Refusal


@dataclass(frozen=True)
class Access:
    """A signed request: in whose name, by which signature, with which secret."""

    grant: credentials.Grant
    signature: signing.Signature
    secret: str


class Signed(BaseAuthentication):
    """Knows a request by its signature, and by nothing else that a browser sends.

    The order of the checks is the vendors': whose key it is, the signature, the time,
    and only then what has become of the credentials.
    """

    def __init__(self, dialect: Dialect, bucket: str, key: str) -> None:
        self.dialect = dialect
        self.resource = f"/{bucket}/{key}" if bucket else "/"

    def authenticate(self, request: Any) -> tuple[Any, Access]:
        signature = self._read(request)
        held = _held(signature)
        secret = next((one for one in held.secrets if signature.is_by(one)), None)
        if secret is None:
            raise Refusal(
                "SignatureDoesNotMatch", "The request was signed with another secret."
            )
        _check_time(signature, timezone.now())
        grant = _checked(held)
        user = grant.owner.user or AnonymousUser()
        return user, Access(grant, signature, secret)

    def _read(self, request: Any) -> signing.Signature:
        try:
            signature = self.dialect.read(self._to_be_signed(request))
        except signing.Malformed as error:
            where = "QueryParametersError" if error.in_query else "HeaderMalformed"
            raise Refusal(f"Authorization{where}", str(error)) from None
        if signature is None:
            raise Refusal("AccessDenied", "The request is not signed.")
        return signature

    def _to_be_signed(self, request: Any) -> signing.Request:
        headers = {
            name.lower(): signing.header_text(value)
            for name, value in request.headers.items()
        }
        return signing.Request(
            method=request.method,
            path=request.path,
            resource=self.resource,
            query=signing.parsed_query(request.META.get("QUERY_STRING", "")),
            headers=headers,
        )


def _held(signature: signing.Signature) -> credentials.Held:
    try:
        return credentials.look_up(signature.access_key_id, signature.token)
    except credentials.Unknown:
        raise Refusal("InvalidAccessKeyId", "There is no such access key.") from None
    except credentials.BadToken:
        raise Refusal("InvalidToken", "The token is not one of these.") from None


def _check_time(signature: signing.Signature, now: datetime) -> None:
    if signature.expires_at is not None:
        if now > signature.expires_at:
            # Clients look for just these words.
            raise Refusal("AccessDenied", "Request has expired")
        if signature.signed_at and signature.signed_at - now > signing.MAX_SKEW:
            raise Refusal("AccessDenied", "Request is not yet valid")
        return
    assert signature.signed_at is not None
    if abs(now - signature.signed_at) > signing.MAX_SKEW:
        raise Refusal(
            "RequestTimeTooSkewed",
            "The clocks of client and server are too far apart.",
            ServerTime=documents.moment(now),
            MaxAllowedSkewMilliseconds=int(1000 * signing.MAX_SKEW.total_seconds()),
        )


def _checked(held: credentials.Held) -> credentials.Grant:
    try:
        return held.check()
    except credentials.Expired:
        raise Refusal("ExpiredToken") from None
    except credentials.Revoked:
        raise Refusal(
            "InvalidAccessKeyId", "The credentials have been taken back."
        ) from None
