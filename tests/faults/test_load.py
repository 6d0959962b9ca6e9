"""Many clients at once, for long, on the site as it is in production.

``make load SECONDS=600 CLIENTS=500 IDLE=10000 DATABASE=postgres`` is the long form. The
report says what was answered, how long it took, and what the workers held meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import SiteTemplates

from .load import Load
from .storm import DRIVERS

SECONDS = float(os.environ.get("LOAD_SECONDS") or 2)
SEED = os.environ.get("LOAD_SEED") or "1"
CLIENTS = int(os.environ.get("LOAD_CLIENTS") or 15)
IDLE = int(os.environ.get("LOAD_IDLE") or 10)
SILENT = int(os.environ.get("LOAD_SILENT") or 300)
DATABASE = os.environ.get("LOAD_DATABASE") or "sqlite"


@pytest.fixture
def make_load(
    tmp_path: Path, site_templates: SiteTemplates
) -> Iterator[Callable[[str], Load]]:
    loads: list[Load] = []

    def make(database: str) -> Load:
        folder = tmp_path / "site"
        folder.mkdir()
        if database == "sqlite":
            site_templates.sqlite(folder)
        loads.append(Load(folder, SEED, database, with_celery=database != "sqlite"))
        loads[-1].start()
        return loads[-1]

    yield make
    for load in loads:
        load.stop()


def kinds(wrong: list[str]) -> dict[str, int]:
    """Return how often what was said, whatever it was said of."""
    said = [re.sub(r"\S*[0-9/]\S*", "_", line)[:60] for line in wrong]
    return dict(Counter(said).most_common(20))


def report(load: Load) -> str:
    tally, took = load.tally, sorted(load.tally.took)
    lines = [f"{DATABASE}, seed {SEED}, {SECONDS:.0f} s, {CLIENTS} clients:"]
    for name in DRIVERS:
        by = {status: n for (who, status), n in tally.answers.items() if who == name}
        files = sum(entry.protocol == name for entry in load.entries)
        done = sum(entry.protocol == name and entry.is_done for entry in load.entries)
        lines.append(f"| {name} | {files} | {done} | {dict(sorted(by.items()))} |")
    at = {share: took[int(share * (len(took) - 1))] for share in (0.5, 0.95, 0.99, 1)}
    lines += [
        f"requests: {len(took)}, seconds: "
        + ", ".join(f"{share:.0%} {value:.2f}" for share, value in at.items()),
        f"faults: {dict(load.table)}",
        f"connections that broke: {len(tally.breaks)}",
        f"idle uploads: {len(load.idle)}, silent connections: {SILENT}",
        f"not explained, lost, wrong, left behind: {len(load.wrong)}",
        f"of these kinds: {kinds(load.wrong)}",
        "workers, begin, middle, end of what they were warm (MiB):",
    ]
    for pid, sizes in load.memory().items():
        lines.append(f"  {pid}: {[round(size / 2**20, 1) for size in sizes]}")
    lines.append("workers, each tenth of their lives (MiB, descriptors, threads):")
    for pid, samples in load.samples.items():
        if len(samples) >= 20:
            some = samples[:: max(1, len(samples) // 10)]
            said = [(one.memory // 2**20, one.files, one.threads) for one in some]
            lines.append(f"  {pid}: {said}")
    lines.append(f"before: {load.at_rest}")
    lines.append(f"after: { {pid: dict(k) for pid, k in load.afterwards.items()} }")
    return "\n".join(lines)


@pytest.mark.once
def test_a_load_of_many_clients_is_held(make_load):
    begun = time.monotonic()
    load = make_load(DATABASE)
    load.load(SECONDS, CLIENTS, IDLE, SILENT)
    load.settle()
    wrong = load.judged()
    print(report(load), f"\nin all: {time.monotonic() - begun:.0f} s")
    command = f"make load SECONDS={SECONDS:.0f} SEED={SEED} DATABASE={DATABASE}"
    assert not wrong, "\n".join([*wrong[:200], f"To try it again: {command}"])
