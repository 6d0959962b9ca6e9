"""Where a project has its say about uploads, whatever protocol brings them.

Each hook is a method of the policy and a signal. Those that begin with ``pre_``, and
``progress``, may refuse, by errors.Rejected. The others are told what has happened,
after the commit. What else a hook raises is the project's mistake: it is logged, and
never costs bytes that are there. docs/hooks.md is the reference.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError

from . import errors, names, signals
from .conf import seconds
from .models import State, UploadSession
from .owners import Owner
from .policies import UploadPolicy, policy_of
from .transactions import after_commit

log = logging.getLogger(__name__)

CREATED = "created"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
EXPIRED = "expired"

_SIGNALS = {
    CREATED: signals.upload_created,
    COMPLETED: signals.upload_completed,
    FAILED: signals.upload_failed,
    CANCELLED: signals.upload_cancelled,
    EXPIRED: signals.upload_expired,
}
_METHODS = {
    CREATED: "post_create",
    COMPLETED: "post_finish",
    CANCELLED: "post_terminate",
    EXPIRED: "post_terminate",
}
# What a hook may change of an upload before it is opened.
_CHANGEABLE = ("filename", "content_type", "relative_path", "metadata")
# How many uploads are remembered by a process as being told about, and for how long.
_REMEMBERED = 1000
_REMEMBERED_FOR = 60.0


def _is_heard(signal: Any) -> bool:
    """Tell whether anybody listens; most signals have no receivers at all."""
    return bool(signal.receivers) and signal.has_listeners(UploadSession)


def _overrides(policy: UploadPolicy, method: str) -> bool:
    return getattr(type(policy), method) is not getattr(UploadPolicy, method)


# Before


def pre_create(owner: Owner, protocol: str, policy: UploadPolicy, new: Any) -> bool:
    """Let the project change an engine.NewUpload; return whether anybody was asked.

    Raise Rejected, or whatever error of uploads the project does; HookFailed where it
    raises anything else, since who was to decide has not.
    """
    is_heard = _is_heard(signals.upload_pre_create)
    if not (is_heard or _overrides(policy, "pre_create")):
        return False
    draft = dataclasses.replace(new, metadata=copy.deepcopy(new.metadata))
    with _heeded():
        policy.pre_create(owner, draft)
        signals.upload_pre_create.send(
            UploadSession, owner=owner, policy=policy, protocol=protocol, new=draft
        )
        _check_changes(draft)
    draft.metadata = _with_reserved(draft.metadata, new)
    for name in _CHANGEABLE:
        setattr(new, name, getattr(draft, name))
    return True


def _with_reserved(metadata: dict[str, Any], new: Any) -> dict[str, Any]:
    """Return metadata with what the protocol keeps there as it was, and only that."""
    kept = {name: new.metadata[name] for name in new.reserved if name in new.metadata}
    others = {
        name: value for name, value in metadata.items() if name not in new.reserved
    }
    return others | kept


@contextmanager
def _heeded() -> Iterator[None]:
    try:
        yield
    except errors.UploadError:
        raise
    except ValidationError as error:
        raise errors.Rejected(" ".join(error.messages)) from error
    except PermissionDenied as error:
        raise errors.PermissionDenied from error
    except Exception as error:
        log.exception("A hook before the creation of an upload failed")
        raise errors.HookFailed from error


def _check_changes(draft: Any) -> None:
    """See that what a hook has made of an upload can be kept."""
    for name in _CHANGEABLE[:-1]:
        if not isinstance(getattr(draft, name), str):
            raise TypeError(f"A hook has made {name} something else than text.")
    if not isinstance(draft.metadata, dict):
        raise TypeError("A hook has made the metadata something else than a dict.")
    text = json.dumps(draft.metadata, ensure_ascii=False, allow_nan=False)
    # PostgreSQL keeps no NUL in JSON, and no database half a character.
    if names.has_nul(text):
        raise ValueError("A hook has put a NUL into the metadata.")
    text.encode()


def wants_file(policy: UploadPolicy) -> bool:
    """Tell whether anybody looks at whole files before they become complete."""
    is_heard = _is_heard(signals.upload_pre_finish)
    return is_heard or _overrides(policy, "validate")


def pre_finish(upload: UploadSession, policy: UploadPolicy, file: Any) -> None:
    """Let the project look at a whole file. Raise Rejected, or what else it raises.

    Anything but Rejected is a failed attempt: the file is looked at again later.
    """
    try:
        policy.validate(upload, file)
        file.seek(0)
        signals.upload_pre_finish.send(UploadSession, upload=upload, file=file)
    except ValidationError as error:
        raise errors.Rejected(" ".join(error.messages)) from error


# While bytes come


def watch(upload: UploadSession) -> Callable[[int], None] | None:
    """Return what is to be told how many bytes a request has brought, or None."""
    if upload.state != State.RECEIVING:
        return None
    policy = policy_of(upload)
    if not (_is_heard(signals.upload_progress) or _overrides(policy, "progress")):
        return None
    return partial(_watch, upload, policy, upload.received)


def _watch(upload: UploadSession, policy: UploadPolicy, before: int, came: int) -> None:
    if not _clock.is_due(upload.pk, seconds("PROGRESS_EVERY")):
        return
    received = before + came
    if upload.length is not None:
        received = min(received, upload.length)
    _tell_progress(upload, policy, received)


def _tell_progress(upload: UploadSession, policy: UploadPolicy, received: int) -> None:
    """Tell how far an upload is. Raise Stopped where somebody does not want more."""
    answers = [_answer_of(policy.progress, upload, received)]
    told = signals.upload_progress.send_robust(
        UploadSession, upload=upload, received=received
    )
    for answer in [*answers, *(answer for _receiver, answer in told)]:
        if isinstance(answer, errors.Rejected):
            raise errors.Stopped(
                answer.message, answer.status, state=State.REJECTED.value
            ) from answer
        if isinstance(answer, Exception):
            log.error("A hook on progress failed", exc_info=answer)


def _answer_of(method: Callable[..., Any], *args: Any) -> Any:
    try:
        return method(*args)
    except Exception as error:
        return error


class _Clock:
    """Says of each upload, about once in an interval, that its time has come."""

    def __init__(self) -> None:
        self._told: dict[uuid.UUID, float] = {}
        self._lock = threading.Lock()

    def is_due(self, pk: uuid.UUID, interval: float) -> bool:
        """Tell whether the interval is over since the last time, or the first look."""
        now = time.monotonic()
        with self._lock:
            if pk in self._told and now - self._told[pk] < interval:
                return False
            is_new = pk not in self._told
            self._told[pk] = now
            if is_new and len(self._told) > _REMEMBERED:
                self._forget(now - max(interval, _REMEMBERED_FOR))
            return not is_new

    def _forget(self, before: float) -> None:
        """Drop what was not told about for long; of too many, the oldest half."""
        newest = sorted(self._told.items(), key=lambda pair: pair[1])
        kept = [pair for pair in newest if pair[1] >= before]
        self._told = dict(kept[-_REMEMBERED // 2 :])


_clock = _Clock()


# After


def tell(event: str, upload: UploadSession) -> None:
    """Tell what has happened to an upload, once the transaction is committed."""
    if method := _METHODS.get(event):
        after_commit(partial(_call, method, upload), robust=True)
    signals.send_after_commit(_SIGNALS[event], upload)


def _call(method: str, upload: UploadSession) -> None:
    try:
        getattr(policy_of(upload), method)(upload)
    except Exception:
        log.exception("%s of the policy failed for upload %s", method, upload.pk)
