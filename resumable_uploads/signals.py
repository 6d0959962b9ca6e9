"""What happens to uploads, for other apps to hear.

All are sent after the transaction has been committed, with ``upload`` (the
UploadSession) as argument and the model class as sender. A receiver that raises is
logged and costs nothing else. The ends of an upload (completed, cancelled, expired) are
told at least once: again only if a process died while telling.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

log = logging.getLogger(__name__)

upload_created = Signal()
upload_completed = Signal()
upload_failed = Signal()
upload_cancelled = Signal()
upload_expired = Signal()


def send_after_commit(signal: Signal, upload: Any) -> None:
    """Tell a signal's receivers about an upload once the transaction is committed."""
    transaction.on_commit(partial(_send, signal, upload), robust=True)


def _send(signal: Signal, upload: Any) -> None:
    for receiver, answer in signal.send_robust(sender=type(upload), upload=upload):
        if isinstance(answer, Exception):
            log.error(
                "A receiver of upload %s failed: %r",
                upload.pk,
                receiver,
                exc_info=answer,
            )
