"""What happens to uploads, for other apps to hear.

Those named after what has happened are sent after the transaction has been committed,
with ``upload`` (the UploadSession) as argument and the model class as sender. A
receiver that raises is logged and costs nothing else. The ends of an upload (completed,
cancelled, expired) are told at least once: again only if a process died while telling.

The others ask, and their receivers may refuse: see hooks.py, and docs/hooks.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.dispatch import Signal

from .transactions import after_commit

log = logging.getLogger(__name__)

# Before an upload is opened: ``owner``, ``policy``, ``protocol`` and ``new``, whose
# file name, content type, relative path and metadata may be changed. Raise
# errors.Rejected to refuse it.
upload_pre_create = Signal()
# While bytes come, about once a second: ``upload`` and ``received`` (bytes). Raise
# errors.Rejected to stop the upload.
upload_progress = Signal()
# Before a file becomes complete: ``upload`` and ``file``. Raise errors.Rejected.
upload_pre_finish = Signal()

upload_created = Signal()
upload_completed = Signal()
upload_failed = Signal()
upload_cancelled = Signal()
upload_expired = Signal()

# The life of an upload, by what has happened to it.
LIFE = {
    "opened": upload_created,
    "completed": upload_completed,
    "failed": upload_failed,
    "cancelled": upload_cancelled,
    "expired": upload_expired,
}


def hear(listener: str, told: Callable[[str, Any], None]) -> None:
    """Have ``told(event, upload)`` called for each event in the life of an upload.

    A listener that is named again takes the place of none: it goes on as it was.
    """
    for event, signal in LIFE.items():
        receiver = partial(_pass_on, told, event)
        signal.connect(receiver, weak=False, dispatch_uid=f"{listener} {event}")


def _pass_on(
    told: Callable[[str, Any], None], event: str, sender: Any, upload: Any, **_: Any
) -> None:
    told(event, upload)


def send_after_commit(signal: Signal, upload: Any) -> None:
    """Tell a signal's receivers about an upload once the transaction is committed."""
    after_commit(partial(_send, signal, upload), robust=True)


def _send(signal: Signal, upload: Any) -> None:
    for receiver, answer in signal.send_robust(sender=type(upload), upload=upload):
        if isinstance(answer, Exception):
            log.error(
                "A receiver of upload %s failed: %r",
                upload.pk,
                receiver,
                exc_info=answer,
            )
