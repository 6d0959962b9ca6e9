"""What goes wrong in each process of the site, by a file that says what is to.

DATA_DIR/faults.json: {"fail": {"fsync": 0.1}, "errno": 28, "skew": 20} has every tenth
fsync fail with "no space left", and the clocks of processes differ by up to 20 seconds.
DATA_DIR/told gets a line for each end that listeners are told of.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.utils import timezone

from resumable_uploads import signals

FOLDER = Path(os.environ["DATA_DIR"])
PLAN = FOLDER / "faults.json"
# Seconds between looks at the plan.
LOOK_EVERY = 0.1
CALLS = ("pwrite", "link", "fsync", "ftruncate", "copy_file_range", "unlink", "mkdir")
ENDS = {
    "complete": signals.upload_completed,
    "cancelled": signals.upload_cancelled,
    "expired": signals.upload_expired,
    "rejected": signals.upload_failed,
}


class Saboteur:
    def __init__(self) -> None:
        self._looked_at = 0.0
        self._plan: dict[str, Any] = {}

    @property
    def plan(self) -> dict[str, Any]:
        if time.monotonic() - self._looked_at > LOOK_EVERY:
            self._looked_at = time.monotonic()
            try:
                self._plan = json.loads(PLAN.read_text())
            except (OSError, ValueError):
                self._plan = {}
        return self._plan

    def failing(self, name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def fails(*args: Any, **kwargs: Any) -> Any:
            if random.random() < self.plan.get("fail", {}).get(name, 0):
                code = self.plan["errno"]
                raise OSError(code, f"{os.strerror(code)} (a test has {name} fail)")
            return call(*args, **kwargs)

        return fails

    def lying(self) -> Callable[..., Any]:
        now = timezone.now

        def lies() -> Any:
            skew = self.plan.get("skew", 0)
            by_process = random.Random(os.getpid()).uniform(-skew, skew)
            return now() + timezone.timedelta(seconds=by_process)

        return lies


class SaboteurConfig(AppConfig):
    name = "tests.faults.saboteur"

    def ready(self) -> None:
        saboteur = Saboteur()
        for name in CALLS:
            setattr(os, name, saboteur.failing(name))
        timezone.now = saboteur.lying()
        self.listeners = {end: _listener(end) for end in ENDS}
        for end, signal in ENDS.items():
            signal.connect(self.listeners[end])


def _listener(end: str) -> Callable[..., None]:
    def listen(sender: Any, upload: Any, **kwargs: Any) -> None:
        with (FOLDER / "told").open("a") as file:
            file.write(f"{end} {upload.pk}\n")

    return listen
