"""Processes that are killed at a certain line: ``python -m tests.killed DATABASE``.

Each line of standard input is an order in JSON: where the files are, what to do, and
at which call of which function to die, as by ``kill -9``. A process of its own carries
it out; the answer is its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from typing import Any

import django
from django.conf import settings as django_settings
from django.db import connection
from django.test import override_settings

from . import processes, racing, settings

DISTURBED = 7


class Executioner:
    """Begins processes that have Django ready, and tells how they ended."""

    def __init__(self, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, database],
            cwd=processes.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def carry_out(self, order: dict[str, Any]) -> int:
        """Have something done; return the exit status: -9 where it was killed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        print(json.dumps(order), file=stdin, flush=True)
        return os.waitstatus_to_exitcode(int(stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def main(database: str) -> None:
    settings.DATABASES["default"]["NAME"] = database
    os.environ["DJANGO_SETTINGS_MODULE"] = settings.__name__
    django.setup()
    deeds = importlib.import_module(f"{__package__}.deeds")
    # Once here, instead of in each child.
    for name in ("acts", "grounds", "steps"):
        importlib.import_module(f"{__package__}.faults.{name}")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os._exit(_carry_out(deeds, json.loads(line)))
        print(os.waitpid(pid, 0)[1], flush=True)


def _carry_out(deeds: Any, order: dict[str, Any]) -> int:
    try:
        uploads = django_settings.RESUMABLE_UPLOADS | order["uploads"]
        override_settings(MEDIA_ROOT=order["media"], RESUMABLE_UPLOADS=uploads).enable()
        if "act" in order:
            return _act(order)
        if not order["locks"]:
            deeds.filesystem._SET_LOCK = None
        _die_at(order["line"], order["when"], order["call"])
        getattr(deeds, order["deed"])(order["upload"])
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _act(order: dict[str, Any]) -> int:
    """Do something to an upload, and die at a step of it, whichever that is."""
    package = f"{__package__}.faults"
    acts = importlib.import_module(f"{package}.acts")
    steps = importlib.import_module(f"{package}.steps")
    grounds = importlib.import_module(f"{package}.grounds")
    connection.ensure_connection()
    meanwhile = getattr(acts, order.get("meanwhile", ""), None)

    def strike(name: str) -> None:
        if not meanwhile:
            _die()
        if blow.rounds == 1:
            racing.Running(meanwhile, order["upload"]).wait()
        if blow.rounds > 1 or not order["later"]:
            _die()
        blow.again_after(order["later"])

    blow = steps.Steps(order["step"], strike, order["when"], between=bool(meanwhile))
    with grounds.prepared(order["ground"], order["told"]), blow.watched():
        getattr(acts, order["act"])(order["upload"])
    # It was disturbed, and has come to its end before it was to die.
    return DISTURBED if blow.rounds else 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(line: str, when: str, call: int) -> None:
    """Make a function deadly, at its nth call: before it, or after it."""
    module, _, path = line.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for step in owners:
        owner = getattr(owner, step)
    function = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        is_it = calls == call
        if is_it and when == "before":
            _die()
        result = function(*args, **kwargs)
        if is_it:
            _die()
        return result

    setattr(owner, name, deadly)


if __name__ == "__main__":
    main(sys.argv[1])
