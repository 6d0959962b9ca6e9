"""What a server has used: CPU seconds and memory of its whole process tree (Linux)."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
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
    """Return what a process tree has used, with children that have ended.

    Of what lives, to the nanosecond: the ticks of /proc are as long as ten small
    requests.
    """
    fields = _stat(Path(f"/proc/{pid}/stat"))
    ended = sum(map(int, fields[13:15])) / TICKS if fields else 0.0
    return ended + sum(map(_clock, tree(pid)))


def _clock(pid: int) -> float:
    """Return the CPU time of one process, by its own clock."""
    # What clock_getcpuclockid() would say: Python has it for threads only.
    clock = (~pid << 3) | 2
    try:
        return time.clock_gettime(clock)
    except OSError:
        # It has ended meanwhile.
        return 0.0


def touch_memory(size: int) -> None:
    """Have so much of the machine's free memory be really there, in bytes.

    A virtual machine gives its host back what has been free for some seconds. To get it
    again takes more CPU than all else about a file on a RAM disk, and is counted for
    whoever happens to write there first.
    """
    if hasattr(mmap, "MAP_POPULATE"):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, size, flags=flags).close()


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
