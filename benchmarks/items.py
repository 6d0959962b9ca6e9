"""What is measured: each item does one thing to a running server, and returns figures.

Figures are by name: ``cpu`` server CPU seconds for a GiB (or microseconds for a
request), ``rate`` MiB/s, ``peak`` MiB, ``finish``, ``p50``, ``p99`` and ``longest`` (of
the statements) milliseconds, ``seconds``, ``requests`` a second, ``again`` MiB that had
to be sent again.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import clients, usage
from .servers import App, Server
from .wire import MIB

GIB = 1024 * MIB
# Of memory, besides what files take.
SPARE = 256 * MIB
# Enough to meet all processes of a server.
CONNECTIONS = 16
Figures = dict[str, float]


@dataclass
class Watch:
    """What a server used between two moments, and how long each request took."""

    cpu: float = 0.0
    # Of that server's database, where it is one of its own.
    database: float = 0.0
    seconds: float = 0.0
    peak: float = 0.0
    took: list[float] = field(default_factory=list)

    def costs(self, unit: float) -> Figures:
        """Return the CPU by what was done, in units of it."""
        found = {"cpu": self.cpu / unit}
        return found | ({"database": self.database / unit} if self.database else {})

    def of_requests(self) -> Figures:
        took = sorted(self.took) or [0.0]
        return {
            "p50": 1000 * statistics.median(took),
            "p99": 1000 * took[min(len(took) - 1, len(took) * 99 // 100)],
            "requests": len(self.took) / self.seconds,
        }


@contextmanager
def watched(server: Server, watch: Watch | None = None) -> Iterator[Watch]:
    """See what a server uses meanwhile; with a watch, what it uses besides."""
    pids, watch = server.pids, watch or Watch()
    for pid in pids:
        usage.forget_peak(pid)
    before, begun = _used(pids), time.monotonic()
    database = _used(server.database_pids)
    yield watch
    watch.seconds += time.monotonic() - begun
    watch.cpu += _used(pids) - before
    watch.database += _used(server.database_pids) - database
    watch.peak = max(watch.peak, *(usage.peak_memory(pid) / MIB for pid in pids))


def _used(pids: Sequence[int]) -> float:
    return sum(map(usage.cpu_seconds, pids))


def warm_up(server: Server, client: type[clients.Client]) -> None:
    """Have each process of a server do once what it does for a first request."""
    opened = [client(server.port) for _ in range(CONNECTIONS)]
    _together([partial(_send_one, one) for one in opened])


def _send_one(one: clients.Client) -> None:
    one.open(MIB, MIB)
    one.send(0, MIB)
    one.finish()
    one.drop()
    one.close()


class Item:
    """One line of the table, for servers that speak something it can be done by."""

    name = ""
    # Only by these clients; None: by all.
    by: tuple[type[clients.Client], ...] | None = None
    # It takes long, and says the same each time.
    at_most: int | None = None
    # Is it left out unless somebody asks for it?
    is_long = False
    # Is it about the database, and none of what stands before the app?
    is_of_database = False

    def is_wanted(self, words: list[str] | None) -> bool:
        if not words:
            return not self.is_long
        return any(word in self.name for word in words)

    def fits(self, server: Server, client: type[clients.Client]) -> bool:
        if self.is_of_database and type(server) is not App:
            return False
        return self.by is None or issubclass(client, self.by)

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        raise NotImplementedError


class Transfer(Item):
    """Some uploads at once, each in chunks of one size."""

    def __init__(self, name: str, size: int, chunk: int, at_once: int = 1) -> None:
        self.name = name
        self.size, self.chunk, self.at_once = size, chunk, at_once

    def fits(self, server: Server, client: type[clients.Client]) -> bool:
        is_numbered = issubclass(client, clients.Put | clients.Form | clients.Part)
        return not (is_numbered and self.chunk > 256 * MIB)

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        opened = [client(server.port) for _ in range(self.at_once)]
        size = self.size // self.at_once // self.chunk * self.chunk
        begins = 0
        if self.at_once > 1:
            # What each thread does once, such as connecting to the database, is not
            # what a chunk takes.
            begins, size = self.chunk, max(size, 2 * self.chunk)
        for one in opened:
            one.open(size, self.chunk)
        usage.touch_memory(self.size + SPARE)
        self._send_all(opened, 0, begins, Watch())
        with watched(server) as watch:
            self._send_all(opened, begins, size, watch)
        for one in opened:
            one.finish()
            one.drop()
            one.close()
        sent = (size - begins) * self.at_once
        return (
            watch.costs(sent / GIB)
            | {
                "rate": sent / MIB / watch.seconds,
                "peak": watch.peak,
            }
            | watch.of_requests()
        )

    def _send_all(
        self, opened: list[clients.Client], start: int, end: int, watch: Watch
    ) -> None:
        if end > start:
            _together([partial(self._send, one, start, end, watch) for one in opened])

    def _send(self, one: clients.Client, start: int, end: int, watch: Watch) -> None:
        for offset in range(start, end, self.chunk):
            begun = time.monotonic()
            one.send(offset, min(self.chunk, end - offset))
            watch.took.append(time.monotonic() - begun)


class Finish(Item):
    """From the last byte on its way to the file, by the size of the file."""

    by = (clients.Put, clients.Tus)

    def __init__(self, size: int) -> None:
        self.name, self.size = f"finish, {size // MIB} MiB", size

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        one, chunk = client(server.port), 8 * MIB
        one.open(self.size, chunk)
        for offset in range(0, self.size - chunk, chunk):
            one.send(offset, chunk)
        with watched(server) as watch:
            one.send(self.size - chunk, chunk)
            one.finish()
            took = time.monotonic() - one.wire.left_at
        one.drop()
        one.close()
        return {"finish": 1000 * took, "peak": watch.peak}


class Asking(Item):
    """Small requests, one after another, with so many sessions of others beside."""

    by = (clients.Put, clients.Patch, clients.Tus)
    warm_up = 20

    def __init__(self, name: str, count: int, crowd: int = 0) -> None:
        self.name, self.count, self.crowd = name, count, crowd
        if crowd:
            self.name += f", {crowd:,} sessions"
            self.is_of_database = True

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        if self.crowd:
            assert isinstance(server, App)
            server.gather(self.crowd)
        one, watch = client(server.port), Watch()
        self._ask(server, one, watch)
        one.close()
        return watch.costs(1e-6 * len(watch.took)) | watch.of_requests()

    def _ask(self, server: Server, one: clients.Client, watch: Watch) -> None:
        raise NotImplementedError


class Offset(Asking):
    """How far an upload has got, asked of one that is half there."""

    def _ask(self, server: Server, one: clients.Client, watch: Watch) -> None:
        one.open(2 * MIB, MIB)
        one.send(0, MIB)
        for _ in range(self.warm_up):
            one.ask()
        with watched(server, watch):
            for _ in range(self.count):
                begun = time.monotonic()
                one.ask()
                watch.took.append(time.monotonic() - begun)
        one.drop()


class Creation(Asking):
    """Uploads opened, and between two rounds dropped: nobody may have too many."""

    by = (clients.Put, clients.Tus)
    at_once = 60

    def _ask(self, server: Server, one: clients.Client, watch: Watch) -> None:
        for _ in range(self.warm_up):
            one.open(MIB, MIB)
            one.drop()
        for _ in range(self.count // self.at_once):
            opened = []
            with watched(server, watch):
                for _ in range(self.at_once):
                    begun = time.monotonic()
                    one.open(MIB, MIB)
                    watch.took.append(time.monotonic() - begun)
                    opened.append(one.path)
            for one.path in opened:
                one.drop()


class Killed(Item):
    """What has to be sent again after kill -9 in the middle of one long request."""

    name = "kill -9 in one request"
    by = (clients.Patch, clients.Tus)

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        one = client(server.port)
        one.open(self.size, self.size)
        sender = threading.Thread(target=_quietly, args=[one, self.size])
        sender.start()
        # Until a good part of it has been read.
        while one.wire.sent < self.size // 2 and sender.is_alive():
            time.sleep(0.001)
        server.kill()
        sender.join()
        sent = one.wire.sent
        one.close()
        server.start()
        after = client(server.port)
        after.path, after.wire.cookies = one.path, one.wire.cookies
        there = after.offset()
        after.drop()
        after.close()
        return {"again": (sent - there) / MIB}


def _quietly(client: clients.Client, size: int) -> None:
    try:
        client.send(0, size)
    except (OSError, clients.Refused):
        return


class Purge(Item):
    """A purge of so many expired sessions, by the command, while a client uploads."""

    by = (clients.Put,)
    at_most = 1
    is_long = True
    is_of_database = True

    def __init__(self, count: int) -> None:
        self.name, self.count = f"purge of {count:,}", count

    def run(self, server: Server, client: type[clients.Client]) -> Figures:
        assert isinstance(server, App)
        server.run("-m", "benchmarks.crowd", str(self.count), "--expired")
        ends, watch = threading.Event(), Watch()
        calls = [
            lambda: self._purge(server, ends),
            lambda: self._upload(client(server.port), ends, watch),
        ]
        begun = time.monotonic()
        said, _ = _together(calls)
        watch.seconds = time.monotonic() - begun
        if said["left"]:
            raise clients.Refused(f"{said['left']} have not expired.")
        print(f"The longest statement: {said['statement']}")
        figures = {
            "seconds": said["seconds"],
            "peak": said["peak"],
            "longest": 1000 * said["longest"],
        }
        return figures | watch.of_requests()

    def _purge(self, server: App, ends: threading.Event) -> Any:
        try:
            return json.loads(server.run("-m", "benchmarks.crowd", "--purge"))
        finally:
            ends.set()

    def _upload(self, one: clients.Client, ends: threading.Event, watch: Watch) -> None:
        """Upload one file after another, until the purge is done."""
        size = 16 * MIB
        while not ends.is_set():
            one.open(size, MIB)
            for offset in range(0, size, MIB):
                begun = time.monotonic()
                one.send(offset, MIB)
                watch.took.append(time.monotonic() - begun)
                # A client, and not all that the machine can do.
                time.sleep(0.05)
            one.finish()
            one.drop()
        one.close()


def _together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all at the same time; return what they do, or raise what one raises."""
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.result() for future in futures]


def items(scale: int, crowd: int) -> list[Item]:
    """Return all items for a file of this size, and so many sessions of others.

    Smaller files make a quicker run.
    """
    is_quick = scale < 256 * MIB
    asked, opened = (120, 60) if is_quick else (600, 300)
    found: list[Item] = [
        Transfer("one request", scale, scale),
        Transfer("8 MiB chunks", scale, 8 * MIB),
        Transfer("1 MiB chunks", scale, MIB),
        Transfer("16 at once, 1 MiB", scale, MIB, at_once=16),
        Transfer("64 at once, 1 MiB", scale, MIB, at_once=64),
        Finish(64 * MIB),
        Offset("offset", asked),
        Creation("creation", opened),
        Killed(scale),
    ]
    if not is_quick:
        found += [
            Finish(512 * MIB),
            Finish(2048 * MIB),
            Offset("offset", asked, crowd),
            Creation("creation", opened, crowd),
            Purge(crowd),
        ]
    return found
