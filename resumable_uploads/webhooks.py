"""Sending what the outbox holds: signed, at least once, with growing pauses.

The standard library's HTTP client is all it takes for one POST: it follows no redirect
and heeds no proxy of the environment, which others have to be told. Bodies are signed
as Standard Webhooks has it (https://www.standardwebhooks.com/).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import logging
import socket
import ssl
import threading
import time
import uuid
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.db.models import F, QuerySet
from django.utils import timezone

from . import outbox
from .conf import seconds, setting
from .models import DeliveryState, WebhookDelivery

log = logging.getLogger(__name__)

SECRET_PREFIX = "whsec_"
# After the first attempt, the second, ...; then as after the last one here.
PAUSES = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=24),
)
# Who has taken a delivery and died is followed so long after the attempt's end.
GRACE = timedelta(minutes=1)
AT_ONCE = 100
READ_AT_MOST = 2000
# The receiver wants to hear no more of it.
GONE = 410


class NotTold(Exception):
    """An attempt has come to nothing."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def due(now: datetime | None = None) -> QuerySet[WebhookDelivery]:
    """Return what is to be sent now."""
    return WebhookDelivery.objects.filter(
        state=DeliveryState.PENDING, due_at__lte=now or timezone.now()
    )


def deliver() -> int:
    """Send what is due, oldest first; return how much of it has been delivered.

    May be called by several at once: each delivery is attempted by one of them.
    """
    delivered = 0
    while pks := _first_due():
        delivered += sum(attempt(pk) for pk in pks)
    return delivered


def _first_due() -> list[uuid.UUID]:
    in_line = due().order_by("due_at").values_list("pk", flat=True)
    return list(in_line[:AT_ONCE])


def attempt(pk: uuid.UUID) -> bool:
    """Try to send a delivery, if it is due; return whether it was delivered."""
    now = timezone.now()
    # It is this process's until then.
    taken_until = now + setting("WEBHOOK_TIMEOUT") + GRACE
    mine = due(now).filter(pk=pk)
    if not mine.update(due_at=taken_until, attempts=F("attempts") + 1):
        return False
    delivery = WebhookDelivery.objects.get(pk=pk)
    try:
        status = _send(delivery)
    except NotTold as failure:
        _note_failure(delivery, failure)
        return False
    rows = WebhookDelivery.objects.filter(pk=pk)
    rows.update(
        state=DeliveryState.DELIVERED, status=status, error="", sent_at=timezone.now()
    )
    return True


def send_again(pk: uuid.UUID) -> None:
    """Have a delivery attempted anew, whatever came of it before."""
    WebhookDelivery.objects.filter(pk=pk).update(
        state=DeliveryState.PENDING, attempts=0, due_at=timezone.now()
    )


def forget(batch_size: int) -> int:
    """Drop from the log what is old and not pending; return how much."""
    before = timezone.now() - setting("WEBHOOKS_KEPT_FOR")
    old = WebhookDelivery.objects.filter(created_at__lt=before)
    old = old.exclude(state=DeliveryState.PENDING)
    total = 0
    while pks := list(old.values_list("pk", flat=True)[:batch_size]):
        total += WebhookDelivery.objects.filter(pk__in=pks).delete()[0]
    return total


def _note_failure(delivery: WebhookDelivery, failure: NotTold) -> None:
    exhausted = delivery.attempts >= setting("WEBHOOK_ATTEMPTS")
    is_over = exhausted or failure.status == GONE
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        state=DeliveryState.FAILED if is_over else DeliveryState.PENDING,
        status=failure.status,
        # What a receiver says may be anything; PostgreSQL keeps no NUL.
        error=str(failure).replace("\0", "\ufffd"),
        due_at=timezone.now() + pause(delivery.attempts),
    )
    level = logging.ERROR if is_over else logging.WARNING
    log.log(level, "%s did not take %s: %s", delivery.webhook, delivery, failure)


def pause(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts in vain."""
    return PAUSES[min(attempts, len(PAUSES)) - 1]


def _send(delivery: WebhookDelivery) -> int:
    """Send a delivery and return the status. Raise NotTold."""
    webhook = outbox.find(delivery.webhook)
    if webhook is None:
        raise NotTold("The webhook is not in the settings any more.", GONE)
    body = delivery.body.encode()
    try:
        headers = _headers(webhook, str(delivery.pk), body)
        status, answer = _posted(webhook.url, body, headers, seconds("WEBHOOK_TIMEOUT"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTold(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise NotTold(f"{status}: {answer}", status)
    return status


def _headers(webhook: outbox.Webhook, message_id: str, body: bytes) -> dict[str, str]:
    moment = int(time.time())
    signatures = [
        signature(secret, message_id, moment, body) for secret in webhook.secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": "django-resumable-uploads",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": " ".join(signatures),
    }


def key_of(secret: str) -> bytes:
    """Return the key that a secret is, "whsec_" and base64. Raise ValueError."""
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def signature(secret: str, message_id: str, moment: int, body: bytes) -> str:
    """Return the signature of a body, at a moment in seconds of the epoch."""
    signed = f"{message_id}.{moment}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _posted(
    url: str, body: bytes, headers: dict[str, str], timeout: float
) -> tuple[int, str]:
    """Send a POST and return the status and the beginning of the answer.

    In all it takes no longer than the timeout, also with a receiver that dribbles.
    """
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout)
    is_over = threading.Event()
    watch = threading.Timer(timeout, _break_off, [connection, is_over])
    watch.daemon = True
    watch.start()
    try:
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        answer = response.read(READ_AT_MOST).decode(errors="replace")
        if is_over.is_set():
            # What is broken off may look like an answer.
            raise TimeoutError("The answer took too long.")
        return response.status, answer
    finally:
        watch.cancel()
        connection.close()


def _connection(
    scheme: str, host: str, port: int | None, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _break_off(
    connection: http.client.HTTPConnection, is_over: threading.Event
) -> None:
    """End what waits for a connection."""
    is_over.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
