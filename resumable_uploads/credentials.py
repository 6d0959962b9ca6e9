"""What programs sign requests with: temporary credentials, and access keys.

No secret is kept anywhere. That of temporary credentials follows from their token,
which each request brings along; that of an access key from its row; both only together
with the site's SECRET_KEY. So a copy of the database lets nobody in, and a new
SECRET_KEY ends all of them, but for as long as SECRET_KEY_FALLBACKS has the old one.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from .conf import setting
from .lookups import Lookup
from .models import AccessKey, Revocation
from .owners import Owner

# What somebody may be allowed to do.
ACTIONS = ("put", "get", "list", "delete", "abort")
SALT = "resumable_uploads.credentials"
# A request that was signed in time may be late.
GRACE = timedelta(minutes=1)
# How exactly the last use of an access key is known.
USED_STEP = timedelta(hours=1)


class Unknown(Exception):
    """There is no such access key."""


class BadToken(Exception):
    """The token is not one of ours, or of other credentials."""


class Expired(Exception):
    """The credentials were good once."""


class Revoked(Exception):
    """The credentials were taken back, or their user is not active any more."""


@dataclass(frozen=True)
class Grant:
    """What may be done with credentials, and in whose name."""

    owner: Owner
    # Empty: all buckets.
    bucket: str
    prefix: str
    actions: frozenset[str]

    def allows(self, action: str, bucket: str, key: str) -> bool:
        """Tell whether something may be done to a key, or to the keys of a prefix."""
        is_here = self.bucket in ("", bucket) and key.startswith(self.prefix)
        return is_here and action in self.actions


@dataclass(frozen=True)
class Credentials:
    """What a client is given."""

    access_key_id: str
    secret: str
    token: str
    expires_at: datetime


class Held:
    """Credentials as a request names them, not yet known to be good."""

    # More than one while SECRET_KEY is being replaced.
    secrets: Iterable[str]

    def check(self) -> Grant:
        """Return what may be done with them. Raise Expired or Revoked."""
        raise NotImplementedError


# Temporary credentials


def issue(
    owner: Owner,
    bucket: str,
    prefix: str = "",
    actions: Iterable[str] = ACTIONS,
    lasts: timedelta | None = None,
) -> Credentials:
    """Give out credentials for an owner, good for so long."""
    now = timezone.now()
    expires_at = now + (lasts or setting("CREDENTIALS_EXPIRE_IN"))
    access_key_id = f"STS.{secrets.token_urlsafe(15).replace('_', 'x')}"
    claims = {
        "k": access_key_id,
        "o": owner.key,
        "h": _hash_of(owner.user),
        "b": bucket,
        "p": prefix,
        "a": [number for number, name in enumerate(ACTIONS) if name in set(actions)],
        "i": now.timestamp(),
        "e": int(expires_at.timestamp()),
    }
    token = signing.dumps(claims, salt=SALT, compress=True)
    secret = _derived(settings.SECRET_KEY, token)
    return Credentials(access_key_id, secret, token, expires_at)


def revoke(owner: Owner) -> None:
    """Make all temporary credentials void that the owner has been given so far."""
    Revocation.objects.update_or_create(
        owner=owner.key, defaults={"revoked_at": timezone.now()}
    )


_last_revocation = Lookup(Revocation, ("owner",))


class _Temporary(Held):
    def __init__(self, access_key_id: str, token: str) -> None:
        for key in _secret_keys():
            try:
                claims = signing.loads(token, key=key, salt=SALT, fallback_keys=[])
            except signing.BadSignature:
                continue
            if not constant_time_compare(claims["k"], access_key_id):
                break
            self.claims: dict[str, Any] = claims
            self.secrets = [_derived(key, token)]
            return
        raise BadToken

    def check(self) -> Grant:
        claims = self.claims
        if timezone.now().timestamp() > claims["e"] + GRACE.total_seconds():
            raise Expired
        issued_at = datetime.fromtimestamp(claims["i"], UTC)
        revocation = _last_revocation(claims["o"])
        if revocation and revocation.revoked_at >= issued_at:
            raise Revoked
        owner = Owner(claims["o"], _user_of(claims["o"]))
        if not constant_time_compare(claims["h"], _hash_of(owner.user)):
            # Another password, or another way to log in.
            raise Revoked
        actions = frozenset(ACTIONS[number] for number in claims["a"])
        return Grant(owner, claims["b"], claims["p"], actions)


def _user_of(owner_key: str) -> Any:
    """Return the user that an owner is, or None for a visitor. Raise Revoked."""
    kind, _, pk = owner_key.partition(":")
    if kind != "user":
        return None
    user = get_user_model()._default_manager.filter(pk=pk).first()
    if user is None or not user.is_active:
        raise Revoked
    return user


def _hash_of(user: Any) -> str:
    return user.get_session_auth_hash()[:16] if user is not None else ""


# Access keys


def new_access_key(**facts: Any) -> AccessKey:
    """Return an access key that is not saved yet; its fields are the facts."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    name = "".join(secrets.choice(letters) for _ in range(18))
    return AccessKey(access_key_id=f"RU{name}", salt=secrets.token_hex(16), **facts)


def secret_of(key: AccessKey) -> str:
    """Return the secret of an access key."""
    return _derived(settings.SECRET_KEY, f"{key.access_key_id}:{key.salt}")


class _Permanent(Held):
    def __init__(self, key: AccessKey) -> None:
        self.key = key
        text = f"{key.access_key_id}:{key.salt}"
        self.secrets = [_derived(secret_key, text) for secret_key in _secret_keys()]

    def check(self) -> Grant:
        key, now = self.key, timezone.now()
        if key.expires_at and key.expires_at <= now:
            raise Expired
        if not (key.is_active and key.user.is_active):
            raise Revoked
        if key.used_at is None or now - key.used_at > USED_STEP:
            AccessKey.objects.filter(pk=key.pk).update(used_at=now)
        owner = Owner(f"user:{key.user.pk}", key.user)
        return Grant(owner, key.bucket, key.prefix, frozenset(key.actions.split()))


# Both


def look_up(access_key_id: str, token: str) -> Held:
    """Return the credentials that a request names. Raise Unknown or BadToken."""
    if not (access_key_id.isascii() and access_key_id.isprintable()):
        raise Unknown
    if not token.isascii():
        raise BadToken
    if token or access_key_id.startswith("STS."):
        return _Temporary(access_key_id, token)
    key = AccessKey.objects.select_related("user")
    found = key.filter(access_key_id=access_key_id).first()
    if found is None:
        raise Unknown
    return _Permanent(found)


def _derived(secret_key: str | bytes, text: str) -> str:
    digest = salted_hmac(SALT, text, secret=secret_key, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(digest[:30]).decode()


def _secret_keys() -> Iterator[str | bytes]:
    yield settings.SECRET_KEY
    yield from settings.SECRET_KEY_FALLBACKS
