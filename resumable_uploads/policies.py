"""What may be uploaded, how much of it, by whom, and where it goes.

A policy is one class per purpose, named in the setting POLICIES. Set its attributes,
or override its methods where the answer depends on who asks. It never sees a request,
and it keeps nothing: one instance answers for all uploads, in all threads.
"""

from __future__ import annotations

import fnmatch
import mimetypes
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from django.utils.module_loading import import_string

from . import errors, names
from .conf import MIB, setting
from .models import UploadSession
from .owners import Owner

GIB = 1024 * MIB


class UploadPolicy:
    """The default: any file up to 10 GiB, for users and for visitors with a session.

    One owner may have 100 uploads open and hold 100 GiB in all.
    """

    # Bytes of one file, or None for no limit.
    max_size: int | None = 10 * GIB
    # Media types ("image/png", "video/*") and extensions (".pdf"); empty: all.
    # Where both are given, both must fit.
    allowed_types: Sequence[str] = ()
    allowed_extensions: Sequence[str] = ()
    # What one owner may have under this policy: bytes in all, finished files
    # included, and uploads not yet finished. None for no limit.
    quota: int | None = 100 * GIB
    max_open: int | None = 100
    # May visitors upload who are not logged in? They own what their session began.
    anonymous = True
    # May owners get their finished files from the app itself?
    downloadable = False
    # Is the URL of an upload, which nobody can guess, all that a client needs to go on
    # with it that has neither a login nor a session? Only where tus or the IETF draft
    # is spoken. All such clients together are one owner, with one quota.
    capability_urls = False
    # The alias in STORAGES of finished files, and their names there.
    storage = "default"
    upload_to = "uploads/%Y/%m/%d"
    # How long an unfinished upload waits, and may take in all; None: as in settings.
    expires_in: timedelta | None = None
    expires_at_most: timedelta | None = None
    # A digest to be computed over each finished file ("sha-256"), for one more read.
    digest = ""

    def __init__(self, name: str, **attributes: Any) -> None:
        self.name = name
        for attribute, value in attributes.items():
            if not hasattr(type(self), attribute):
                raise AttributeError(f"An upload policy has no {attribute!r}.")
            setattr(self, attribute, value)

    # To override:

    def permits(self, owner: Owner) -> bool:
        """May this owner upload here? Asked again at every request that writes."""
        return bool(owner) and (self.anonymous or owner.user is not None)

    def get_max_size(self, owner: Owner) -> int | None:
        """Return how many bytes a file of this owner may have."""
        return self.max_size

    def get_quota(self, owner: Owner) -> int | None:
        """Return how many bytes this owner may hold in all."""
        return self.quota

    def get_name(self, upload: UploadSession) -> str:
        """Return the name of the finished file on its storage, as ``upload_to`` does.

        The upload's id is a folder of it, so that no two uploads want the same name.
        """
        folder = upload.created_at.strftime(self.upload_to)
        name = names.storage_name(upload.filename)
        return str(PurePosixPath(folder) / str(upload.pk) / name)

    def pre_create(self, owner: Owner, new: Any) -> None:
        """Look at what is about to be opened, an engine.NewUpload.

        Its ``filename``, ``content_type``, ``relative_path`` and ``metadata`` may be
        changed; the limits hold for what becomes of them. Raise errors.Rejected, with a
        text and maybe a ``status``, to refuse it.
        """

    def progress(self, upload: UploadSession, received: int) -> None:
        """Hear how many bytes have come, about once a second while some do.

        Raise errors.Rejected to stop the upload for good.
        """

    def validate(self, upload: UploadSession, file: Any) -> None:
        """Look at the whole file before it becomes complete.

        ``file`` is a Django file open for reading. Raise errors.Rejected (or Django's
        ValidationError) to refuse the file for good.
        """

    def post_create(self, upload: UploadSession) -> None:
        """Hear that an upload was opened. What this raises is logged, no more."""

    def post_finish(self, upload: UploadSession) -> None:
        """Hear that a file is complete, at least once; else as ``post_create``."""

    def post_terminate(self, upload: UploadSession) -> None:
        """Hear that an upload was cancelled or has expired; as ``post_finish``."""

    # The rules:

    def check_owner(self, owner: Owner) -> None:
        """Raise PermissionDenied where this owner may not upload."""
        if not self.permits(owner):
            raise errors.PermissionDenied

    def check_file(self, filename: str, content_type: str) -> None:
        """Raise TypeNotAllowed for a file that is not of an allowed type."""
        extensions = self._extensions()
        if extensions and not filename.lower().endswith(tuple(extensions)):
            raise errors.TypeNotAllowed(allowed_extensions=extensions)
        if self.allowed_types and not self._is_allowed_type(filename, content_type):
            raise errors.TypeNotAllowed(allowed_types=list(self.allowed_types))

    def check_length(self, owner: Owner, length: int | None) -> None:
        """Raise TooLarge for a file that is longer than it may be."""
        max_size = self.get_max_size(owner)
        if length is not None and max_size is not None and length > max_size:
            raise errors.TooLarge(max_size=max_size)

    def expiry(self, created_at: datetime, active_at: datetime) -> datetime:
        """Return when an upload that was active then is given up."""
        at_most = self.expires_at_most or setting("EXPIRE_AT_MOST")
        expires_at = active_at + self.lifetime
        return min(expires_at, created_at + at_most) if at_most else expires_at

    @property
    def lifetime(self) -> timedelta:
        return self.expires_in or setting("RECORDS_EXPIRE_IN")

    def limits(self, owner: Owner | None = None) -> dict[str, Any]:
        """Return the limits as data for clients; sizes in bytes, times in seconds."""
        return {
            "max_size": self.get_max_size(owner) if owner else self.max_size,
            "allowed_types": list(self.allowed_types),
            "allowed_extensions": self._extensions(),
            "chunk_size": setting("CHUNK_SIZE"),
            "max_chunk_size": setting("MAX_CHUNK_SIZE"),
            "max_chunks": setting("MAX_CHUNKS"),
            "parallel": setting("PARALLEL"),
            "records_expire_in": int(self.lifetime.total_seconds()),
        }

    def _extensions(self) -> list[str]:
        return ["." + name.lower().lstrip(".") for name in self.allowed_extensions]

    def _is_allowed_type(self, filename: str, content_type: str) -> bool:
        guessed = mimetypes.guess_type(filename)[0] or ""
        found = (content_type or guessed).partition(";")[0].strip().lower()
        return any(fnmatch.fnmatch(found, kind.lower()) for kind in self.allowed_types)


def get_policy(name: str) -> UploadPolicy:
    """Return the policy with this name in the setting POLICIES. Raise Invalid.

    The same one each time, for as long as its entry is the same.
    """
    try:
        entry = setting("POLICIES")[name]
    except (KeyError, TypeError):
        raise errors.Invalid(
            f"There is no upload policy {str(name)[:100]!r}."
        ) from None
    if name not in _made or _made[name][0] is not entry:
        _made[name] = entry, make_policy(name, entry)
    return _made[name][1]


# Each policy with the entry that it was made from: held here, no other entry can be at
# the same place in memory.
_made: dict[str, tuple[Any, UploadPolicy]] = {}


class RetiredPolicy(UploadPolicy):
    """What is left of a policy that has gone from the settings: nothing is permitted.

    Its uploads can be looked at and expire as usual; nobody sends to them.
    """

    def permits(self, owner: Owner) -> bool:
        return False


def policy_of(upload: UploadSession) -> UploadPolicy:
    """Return the policy that an upload was opened under."""
    try:
        return get_policy(upload.policy)
    except errors.Invalid:
        return RetiredPolicy(upload.policy)


def make_policy(name: str, entry: str | Mapping[str, Any]) -> UploadPolicy:
    """Make a policy from its entry in the settings."""
    if isinstance(entry, str):
        return import_string(entry)(name)
    attributes = dict(entry)
    chosen = attributes.pop("class", UploadPolicy)
    if isinstance(chosen, str):
        chosen = import_string(chosen)
    return chosen(name, **attributes)
