"""Who does the work that follows: a nudge, never the queue.

The state column is the queue. A nudge that is lost (a dead broker, a killed process)
costs time only, since what is waiting is found again by the next housekeeping.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.utils.module_loading import import_string

from .conf import setting
from .transactions import after_commit

log = logging.getLogger(__name__)

RUNNERS = {
    "inline": "resumable_uploads.inline.run",
    "celery": "resumable_uploads.tasks.send",
}

# What there is to be done, by name.
ASSEMBLE = "assemble"
HOUSEKEEP = "housekeep"
DELIVER = "deliver"


def get_runner() -> Callable[..., Any]:
    """Return the callable of the setting RUNNER; it takes a name and arguments."""
    chosen = setting("RUNNER")
    return import_string(RUNNERS.get(chosen, chosen))


def nudge(name: str, *args: Any) -> None:
    """Have something done once the transaction is committed. Never raises."""
    after_commit(partial(_run, name, *args))


def _run(name: str, *args: Any) -> None:
    try:
        get_runner()(name, *args)
    except Exception:
        log.exception("Could not have %s done for %s", name, args)
