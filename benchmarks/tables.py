"""Figures of many runs as medians, beside each other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Run = dict[str, Any]
COLUMNS = {
    "cpu": ("CPU", ".2f"),
    "database": ("CPU of the database", ".2f"),
    "ratio": ("x best", ".2f"),
    "rate": ("MiB/s", ".0f"),
    "peak": ("peak MiB", ".0f"),
    "finish": ("ms to file", ".0f"),
    "seconds": ("seconds", ".0f"),
    "longest": ("longest statement, ms", ".0f"),
    "p50": ("p50 ms", ".1f"),
    "p99": ("p99 ms", ".1f"),
    "requests": ("req/s", ".0f"),
    "again": ("MiB again", ".1f"),
}


def medians(runs: Iterable[Run]) -> list[Run]:
    """Return one row for each item, server and client, with the medians of its runs."""
    rows: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for run in runs:
        key = run["item"], run["server"], run["client"]
        rows.setdefault(key, []).append(run["figures"])
    found = [
        {
            "item": item,
            "server": server,
            "client": client,
            "runs": len(figures),
            **{
                # What was too little to be seen in a run is not there.
                name: statistics.median(one.get(name, 0.0) for one in figures)
                for name in dict.fromkeys(name for one in figures for name in one)
            },
        }
        for (item, server, client), figures in rows.items()
    ]
    for row in found:
        best = min(
            (
                one["cpu"]
                for one in found
                if one["item"] == row["item"] and "cpu" in one
            ),
            default=0,
        )
        if best and "cpu" in row:
            row["ratio"] = row["cpu"] / best
    return found


# What is to hold: of which item, by which clients, what of it, and at most how much;
# as a share of what tusd takes in the same run, or of itself.
BUDGETS = [
    ("one request", ("PATCH", "tus"), "cpu", 0.6, "tusd"),
    ("8 MiB chunks", ("PUT", "PATCH", "tus"), "cpu", 0.75, "tusd"),
    ("1 MiB chunks", ("PUT", "PATCH", "tus"), "cpu", 1.5, "tusd"),
    ("1 MiB chunks", ("form",), "cpu", 1.4, "tusd"),
    ("16 at once, 1 MiB", ("PUT", "PATCH", "tus"), "cpu", 1.8, "tusd"),
    ("finish, 64 MiB", ("PUT", "tus"), "finish", 50, ""),
    ("finish, 512 MiB", ("PUT", "tus"), "finish", 50, ""),
    ("finish, 2048 MiB", ("PUT", "tus"), "finish", 50, ""),
    ("16 at once, 1 MiB", ("PUT", "PATCH", "tus", "form", "OSS part"), "peak", 120, ""),
    ("64 at once, 1 MiB", ("PUT", "PATCH", "tus", "form", "OSS part"), "peak", 120, ""),
    ("offset", ("PUT", "PATCH", "tus"), "cpu", 600, ""),
    ("offset, 1,000,000 sessions", ("PUT", "PATCH", "tus"), "cpu", 600, ""),
    ("creation", ("PUT", "tus"), "cpu", 1200, ""),
    ("creation, 1,000,000 sessions", ("PUT", "tus"), "cpu", 1200, ""),
    ("kill -9 in one request", ("PATCH", "tus"), "again", 16, ""),
    ("purge of 1,000,000", ("PUT",), "longest", 1000, ""),
    ("purge of 1,000,000", ("PUT",), "peak", 120, ""),
]
OURS = "resumable_uploads"


def budgets(rows: list[Run]) -> str:
    """Return what was measured beside what it should be, as Markdown."""
    lines = [
        ["work", "by", "figure", "ours", "beside", "x", "budget", ""],
        ["---", "---", "---", "---:", "---:", "---:", "---:", "---"],
    ]
    for item, by, name, budget, beside in BUDGETS:
        other = _figure(rows, item, beside, ("tus",), name).get("tus")
        for client, value in _figure(rows, item, OURS, by, name).items():
            title, shape = COLUMNS[name]
            found = value
            if beside:
                found = value / other if other else 0.0
            verdict = "" if beside and not other else _verdict(found <= budget)
            lines.append(
                [
                    item,
                    client,
                    title,
                    format(value, shape),
                    format(other, shape) if other else "",
                    format(found, ".2f") if beside and other else "",
                    f"{budget} x {beside}" if beside else str(budget),
                    verdict,
                ]
            )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TRANSFERS = (
    "one request",
    "8 MiB chunks",
    "1 MiB chunks",
    "16 at once, 1 MiB",
    "64 at once, 1 MiB",
)


def overview(rows: list[Run]) -> str:
    """Return the CPU seconds for a GiB of all servers in one table, as Markdown."""
    items = [item for item in TRANSFERS if any(row["item"] == item for row in rows)]
    lines = [["server", "by", *items], ["---", "---", *["---:"] * len(items)]]
    found = {
        (row["item"], row["server"], row["client"]): format(row["cpu"], ".2f")
        for row in rows
        if row["item"] in items
    }
    for server, client in dict.fromkeys(key[1:] for key in found):
        cells = [found.get((item, server, client), "") for item in items]
        lines.append([server, client, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figure(
    rows: list[Run], item: str, server: str, by: tuple[str, ...], name: str
) -> dict[str, float]:
    """Return a figure by client."""
    return {
        row["client"]: row[name]
        for row in rows
        if (row["item"], row["server"]) == (item, server)
        and row["client"] in by
        and name in row
    }


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


def table(rows: list[Run]) -> str:
    """Return rows as Markdown, a table for each item."""
    return "\n\n".join(
        _table(item, [row for row in rows if row["item"] == item])
        for item in dict.fromkeys(row["item"] for row in rows)
    )


def _table(item: str, rows: list[Run]) -> str:
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    heads = ["server", "by", *(COLUMNS[name][0] for name in columns)]
    lines = [heads, ["---"] * 2 + ["---:"] * len(columns)]
    for row in rows:
        cells = [
            format(row[name], COLUMNS[name][1]) if name in row else ""
            for name in columns
        ]
        lines.append([row["server"], row["client"], *cells])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{item}**\n\n{text}"
