"""Figures of many runs as medians, beside each other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Run = dict[str, Any]
COLUMNS = {
    "cpu": ("CPU", ".2f"),
    "ratio": ("x best", ".2f"),
    "rate": ("MiB/s", ".0f"),
    "peak": ("peak MiB", ".0f"),
    "finish": ("ms to file", ".0f"),
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
                name: statistics.median(one[name] for one in figures)
                for name in figures[0]
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
