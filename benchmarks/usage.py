"""What a server has used: CPU seconds and memory of its whole process tree (Linux)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(path)
        if fields:
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += parents.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """Return what a process tree has used, with children that have ended."""
    total = 0
    for one in tree(pid):
        fields = _stat(Path(f"/proc/{one}/stat"))
        if fields:
            total += sum(map(int, fields[11:15] if one == pid else fields[11:13]))
    return total / TICKS


def peak_memory(pid: int) -> int:
    """Return the greatest resident set, in bytes, that one of the processes had."""
    peaks = [0]
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        peaks += [int(line.split()[1]) * 1024 for line in lines if "VmHWM" in line]
    return max(peaks)


def _stat(path: Path) -> list[str]:
    """Return the fields behind the name, which may have blanks in it."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def forget_peak(pid: int) -> None:
    """Begin to look for the greatest resident set anew."""
    for one in tree(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{one}/clear_refs").write_text("5")
