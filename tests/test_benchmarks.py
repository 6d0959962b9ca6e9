"""The benchmarks run, and their figures are put side by side rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import tables, usage

from .processes import ROOT


def row(item, server, **figures):
    return {"item": item, "server": server, "client": "PUT", "figures": figures}


def test_of_several_runs_the_medians_are_shown():
    runs = [row("one", "ours", cpu=cpu) for cpu in (1.0, 9.0, 2.0)]
    runs += [row("one", "theirs", cpu=4.0), row("two", "ours", cpu=8.0)]
    ours, theirs, other = tables.medians(runs)
    assert (ours["cpu"], ours["ratio"], ours["runs"]) == (2.0, 1.0, 3)
    assert (theirs["cpu"], theirs["ratio"]) == (4.0, 2.0)
    assert other["ratio"] == 1.0


def test_a_table_has_only_columns_that_somebody_fills():
    runs = [row("one", "ours", cpu=1.0), row("one", "limit", cpu=0.5, finish=3.0)]
    text = tables.table(tables.medians(runs))
    assert "| server | by | CPU | x best | ms to file |" in text
    assert "| limit | PUT | 0.50 | 1.00 | 3 |" in text
    assert "| ours | PUT | 1.00 | 2.00 |  |" in text


def test_budgets_are_held_against_the_yardstick_of_the_same_run():
    runs = [
        row("1 MiB chunks", "resumable_uploads", cpu=3.0),
        row("1 MiB chunks", "tusd", cpu=2.0) | {"client": "tus"},
        row("8 MiB chunks", "resumable_uploads", cpu=2.0),
        row("8 MiB chunks", "tusd", cpu=2.0) | {"client": "tus"},
        row("offset", "resumable_uploads", cpu=601.0),
        row("one request", "resumable_uploads", cpu=1.0) | {"client": "PATCH"},
    ]
    text = tables.budgets(tables.medians(runs))
    assert (
        "| 1 MiB chunks | PUT | CPU | 3.00 | 2.00 | 1.50 | 1.5 x tusd | met |" in text
    )
    assert "| 1.00 | 0.75 x tusd | missed |" in text
    assert "| offset | PUT | CPU | 601.00 |  |  | 600 | missed |" in text
    # Without a yardstick nothing is claimed.
    assert "| one request | PATCH | CPU | 1.00 |  |  | 0.6 x tusd |  |" in text


def test_all_servers_are_shown_beside_each_other():
    runs = [
        row("8 MiB chunks", "ours", cpu=1.0),
        row("1 MiB chunks", "ours", cpu=2.0),
        row("1 MiB chunks", "theirs", cpu=3.0),
        row("offset", "ours", cpu=500.0),
    ]
    assert tables.overview(tables.medians(runs)).splitlines() == [
        "| server | by | 8 MiB chunks | 1 MiB chunks |",
        "| --- | --- | ---: | ---: |",
        "| ours | PUT | 1.00 | 2.00 |",
        "| theirs | PUT |  | 3.00 |",
    ]


@pytest.mark.once
def test_a_short_run_measures_the_app_beside_what_the_machine_allows(tmp_path):
    result = tmp_path / "result.json"
    options = ["--size", "4", "--repeats", "1", "--item", "1 MiB chunks"]
    options += ["--server", "resumable", "--server", "limit", "--server", "WSGI"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options, "--json", result],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(result.read_text())["rows"]
    assert {(one["server"], one["client"]) for one in rows} >= {
        ("resumable_uploads", "PUT"),
        ("resumable_uploads", "PATCH"),
        ("resumable_uploads", "form"),
        ("resumable_uploads", "tus"),
        ("resumable_uploads", "OSS part"),
        ("limit: splice", "sink"),
        ("limit: read and write", "sink"),
        ("bare WSGI", "sink"),
    }
    assert "**1 MiB chunks**" in done.stdout


def test_a_figure_that_one_run_has_not_counts_as_nothing():
    of = {"item": "one request", "server": "app", "client": "PUT"}
    figures = [{"cpu": 1.0}, {"cpu": 3.0, "database": 0.2}, {"cpu": 2.0}]
    [row] = tables.medians(of | {"figures": one} for one in figures)
    assert (row["cpu"], row["database"], row["runs"]) == (2.0, 0.0, 3)


def busy(seconds):
    """Use so much CPU, and return what the measure says of it."""
    before, ends = usage.cpu_seconds(os.getpid()), time.process_time() + seconds
    while time.process_time() < ends:
        pass
    return usage.cpu_seconds(os.getpid()) - before


def test_what_takes_less_than_a_tick_is_measured():
    shortest = 0.1 / usage.TICKS
    assert shortest <= min(busy(shortest) for _ in range(5)) < 1 / usage.TICKS


def test_children_that_have_ended_are_counted():
    before = usage.cpu_seconds(os.getpid())
    code = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert usage.cpu_seconds(os.getpid()) - before > 0.15
