"""The runner without a broker: the same work, in the process that asks for it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.db import connections

from . import assembly, retention, runner
from .conf import seconds

log = logging.getLogger(__name__)

_last_housekeeping = time.monotonic()
_one_at_a_time = threading.Lock()


def run(name: str, *args: Any) -> None:
    """Do a piece of work by name: assemble at once, housekeep now and then."""
    if name == runner.ASSEMBLE:
        assembly.assemble(*args)
    elif name == runner.HOUSEKEEP and _is_due():
        threading.Thread(target=_housekeep, name="housekeeping", daemon=True).start()


def _is_due() -> bool:
    global _last_housekeeping
    with _one_at_a_time:
        now = time.monotonic()
        if now - _last_housekeeping < seconds("HOUSEKEEPING_EVERY"):
            return False
        _last_housekeeping = now
        return True


def _housekeep() -> None:
    try:
        retention.housekeep()
        retention.sweep()
    except Exception:
        log.exception("Housekeeping failed")
    finally:
        connections.close_all()
