"""Multipart uploads by the protocols of Aliyun OSS and of Amazon S3.

Both know buckets and keys, upload files in numbered parts of any sizes and order, and
end with a list of the parts. Their answers, signatures and checksums differ, in words
more than in sense: see ``oss`` and ``s3``. See docs/clients.md, "Aliyun OSS", and "S3".
"""

from __future__ import annotations

import re
from typing import Any

from django.urls import URLPattern, re_path

from .bucket import BucketView
from .dialects import Dialect
from .objects import ObjectView
from .oss import Oss
from .s3 import S3
from .sts import CredentialsView

__all__ = ["oss_host_urls", "oss_urls", "s3_urls", "sts_urls"]


def oss_urls(*buckets: str) -> list[URLPattern]:
    """Return the routes of buckets for clients of Aliyun OSS.

    They belong at the root of the site, since the clients know of no prefix; so name
    the buckets.
    """
    return _urls(Oss(), buckets)


def oss_host_urls(bucket: str) -> list[URLPattern]:
    """Return the routes of a bucket that has a host name to itself.

    So clients of Aliyun OSS ask that are given a region, or ``cname``, and no
    ``sldEnable``. Mount it where only that host gets to.
    """
    options: dict[str, Any] = {"dialect": Oss()}
    return [
        re_path(r"^$", BucketView.as_view(**options), {"bucket": bucket}),
        re_path(
            r"^(?P<key>(?s:.+))$", ObjectView.as_view(**options), {"bucket": bucket}
        ),
    ]


def s3_urls(*buckets: str) -> list[URLPattern]:
    """Return the routes of buckets for clients of Amazon S3, below any prefix."""
    return _urls(S3(), buckets)


def sts_urls() -> list[URLPattern]:
    """Return the route that gives out temporary credentials."""
    return [re_path(r"^(?:/)?$", CredentialsView.as_view(), name="sts")]


def _urls(dialect: Dialect, buckets: tuple[str, ...]) -> list[URLPattern]:
    names = "|".join(map(re.escape, buckets)) or "[^/]+"
    options: dict[str, Any] = {"dialect": dialect}
    return [
        re_path(rf"^(?P<bucket>{names})/?$", BucketView.as_view(**options)),
        # A key may have anything in it, slashes and new lines too.
        re_path(
            rf"^(?P<bucket>{names})/(?P<key>(?s:.+))$", ObjectView.as_view(**options)
        ),
    ]
