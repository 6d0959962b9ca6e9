"""Clears up behind a test run: ``python -m tests.janitor FOLDER PID``.

Waits until the process PID is gone, kills the groups of processes listed in
FOLDER/processes, takes away the disks mounted on FOLDER/disk-*, and removes FOLDER.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


def main(folder: Path, pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        owner = psutil.Process(pid)
        # True only as long as it is still the same process.
        while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.3)
    # What is being started at this moment is found by the second look.
    for _ in range(2):
        for record in (folder / "processes").iterdir():
            kill_group(int(record.name), float(record.read_text() or 0))
        time.sleep(0.3)
    for disk in folder.glob("disk-*"):
        subprocess.run(["umount", "--lazy", disk], stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def kill_group(pid: int, begun: float) -> None:
    """Kill a group, unless its leader's number belongs to a younger process by now."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        if psutil.Process(pid).create_time() == begun:
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
