"""What is still to be told by webhooks: rows, written with what they tell of.

Who changes the state of an upload notes it here within the same transaction. So nothing
is told that has not happened, and nothing is lost that has: a process that dies before
it has told leaves rows that are due. webhooks.py sends them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from . import hooks, runner
from .conf import setting
from .models import UploadSession, WebhookDelivery
from .payloads import FORMS

EVENTS = (
    hooks.CREATED,
    hooks.COMPLETED,
    hooks.FAILED,
    hooks.CANCELLED,
    hooks.EXPIRED,
)
# By default, what a program elsewhere has something to do for.
COMMON_EVENTS = (hooks.COMPLETED, hooks.CANCELLED, hooks.EXPIRED)

# What tells of the request in hand, where there is one.
_asking: ContextVar[Callable[[], dict[str, Any]] | None] = ContextVar(
    "resumable_uploads_asking", default=None
)


@dataclass(frozen=True)
class Webhook:
    """An entry of the setting WEBHOOKS."""

    name: str
    url: str
    # One or, while they are changed, several: "whsec_" and base64.
    secret: str | tuple[str, ...]
    events: tuple[str, ...] = COMMON_EVENTS
    # "native" or "tusd".
    form: str = "native"
    # Only of uploads under these policies; empty: all.
    policies: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.secret,) if isinstance(self.secret, str) else tuple(self.secret)

    def wants(self, event: str, upload: UploadSession) -> bool:
        is_its = not self.policies or upload.policy in self.policies
        return event in self.events and is_its


def find(name: str) -> Webhook | None:
    """Return the webhook with a name in the settings."""
    entry = setting("WEBHOOKS").get(name)
    return None if entry is None else Webhook(name, **entry)


def webhooks() -> list[Webhook]:
    return [Webhook(name, **entry) for name, entry in setting("WEBHOOKS").items()]


def wanted(event: str) -> bool:
    """Tell whether anybody is to be told of an event."""
    return any(event in webhook.events for webhook in webhooks())


def note(event: str, uploads: Iterable[UploadSession]) -> None:
    """Have it told what has happened to uploads; within the transaction of that.

    The uploads are as they are after it.
    """
    moment, request, told = timezone.now(), _request(), webhooks()
    rows = [
        WebhookDelivery(
            webhook=webhook.name,
            event=event,
            upload=upload.pk,
            body=json.dumps(FORMS[webhook.form](event, moment, upload, request)),
            due_at=moment,
            created_at=moment,
        )
        for upload in uploads
        for webhook in told
        if webhook.wants(event, upload)
    ]
    if rows:
        WebhookDelivery.objects.bulk_create(rows, batch_size=500)
        runner.nudge(runner.DELIVER)


class asked_by:
    """Let what is noted tell of a request; it is asked for its facts only then."""

    def __init__(self, facts: Callable[[], dict[str, Any]]) -> None:
        self._facts = facts

    def __enter__(self) -> None:
        self._token = _asking.set(self._facts)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        _asking.reset(self._token)


def _request() -> dict[str, Any] | None:
    facts = _asking.get()
    return facts() if facts else None
