"""Buckets: names in the settings for clients of Aliyun OSS and Amazon S3.

Each owner has names of their own in a bucket: two users' ``film.mp4`` are two files,
and nobody sees another one's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from . import errors
from .conf import setting
from .owners import Owner
from .policies import UploadPolicy, get_policy

# What both vendors, and their libraries, take for one.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
MAX_KEY_BYTES = 1023


class NoSuchBucket(errors.NotFound):
    """No bucket of this name is in the settings."""

    message = "There is no such bucket."


@dataclass(frozen=True)
class Bucket:
    """What holds in a bucket. Sizes are bytes."""

    name: str
    # The upload policy of all its files.
    policy: str = "default"
    # What the keys of an owner begin with; "{owner}" and "{user}" are replaced.
    prefix: str = ""
    # The other sites whose pages may use it, as "https://example.com"; "*" for all.
    origins: Sequence[str] = ()
    # How long all parts but the last must be; None: as long as the vendor asks for.
    min_part_size: int | None = None

    def get_policy(self) -> UploadPolicy:
        return get_policy(self.policy)

    def prefix_of(self, owner: Owner) -> str:
        """Return what the keys of an owner begin with."""
        user = owner.user.pk if owner.user else ""
        # An owner's word may be a visitor's token, which is a secret.
        word = f"user-{user}" if owner.user else "visitor"
        return self.prefix.format(owner=word, user=user)

    def object_key(self, key: str) -> str:
        """Return what a key is called among those of all buckets."""
        return f"{self.name}/{key}"


OPTIONS = {field.name for field in fields(Bucket)} - {"name"}


def get_bucket(name: str) -> Bucket:
    """Return the bucket with this name in the setting BUCKETS. Raise NoSuchBucket."""
    try:
        entry = setting("BUCKETS")[name]
    except KeyError:
        raise NoSuchBucket from None
    return Bucket(name, **entry)
