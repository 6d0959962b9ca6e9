"""Processes that tests start, in one folder per test run; neither outlives the run.

All pytest-xdist workers of a run share the folder. A janitor watches the process that
began the run and clears up behind it, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent

# Popen warns when it is forgotten while its process runs, as some do to the end.
_never_forgotten: list[subprocess.Popen[bytes]] = []


def run_dir() -> Path:
    """Return the folder of this test run; the first to ask makes it."""
    if "TEST_RUN_DIR" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="resumable-uploads-"))
        # PostgreSQL runs as another user, and has to get through.
        folder.chmod(0o755)
        for name in ("processes", "ports"):
            (folder / name).mkdir()
        os.environ["TEST_RUN_DIR"] = str(folder)
        _start_janitor(folder)
    return Path(os.environ["TEST_RUN_DIR"])


def _start_janitor(folder: Path) -> None:
    janitor = subprocess.Popen(
        [sys.executable, "-m", "tests.janitor", str(folder), str(os.getpid())],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        # Held open, the output of `make test | tee` would never end.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _never_forgotten.append(janitor)


def start(
    command: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process as the leader of its own group; what it says goes to a log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    _never_forgotten.append(process)
    begun = psutil.Process(process.pid).create_time()
    (run_dir() / "processes" / str(process.pid)).write_text(str(begun))
    return process


def stop(process: subprocess.Popen[bytes], patience: float = 15) -> int:
    """Ask a process to end, as an operator would; return its exit status.

    After ``patience`` seconds its whole group is killed.
    """
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    return kill(process)


def kill(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and all of its group, as ``kill -9`` does; see them all gone."""
    family = _children(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    (run_dir() / "processes" / str(process.pid)).unlink(missing_ok=True)
    status = process.wait()
    wait_for(lambda: all(map(is_gone, family)), 10, "the whole group is gone")
    return status


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def is_gone(pid: int) -> bool:
    """Is a process dead, whether or not its parent has noticed?"""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def free_port() -> int:
    """Return a port that nobody else in this run gets.

    It lies below those that systems give to outgoing connections.
    """
    while True:
        port = random.randint(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            (run_dir() / "ports" / str(port)).touch(exist_ok=False)
            return port


def wait_for(ready: Callable[[], object], patience: float, what: str) -> None:
    """Wait until ``ready()`` is true. Raise TimeoutError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {patience} s")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Does anybody listen on a port?"""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
