"""A disk of its own for a site, which can be filled and emptied at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import processes

# Bytes. Memory is taken only for what is on it.
ROOMY = 8 * 1024**3
PAGE = 4096


class Disk:
    """A small file system in memory. Raise OSError where mounting is not allowed.

    Full is what the kernel says: writes come short, then fail, folders cannot be made.
    """

    def __init__(self) -> None:
        self.path = processes.run_dir() / f"disk-{processes.free_port()}"
        self.path.mkdir()
        if not sys.platform.startswith("linux") or not self._mount(f"size={ROOMY}"):
            self.path.rmdir()
            raise OSError("no disk can be mounted here")

    def fill(self, room: int = 0) -> None:
        """Leave so many bytes, in whole pages, and no more."""
        for _ in range(10):
            size = self.used() + room // PAGE * PAGE
            # Refused where more has been written since: look again.
            if self._mount(f"remount,size={max(size, PAGE)}"):
                return

    def empty(self) -> None:
        self._mount(f"remount,size={ROOMY}")

    def used(self) -> int:
        state = os.statvfs(self.path)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self.path.rmdir()

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        try:
            return not subprocess.run(command, capture_output=True).returncode
        except OSError:
            return False


def small_disk() -> Disk | None:
    """Return a disk, or None where it is not allowed to have one."""
    try:
        return Disk()
    except OSError:
        return None


def folder_of(disk: Disk | None, otherwise: Path) -> Path:
    return disk.path if disk else otherwise
