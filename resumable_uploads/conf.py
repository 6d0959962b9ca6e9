"""Every setting with its default, read when it is needed.

Projects set them in one dict, ``RESUMABLE_UPLOADS``. Durations are ``timedelta``, sizes
are bytes.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

KIB = 1024
MIB = 1024 * KIB

DEFAULTS: dict[str, Any] = {
    # What may be uploaded: name -> dotted path of an UploadPolicy, or a dict of its
    # attributes, with "class" for another class than UploadPolicy.
    "POLICIES": {"default": "resumable_uploads.policies.UploadPolicy"},
    # How long an unfinished upload waits for its next byte.
    "RECORDS_EXPIRE_IN": timedelta(days=7),
    # How long an upload may be unfinished in all, or None for no cap.
    "EXPIRE_AT_MOST": None,
    # How long the rows of cancelled, expired and rejected uploads are kept.
    "TOMBSTONES_KEPT_FOR": timedelta(days=7),
    # The chunk size that is proposed to clients that do not choose one.
    "CHUNK_SIZE": 8 * MIB,
    "MAX_CHUNK_SIZE": 256 * MIB,
    "MAX_CHUNKS": 10_000,
    # The stretch of a long append that is recorded at once.
    "SEGMENT_SIZE": 4 * MIB,
    # The buffer through which each request's bytes pass.
    "BUFFER_SIZE": 128 * KIB,
    # How long a request may bring no byte before it is given up.
    "STALL_TIMEOUT": timedelta(seconds=30),
    # How long an append may pause before what came is recorded.
    "IDLE_FLUSH": timedelta(seconds=1),
    # How often those who want to know hear how far an upload is.
    "PROGRESS_EVERY": timedelta(seconds=1),
    # How many chunks clients are advised to send at once.
    "PARALLEL": 3,
    # Who assembles and purges: "inline", "celery", or the dotted path of a callable.
    "RUNNER": "inline",
    # How long an assembly may show no sign of life before another one takes over.
    "ASSEMBLY_TIMEOUT": timedelta(seconds=60),
    # How often an assembly is tried before an operator has to look at it.
    "ASSEMBLY_ATTEMPTS": 8,
    # Where files in flight lie on local disk; None: "<location>-staging", beside the
    # folder of the final storage.
    "STAGING_ROOT": None,
    # The storage alias for chunks in flight where the final storage is not local disk;
    # None: the final storage itself, below STAGING_PREFIX.
    "STAGING_STORAGE": None,
    "STAGING_PREFIX": "resumable-uploads-staging",
    # Storage class -> store class. The most derived class wins.
    "STORES": {},
    # When bytes are forced to disk: "finish", "chunk" or "never".
    "FSYNC": "finish",
    # Hand downloads to the front server: None, "X-Accel-Redirect" or "X-Sendfile".
    "SENDFILE": None,
    # The internal location of X-Accel-Redirect: the URL prefix that nginx maps to the
    # folder of the final storage.
    "SENDFILE_ROOT": "/protected/",
    # The origins whose pages may upload from their browsers, such as
    # "https://app.example.org", or "*" for all; for tus and the IETF draft.
    "CORS_ORIGINS": (),
    # May they send cookies along? Never with "*".
    "CORS_CREDENTIALS": False,
    # Send "104 Upload Resumption Supported" where the server can: gunicorn only.
    "INTERIM_RESPONSES": False,
    # Where a front server puts the bodies of requests that it only names to the app,
    # and what it proves itself by. None: there is no such front server.
    "BODY_FILES_ROOT": None,
    "BODY_FILES_SECRET": "",
    # How long a client may send bytes by the capability that it was given, before it
    # has to show its session again; None: capabilities are neither given nor taken.
    "CAPABILITIES_EXPIRE_IN": timedelta(minutes=10),
    # Buckets for clients of Aliyun OSS and Amazon S3: name -> what is to hold there.
    "BUCKETS": {},
    # How long the temporary credentials for them are good.
    "CREDENTIALS_EXPIRE_IN": timedelta(hours=1),
    # Who is told of uploads by HTTP: name -> URL, secret and what else holds there.
    "WEBHOOKS": {},
    # How long one attempt to tell may take, and how many attempts there are.
    "WEBHOOK_TIMEOUT": timedelta(seconds=10),
    "WEBHOOK_ATTEMPTS": 10,
    # How long the log of what was told is kept.
    "WEBHOOKS_KEPT_FOR": timedelta(days=7),
    "PURGE_BATCH_SIZE": 500,
    # How often one process without a broker looks for expired and stuck uploads.
    "HOUSEKEEPING_EVERY": timedelta(minutes=10),
}


class _Values(dict[str, Any]):
    """The values of settings, by name: each is looked up when it is first wanted."""

    @cached_property
    def of_site(self) -> dict[str, Any]:
        return getattr(settings, "RESUMABLE_UPLOADS", {})

    def __missing__(self, name: str) -> Any:
        value = self[name] = self.of_site.get(name, DEFAULTS[name])
        return value


_values = _Values()


def of_site() -> dict[str, Any]:
    """Return what the project has set, by name."""
    return _values.of_site


def setting(name: str) -> Any:
    """Return the project's value of a setting, or its default."""
    return _values[name]


def seconds(name: str) -> float:
    """Return a setting that is a duration, in seconds."""
    return setting(name).total_seconds()


@receiver(setting_changed)
def _look_up_anew(setting: str, **kwargs: Any) -> None:
    """Forget what was looked up, when a test overrides settings.

    In a new dict: a thread that is just looking must not put an old value in it.
    """
    global _values
    if setting == "RESUMABLE_UPLOADS":
        _values = _Values()
