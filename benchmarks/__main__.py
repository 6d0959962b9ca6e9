"""``python -m benchmarks``: see ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.services import PostgreSQL

from . import clients, tables
from .items import Item, items, warm_up
from .servers import SERVERS, App, Server
from .wire import MIB


def main() -> None:
    options, load = parsed(), os.getloadavg()[0]
    wanted = [
        item
        for item in items(options.size * MIB, options.crowd)
        if item.is_wanted(options.item)
    ]
    with started(options) as servers:
        if options.sessions:
            crowd(servers, options.sessions)
        by = options.client or {one.name for server in servers for one in server.speaks}
        runs = list(measured(wanted, servers, options.repeats, by))
    rows = tables.medians(runs)
    said = about(options, load)
    print(f"\n{said}\n\n{tables.table(rows)}")
    if any(row["item"] in tables.TRANSFERS for row in rows):
        print(f"\n**CPU seconds for a GiB**\n\n{tables.overview(rows)}")
    print(f"\n**Budgets**\n\n{tables.budgets(rows)}")
    if options.json:
        result = {"about": said, "rows": rows, "runs": runs}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="What uploads cost, beside yardsticks."
    )
    parser.add_argument("--size", type=int, default=1024, help="MiB of a file (1024)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--quick", action="store_true", help="64 MiB, once")
    parser.add_argument("--item", action="append", help="only those with this word")
    parser.add_argument("--server", action="append", help="only those with this word")
    parser.add_argument("--client", action="append", help="only this one, by its name")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--sessions", type=int, default=0, help="in the table before")
    parser.add_argument(
        "--crowd", type=int, default=10**6, help="how many are many (1,000,000)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where files go (/dev/shm, or temp)"
    )
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if options.quick:
        options.size, options.repeats = 64, 1
    if options.folder is None and Path("/dev/shm").is_dir():
        options.folder = Path("/dev/shm")
    return options


@contextlib.contextmanager
def started(options: argparse.Namespace) -> Iterator[list[Server]]:
    """Start all servers that are there; say which are not."""
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        contextlib.ExitStack() as stack,
    ):
        servers = []
        for kind in SERVERS:
            words = options.server or [""]
            if not any(word in kind.name for word in words):
                continue
            server = kind(Path(folder) / kind.__name__.lower())
            if server.missing:
                print(f"Without {server.name}: {server.missing}.")
                continue
            if isinstance(server, App) and options.database == "postgres":
                server.database = postgres_url()
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        yield servers


def postgres_url() -> str:
    """Return a new database in the PostgreSQL that the tests have."""
    return PostgreSQL.shared().create(f"benchmark_{int(time.time())}")


def crowd(servers: list[Server], count: int) -> None:
    for server in servers:
        if isinstance(server, App):
            print(f"Making {count:,} sessions ...")
            server.run("-m", "benchmarks.crowd", str(count))


def measured(
    wanted: list[Item], servers: list[Server], repeats: int, by: Container[str]
) -> Iterator[tables.Run]:
    """Run all items; servers take turns, so that they see the same weather."""
    for server in servers:
        for client in server.speaks:
            warm_up(server, client)
        server.clean()
    turns = (
        (item, turn, server)
        for item in wanted
        for turn in range(min(repeats, item.at_most or repeats))
        for server in servers
    )
    for item, _, server in turns:
        for client in server.speaks:
            if not item.fits(server, client) or client.name not in by:
                continue
            title = f"{item.name} · {server.name} · {client.name}"
            try:
                figures = item.run(server, client)
            except (OSError, clients.Refused) as error:
                print(f"{title}: {error}")
                continue
            finally:
                server.clean()
            print(f"{title}: {rounded(figures)}")
            yield {
                "item": item.name,
                "server": server.name,
                "client": client.name,
                "figures": figures,
            }


def rounded(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in figures.items())


def about(options: argparse.Namespace, load: float) -> str:
    today = datetime.now(UTC).date()
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} at the end"
    cores = len(Path("/proc/cpuinfo").read_text().split("processor\t")) - 1
    return (
        f"{today}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}, {cores} cores ({loads}), {options.database}, "
        f"files of {options.size} MiB in {options.folder}, medians of {options.repeats}"
    )


if __name__ == "__main__":
    main()
