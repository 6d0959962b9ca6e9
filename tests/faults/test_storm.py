"""A real site, real services and clients of all protocols, and everything fails.

``make faults SECONDS=600 SEED=7 DATABASE=postgres`` has it last longer. The report says
how often what was tried with which protocol.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import SiteTemplates

from .storm import DRIVERS, Storm

SECONDS = float(os.environ.get("FAULTS_SECONDS") or 6)
SEED = os.environ.get("FAULTS_SEED") or "1"
CLIENTS = int(os.environ.get("FAULTS_CLIENTS") or 5)


@pytest.fixture
def make_storm(
    tmp_path: Path, site_templates: SiteTemplates
) -> Iterator[Callable[..., Storm]]:
    storms: list[Storm] = []

    def make(database: str, with_celery: bool) -> Storm:
        folder = tmp_path / "site"
        folder.mkdir()
        if database == "sqlite":
            site_templates.sqlite(folder)
        storms.append(Storm(folder, SEED, database, with_celery))
        storms[-1].start()
        return storms[-1]

    yield make
    for storm in storms:
        storm.stop()


def survives(storm: Storm, database: str) -> None:
    """Let the storm rage, and see that nothing was lost and nothing is left."""
    begun = time.monotonic()
    storm.run(SECONDS, CLIENTS)
    storm.settle()
    wrong = storm.inspect()
    print(report(storm, database, time.monotonic() - begun))
    command = f"make faults SECONDS={SECONDS:.0f} SEED={SEED} DATABASE={database}"
    assert not wrong, "\n".join([*wrong, f"To try it again: {command}"])


def report(storm: Storm, database: str, seconds: float) -> str:
    """Return a table: how often what was tried while a protocol was at work."""
    faults = sorted({fault for fault, _ in storm.table})
    lines = [f"{database}, seed {storm.seed}, {seconds:.0f} s, by protocol:"]
    for fault in faults:
        by = [storm.table[fault, name] for name in DRIVERS]
        lines.append(
            f"| {fault} | {storm.table[fault, '']} | " + " | ".join(map(str, by))
        )
    sent = [sum(entry.protocol == name for entry in storm.entries) for name in DRIVERS]
    done = sum(entry.is_done for entry in storm.entries)
    pieces = sum(len(entry.acked) for entry in storm.entries)
    lines += [
        f"| files | {len(storm.entries)} | " + " | ".join(map(str, sent)),
        f"protocols: {list(DRIVERS)}",
        f"done: {done}, pieces acknowledged: {pieces}, told again: {storm.repeated()}",
        f"lost, wrong, doubled or left behind: {len(storm.wrong)}",
        f"refusals: {sorted(storm.statuses.items())}",
    ]
    return "\n".join(lines)


@pytest.mark.once
def test_a_storm_on_sqlite(make_storm):
    survives(make_storm("sqlite", with_celery=False), "sqlite")


@pytest.mark.once
def test_a_storm_on_postgres_with_celery(make_storm):
    survives(make_storm("postgres", with_celery=True), "postgres")
