"""The tests' own processes: what a test starts does not outlive its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from . import processes

RUN = """
import time
from tests import processes
log = processes.run_dir() / "log"
sleeper = processes.start(["sleep", "1000"], log=log)
print(processes.run_dir(), sleeper.pid, flush=True)
time.sleep(1000)
"""


def test_nothing_outlives_a_killed_test_run():
    env = {name: os.environ[name] for name in os.environ if name != "TEST_RUN_DIR"}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=processes.ROOT, env=env, stdout=subprocess.PIPE
    )
    with run:
        folder, pid = run.stdout.readline().decode().split()
        assert psutil.pid_exists(int(pid))
        run.send_signal(signal.SIGKILL)
    processes.wait_for(lambda: processes.is_gone(int(pid)), 15, "the process is gone")
    processes.wait_for(lambda: not Path(folder).exists(), 15, "the folder is gone")


def test_a_killed_group_is_gone_at_once(tmp_path):
    family = ["sh", "-c", "sleep 1000 & sleep 1000 & wait"]
    leader = processes.start(family, log=tmp_path / "log")
    children = psutil.Process(leader.pid).children
    processes.wait_for(lambda: len(children()) == 2, 10, "the family is complete")
    pids = [child.pid for child in children()]
    assert processes.kill(leader) == -signal.SIGKILL
    assert all(map(processes.is_gone, pids))


def test_no_port_is_given_away_twice():
    ports = {processes.free_port() for _ in range(200)}
    assert len(ports) == 200
    # Those that systems give to outgoing connections begin above.
    assert max(ports) < 32768
