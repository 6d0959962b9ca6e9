"""Is the process alive, is it ready? For whoever starts, watches and balances servers.

Neither view needs a login, tells a secret, or costs much: what ``ready`` has found
holds for a second in each process. Mount them where you like::

    path("health/", include("resumable_uploads.health"))
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .conf import setting
from .models import UploadSession
from .policies import get_policy
from .stores import FilesystemStore, store_for

log = logging.getLogger(__name__)

# Seconds for which an answer is good, and that a broker is waited for.
HOLDS = 1.0
PATIENCE = 2


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer: this process takes requests."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer whether uploads can be taken; 503 with the words of what is missing."""
    failed = _last.failed()
    if failed:
        return JsonResponse({"status": "unavailable", "failed": failed}, status=503)
    return JsonResponse({"status": "ok"})


urlpatterns = [
    path("live/", live, name="live"),
    path("ready/", ready, name="ready"),
]


class _Last:
    """What was found last, and when."""

    def __init__(self) -> None:
        self.at = 0.0
        self.found: list[str] = []

    def failed(self) -> list[str]:
        if not self.at or time.monotonic() - self.at > HOLDS:
            self.found = [word for word, check in checks() if not _passes(word, check)]
            self.at = time.monotonic()
        return self.found


_last = _Last()


def checks() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what has to work, each with a word for it."""
    yield "database", _database
    yield "storage", _storages
    if setting("RUNNER") == "celery":
        yield "broker", _broker


def _passes(word: str, check: Callable[[], Any]) -> bool:
    try:
        check()
    except Exception:
        log.exception("Not ready: %s", word)
        return False
    return True


def _database() -> None:
    """Ask for one row: there is a connection, and a table."""
    UploadSession.objects.order_by().values_list("pk").first()


def _storages() -> None:
    """Write a byte to each local disk. Others would cost a request to their servers."""
    for alias in {get_policy(name).storage for name in setting("POLICIES")}:
        store = store_for(alias)
        if isinstance(store, FilesystemStore):
            store.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=store.root) as file:
                file.write(b"x")
                file.flush()


def _broker() -> None:
    app = import_string("resumable_uploads.tasks.assemble").app
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=PATIENCE)
