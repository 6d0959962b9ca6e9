"""The runner without a broker: the same work, in the process that asks for it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.db import connections

from . import assembly, retention, runner, webhooks
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
    elif name == runner.DELIVER:
        _courier.wake()


class Courier:
    """Sends webhooks in a thread of its own, since a receiver may take its time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_asked = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have what is due sent soon; by the thread that is at it, if there is one."""
        with self._lock:
            self._is_asked = True
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="webhooks", daemon=True
                )
                self._thread.start()

    def wait(self) -> None:
        """Return when there is nothing more to be sent now."""
        while thread := self._thread:
            thread.join()

    def _work(self) -> None:
        while self._is_wanted():
            try:
                webhooks.deliver()
            except Exception:
                log.exception("Webhooks could not be sent")
            finally:
                connections.close_all()

    def _is_wanted(self) -> bool:
        with self._lock:
            wanted, self._is_asked = self._is_asked, False
            if not wanted:
                self._thread = None
            return wanted


_courier = Courier()


def finish() -> None:
    """Wait for what threads still do: for commands, with which their process ends."""
    _courier.wait()


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
