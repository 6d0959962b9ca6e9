"""Opening an upload, or finding the one that its client has opened before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from .. import errors, hooks, names, outbox, runner
from ..body import CHECKSUM, DIGESTS
from ..conf import setting
from ..models import UploadSession
from ..owners import Owner
from ..policies import UploadPolicy
from ..transactions import durable
from .ending import expire_if_overdue
from .finding import by_key, last_completed, open_by_key
from .numbering import Outrun
from .quotas import NO_LIMIT, check_quota
from .rows import add, end_if_full, made, outcome, refreshed, slide
from .writing import nudge_if_full

# How often an opening may find that another one with its client key was quicker.
OPEN_TRIES = 10


@dataclass
class NewUpload:
    """What a client says of the file it is about to send. Sizes are bytes."""

    filename: str
    length: int | None = None
    content_type: str = ""
    relative_path: str = ""
    client_key: str | None = None
    chunk_size: int | None = None
    # The number of chunks, where the last one is longer than the others.
    chunk_total: int | None = None
    declared_checksum: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    # What the protocol itself keeps there, by its keys: no hook may change it.
    reserved: tuple[str, ...] = ()
    # "bucket/key", where the finished file is to be found by that.
    object_key: str = ""
    ends_when_full: bool = True
    # Should the server choose the chunk size where the client has not?
    advise_chunk_size: bool = False
    # Does the client key name the file itself? Then a completed upload is found by it
    # too: the file is there, and need not be sent again.
    key_is_file: bool = False
    # Is it but a part of a file? What is asked of its name and type is then asked of
    # the whole.
    is_part: bool = False


def open(
    owner: Owner, protocol: str, policy: UploadPolicy, new: NewUpload
) -> tuple[UploadSession, bool]:
    """Open an upload, or find the owner's open one with the same client key.

    Return it and whether it is new. Raise Invalid, PermissionDenied, TooLarge,
    TypeNotAllowed, QuotaExceeded, TooManyUploads, Rejected, HookFailed, or
    ClientKeyInUse where the same client key has another length or chunk size.
    """
    policy.check_owner(owner)
    check_new(new, owner, policy)
    tries_left, is_asked = OPEN_TRIES, False
    while True:
        tries_left -= 1
        if found := _find_by_key(owner, protocol, new):
            if found.policy != policy.name:
                raise errors.ClientKeyInUse(id=str(found.pk))
            return found, False
        is_asked = is_asked or ask(owner, protocol, policy, new)
        if new.chunk_size is None and new.advise_chunk_size:
            new.chunk_size = advised_chunk_size(new.length)
            _check_geometry(new)
        upload = new_row(owner, protocol, policy, new)
        try:
            with durable():
                check_quota(upload, policy, owner, new.length or 0)
                add(upload)
                _check_not_completed(owner, protocol, new)
                if upload.ends_when_full and upload.is_full:
                    end_if_full(upload, upload.received, upload.chunk_count)
                note_opened(upload)
                nudge_if_full(upload)
                runner.nudge(runner.HOUSEKEEP)
        except (IntegrityError, Outrun):
            # Another request has opened it at the same moment: find it.
            if not new.client_key or not tries_left:
                raise
            continue
        return outcome(upload), True


def note_opened(upload: UploadSession) -> None:
    """Have it told that an upload was opened, within the transaction of that."""
    if outbox.wanted(hooks.CREATED):
        outbox.note(hooks.CREATED, [refreshed(upload)])
    hooks.tell(hooks.CREATED, upload)


def ask(owner: Owner, protocol: str, policy: UploadPolicy, new: NewUpload) -> bool:
    """Let the project change what is to be opened, or refuse it. Raise as ``open``."""
    if hooks.pre_create(owner, protocol, policy, new):
        check_new(new, owner, policy)
    return True


def check_new(new: NewUpload, owner: Owner, policy: UploadPolicy) -> None:
    """Check what a client says, and put its names in order."""
    new.filename = names.filename(new.filename)
    new.relative_path = names.relative_path(new.relative_path)
    new.content_type = names.content_type(new.content_type)
    if not new.filename:
        raise errors.Invalid("The file has no name.")
    if new.length is not None and not 0 <= new.length <= NO_LIMIT:
        raise errors.Invalid("The size is not a possible one.")
    if not new.is_part:
        policy.check_file(new.filename, new.content_type)
    policy.check_length(owner, new.length)
    _check_declared_checksum(new.declared_checksum)
    _check_geometry(new)


def _check_geometry(new: NewUpload) -> None:
    if new.chunk_size is None:
        return
    if not 0 < new.chunk_size <= setting("MAX_CHUNK_SIZE"):
        raise errors.Invalid(
            "The chunk size is not a possible one.",
            max_chunk_size=setting("MAX_CHUNK_SIZE"),
        )
    if new.chunk_total is not None:
        _check_chunk_total(new)
    if (new.length or 0) > new.chunk_size * setting("MAX_CHUNKS"):
        raise errors.Invalid(
            "The file has too many chunks of this size.",
            max_chunks=setting("MAX_CHUNKS"),
        )


def _check_chunk_total(new: NewUpload) -> None:
    """See that the last chunk, with all that is left, is less than two chunks."""
    total, size = new.chunk_total or 0, new.chunk_size or 0
    last = (new.length or 0) - (total - 1) * size
    if total < 1 or not 0 <= last < 2 * size:
        raise errors.Invalid("The number of chunks does not fit their size.")


def _check_declared_checksum(declared: str) -> None:
    algorithm, _, value = declared.partition(":")
    if not declared:
        return
    size = 16 if algorithm == CHECKSUM else _hex_size(algorithm)
    if len(value) != size or not all(digit in "0123456789abcdef" for digit in value):
        raise errors.Invalid(
            'A checksum is "algorithm:digits", the digits in lower case hexadecimal.',
            algorithms=[CHECKSUM, *DIGESTS],
        )


def _hex_size(algorithm: str) -> int:
    return 2 * DIGESTS[algorithm]().digest_size if algorithm in DIGESTS else -1


def advised_chunk_size(length: int | None) -> int:
    """Return the chunk size (bytes) for a client that has not chosen one."""
    size: int = setting("CHUNK_SIZE")
    while (length or 0) > size * setting("MAX_CHUNKS"):
        size *= 2
    return min(size, setting("MAX_CHUNK_SIZE"))


def _find_by_key(owner: Owner, protocol: str, new: NewUpload) -> UploadSession | None:
    if not new.client_key:
        return None
    upload = open_by_key(owner.key, protocol, new.client_key)
    if upload is None or expire_if_overdue(upload):
        return _find_completed(owner, protocol, new)
    chunk_size = new.chunk_size or (new.advise_chunk_size and upload.chunk_size) or None
    geometry = (new.length, chunk_size, new.chunk_total)
    if (upload.length, upload.chunk_size, upload.chunk_total) != geometry:
        raise errors.ClientKeyInUse(id=str(upload.pk))
    slide(upload)
    return upload


def new_row(
    owner: Owner, protocol: str, policy: UploadPolicy, new: NewUpload
) -> UploadSession:
    now = timezone.now()
    upload = made(
        owner=owner.key,
        protocol=protocol,
        policy=policy.name,
        storage=policy.storage,
        created_at=now,
        active_at=now,
        expires_at=policy.expiry(now, now),
        filename=new.filename,
        relative_path=new.relative_path,
        content_type=new.content_type,
        metadata=new.metadata,
        client_key=new.client_key or None,
        object_key=new.object_key,
        length=new.length,
        chunk_size=new.chunk_size,
        chunk_total=new.chunk_total,
        declared_checksum=new.declared_checksum,
        ends_when_full=new.ends_when_full,
    )
    upload.user = owner.user
    return upload


def _find_completed(
    owner: Owner, protocol: str, new: NewUpload
) -> UploadSession | None:
    """Return the upload by which a new one is not needed any more."""
    if not new.key_is_file or not new.client_key:
        return None
    return last_completed(by_key(owner, protocol, new.client_key))


def _check_not_completed(owner: Owner, protocol: str, new: NewUpload) -> None:
    """See, within the transaction of an opening, that the file is still not there.

    Another request may have opened the upload and completed it since this one looked.
    """
    if _find_completed(owner, protocol, new):
        raise Outrun
