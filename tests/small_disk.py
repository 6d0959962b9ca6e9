"""A site whose files lie on a small disk of their own, which can be full."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from .live import LiveSite

SIZE = "16m"
# Mounts a RAM disk that only this process and its children see, and that ends with
# them; then becomes the server.
MOUNTED = f'mount -t tmpfs -o size={SIZE} tmpfs "$0" && exec "$@"'
UNSHARE = ("unshare", "--map-root-user", "--mount")
# Seconds after which the processes of a site have seen what is to fail.
NOTICED = 0.3


class SmallDisk:
    """A disk under the files of one site.

    Where no disk can be mounted, writes fail as they do on a full one.
    """

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.mount_point = data_dir / "disk"
        self.mount_point.mkdir()
        found: dict[str, Any] = {"MEDIA_ROOT": str(self.mount_point / "media")}
        self.is_real = can_mount(self.mount_point)
        if self.is_real:
            options["within"] = [*UNSHARE, "sh", "-c", MOUNTED, str(self.mount_point)]
        else:
            apps = [*settings.INSTALLED_APPS, "tests.faults.saboteur"]
            found["INSTALLED_APPS"] = apps
        self.site = LiveSite(data_dir, settings=found, **options)

    @property
    def folder(self) -> Path:
        """The disk as the site sees it."""
        assert self.site.process
        return Path(f"/proc/{self.site.process.pid}/root{self.mount_point}")

    def staged(self) -> list[Path]:
        """Return the files with bytes of uploads that are not finished."""
        staging = self.folder / "media-staging"
        return [path for path in staging.rglob("*") if path.is_file()]

    def used(self) -> int:
        """Return how much space these files take."""
        return sum(path.stat().st_blocks * 512 for path in self.staged())

    def fill(self, leave: int = 0) -> None:
        """Leave room for so many bytes only."""
        if not self.is_real:
            return self._have_fail(pwrite=1)
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            while write_some(file):
                pass
            file.truncate(file.tell() - leave)
        return None

    def free(self) -> None:
        """Give the room back."""
        if self.is_real:
            (self.folder / "ballast").unlink(missing_ok=True)
        else:
            self._have_fail()

    def _have_fail(self, **calls: float) -> None:
        plan = {"fail": calls, "errno": errno.ENOSPC}
        draft = self.site.data_dir / "faults.draft"
        draft.write_text(json.dumps(plan))
        draft.replace(self.site.data_dir / "faults.json")
        time.sleep(NOTICED)


def can_mount(folder: Path) -> bool:
    """Tell whether a disk may be mounted that only one process sees."""
    if os.environ.get("NO_MOUNTS"):
        return False
    try:
        command = [*UNSHARE, "sh", "-c", MOUNTED, str(folder), "true"]
        return not subprocess.run(command, capture_output=True).returncode
    except FileNotFoundError:
        return False


def write_some(file: IO[bytes]) -> int:
    """Write as much as fits of a block; return how much, 0 if the disk is full."""
    try:
        return file.write(bytes(65536))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return 0
