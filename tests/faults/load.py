"""Many clients at once against a site as it is in production, for long.

Unlike in a storm nothing is made to fail within the site, and nothing hurries. Every
answer is judged: it is what was asked for, or the protocol explains it, or it is wrong.
So is every connection that breaks: somebody has killed or reloaded a worker just then.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.client import Answer, Body
from tests.live import LiveSite
from tests.rest import sha256

from .inspection import CHUNKS, Stretch
from .storm import DRIVERS, PATIENCE, Entry, Sender, Sending, Storm

# Bytes that files are cut from, and of the chunks of idle uploads.
POOL = random.Random("load").randbytes(32 * 1024 * 1024)
IDLE_CHUNK = 4096
# Open uploads that one visitor may have is what policies say: 100.
IDLE_OF_ONE = 50
# Seconds around a blow in which a connection may break; a reload is over when those
# who served before it are gone.
NEAR = 1.5
RELOAD_TAKES = 90.0
# Seconds that a file may wait for Celery, which has all the others to make as well.
QUEUE_TAKES = 300.0
# Sockets of a worker besides: those it listens at, and to the broker.
OTHERS = 30
# Seconds between two kills.
KILL_EVERY = 20.0
# A worker that has been as long as this under load has all it will ever need.
WARM_AFTER = 60.0
# What is left of a worker's memory to chance: 8 MiB, or a tenth.
MAY_GROW = (8 * 1024 * 1024, 0.1)

# Once something of an upload was cut off, repeated or lost, its client may be told that
# its offset is another one, that another request has taken over, or that all is there.
# Protocols that have no status for it say it by 400 and a word.
IN_THE_WAY = {409, 423}
SAID_BY_400 = (b"interrupted", b"offset_mismatch", b"not_receiving")
# And that an upload by parts is no more: it is complete, and that answer was lost.
IS_COMPLETE = {"OSS": 404, "S3": 404}


@dataclass
class Sample:
    """What a worker holds at a moment. ``memory`` is resident, in bytes."""

    at: float
    memory: int
    files: int
    threads: int


@dataclass
class Break:
    """A connection that broke between two moments."""

    since: float
    until: float
    what: str


@dataclass
class Tally:
    """What has been answered, by protocol and status, and what nobody explains."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    took: list[float] = field(default_factory=list)


class Judge(Sender):
    """A visitor who writes down every answer, and whether it is one to expect."""

    def __init__(self, load: Load) -> None:
        super().__init__(load.site.url)
        self.timeout = 120
        self.load = load
        self.protocol = ""
        # Was something of the upload at hand cut off, repeated, or lost?
        self.is_provoked = False
        self._fine_at = time.monotonic()

    def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        begun = time.monotonic()
        try:
            answer = super().request(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            what = f"{self.protocol} {method} {path}: {error!r}"
            self._note_break(f"{what} after {time.monotonic() - begun:.1f} s")
            raise
        self._judge(f"{method} {path}", answer, time.monotonic() - begun)
        return answer

    def cut(self, *args: Any, **kwargs: Any) -> Any:
        self.is_provoked = True
        return super().cut(*args, **kwargs)

    def hang_up(self) -> None:
        """End what hangs, and keep the connection for the next file."""
        for request in self.hanging:
            with contextlib.suppress(OSError):
                request.close()
        self.hanging.clear()

    def _note_break(self, what: str) -> None:
        self.is_provoked = True
        now = time.monotonic()
        with self.load.lock:
            self.load.tally.breaks.append(Break(self._fine_at, now, what))
        self._fine_at = now

    def _judge(self, asked: str, answer: Answer, took: float) -> None:
        self._fine_at = time.monotonic()
        said = f"{self.protocol} {asked}: {answer.status} {answer.body[:200]!r}"
        with self.load.lock:
            self.load.tally.took.append(took)
            self.load.tally.answers[self.protocol, answer.status] += 1
            if not self._is_explained(answer):
                self.load.tally.unexplained.append(said)
        if answer.status == 503:
            self.is_provoked = True

    def _is_explained(self, answer: Answer) -> bool:
        status = answer.status
        if status < 400:
            return True
        if status == 503:
            return "Retry-After" in answer.headers
        return self.is_provoked and (
            status in IN_THE_WAY
            or status == IS_COMPLETE.get(self.protocol)
            or status == 400
            and any(word in answer.body.lower() for word in SAID_BY_400)
        )


class LoadSending(Sending):
    """One file on its way up, at the pace of a client that is far away."""

    ways = ("",) * 12 + ("fin", "rst", "stall")
    patience = QUEUE_TAKES
    me: Judge

    def _send(self, number: int) -> None:
        time.sleep(self.rng.uniform(0, 1) if self.storm.over_after else 0)
        super()._send(number)

    def _acked(self, number: int) -> None:
        if number in self.entry.acked:
            self.me.is_provoked = True
        super()._acked(number)

    def _check(self) -> None:
        """Leave it to the end: there are other clients who want the database."""


class Load(Storm):
    """The site of docs/deployment.md, and as many clients as one likes."""

    env = {"WEB_WORKERS": "2", "WEB_THREADS": "100", "GRACEFUL_TIMEOUT": "10"}
    # workers x threads, twice while they are reloaded, and Celery.
    connections = 450
    over_after = 0.0

    def made(self, folder: Path, url: str, env: dict[str, str]) -> LiveSite:
        buckets = {"demo-bucket": {"policy": "default", "min_part_size": 0}}
        return LiveSite(folder, database_url=url, uploads={"BUCKETS": buckets}, env=env)

    def own_disk(self) -> None:
        """Leave the files beside the database."""

    def load(self, seconds: float, clients: int, idle: int, silent: int) -> None:
        """Have idle uploads and silent connections, then so many clients so long."""
        self.tally = Tally()
        self.blows: list[tuple[float, float]] = []
        self.samples: dict[int, list[Sample]] = defaultdict(list)
        self.over_after = seconds
        self.idle = self._leave(idle)
        self.at_rest = self._sampled()
        sampling = threading.Thread(target=self._sample, daemon=True)
        sampling.start()
        with self._silent(silent):
            self._bear(seconds, clients)
            self.over.set()
            sampling.join()
        self.afterwards = self._calmed()

    def _bear(self, seconds: float, clients: int) -> None:
        threads = [
            threading.Thread(target=self._send_for, args=(number,), daemon=True)
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        self._disturb(seconds)
        self.calm.set()
        for thread in threads:
            thread.join(QUEUE_TAKES)
            if thread.is_alive():
                self.wrong.append(f"a client hangs: {self.under_way}")

    # Clients

    def _send_for(self, client: int) -> None:
        rng = random.Random(f"client {client} {self.seed}")
        time.sleep(rng.uniform(0, min(5, self.over_after / 4)))
        names = list(DRIVERS)
        me, count = Judge(self), 0
        while not self.calm.is_set():
            me.protocol = names[(client + count) % len(names)]
            count += 1
            entry = self._entry(rng, me.protocol, f"{client}-{count}.bin")
            me.is_provoked = False
            self._send_one(rng, entry, me)
        me.close()

    def _entry(self, rng: random.Random, protocol: str, name: str) -> Entry:
        piece = DRIVERS[protocol].piece
        size = rng.randrange(1, 5 * piece)
        begin = rng.randrange(len(POOL) - size)
        fates = ["finished"] * 18 + ["left", "cancelled"]
        data = POOL[begin : begin + size]
        entry = Entry(protocol, name, data, piece, rng.choice(fates))
        with self.lock:
            self.entries.append(entry)
        return entry

    def _send_one(self, rng: random.Random, entry: Entry, me: Judge) -> None:
        try:
            LoadSending(self, rng, entry, me).run()
        except Exception as error:
            self.note(entry, f"{type(error).__name__}: {error}")
        # A sum is enough from here on.
        entry.sum, entry.data = sha256(entry.data), b""

    def _leave(self, count: int) -> list[str]:
        """Open uploads, send one chunk of each, and leave them; return their ids."""
        left: list[str] = []

        def leave(number: int) -> None:
            me = Sender(self.site.url)
            me.get("/upload/")
            for index in range(min(IDLE_OF_ONE, count - number * IDLE_OF_ONE)):
                said = {"filename": f"idle-{number}-{index}.bin"}
                said |= {"size": 3 * IDLE_CHUNK, "chunk_size": IDLE_CHUNK}
                upload = me.post("/uploads/", said).json()
                answer = me.put(f"{upload['url']}chunks/1/", POOL[:IDLE_CHUNK])
                assert answer.status == 201, answer.body
                left.append(upload["id"])
            me.close()

        numbers = iter(range(-(-count // IDLE_OF_ONE)))

        def work() -> None:
            for number in numbers:
                leave(number)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(left) == count
        return left

    @contextlib.contextmanager
    def _silent(self, count: int) -> Iterator[None]:
        """Have connections on which nothing is said."""
        lines = [
            socket.create_connection(("127.0.0.1", self.site.port), timeout=60)
            for _ in range(count)
        ]
        try:
            yield
        finally:
            for line in lines:
                line.close()

    # What is done to the site

    def _disturb(self, seconds: float) -> None:
        """Reload twice, early; kill the younger worker again and again."""
        begun = time.monotonic()
        for after, name in self._plan_of_blows(seconds):
            time.sleep(max(0, begun + after - time.monotonic()))
            if name == "reload":
                self._blow(name, self._reload)
            else:
                self._blow(name, self._kill_younger)
        while time.monotonic() < begun + seconds:
            time.sleep(0.1)
            self._revive()

    def _plan_of_blows(self, seconds: float) -> list[tuple[float, str]]:
        """Return what is done and when, in seconds; nothing in a run that is short."""
        if seconds < KILL_EVERY:
            return []
        kills, after = [], 0.0
        while after < seconds - 1:
            kills.append((after, "web worker killed"))
            after += KILL_EVERY * self.random.uniform(0.5, 1.5)
        reloads = [seconds / 10, seconds / 4]
        return sorted(kills + [(moment, "reload") for moment in reloads])

    def _blow(self, name: str, blow: Callable[[], None]) -> None:
        with self.lock:
            self.table[name, ""] += 1
        before = time.monotonic()
        blow()
        with self.lock:
            self.blows.append((before - NEAR, time.monotonic() + NEAR))

    def _reload(self) -> None:
        """Have new workers serve, and wait until the old ones have gone."""
        assert self.site.process
        old = {worker.pid for worker in self._workers()}
        os.kill(self.site.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_TAKES
        while old & {worker.pid for worker in self._workers()}:
            if time.monotonic() > deadline:
                self.wrong.append("a reload does not end")
                break
            time.sleep(0.1)

    def _kill_younger(self) -> None:
        """Kill a worker; the other one shows what becomes of its memory."""
        workers = sorted(self._workers(), key=lambda worker: worker.create_time())
        if len(workers) > 1:
            workers[-1].send_signal(signal.SIGKILL)

    # What the site holds

    def _workers(self) -> list[Any]:
        assert self.site.process
        return psutil.Process(self.site.process.pid).children()

    def _sampled(self) -> dict[int, Sample]:
        found = {}
        for worker in self._workers():
            with contextlib.suppress(psutil.Error):
                found[worker.pid] = Sample(
                    time.monotonic(),
                    worker.memory_info().rss,
                    worker.num_fds(),
                    worker.num_threads(),
                )
        return found

    def _sample(self) -> None:
        while not self.over.wait(1):
            for pid, sample in self._sampled().items():
                self.samples[pid].append(sample)

    def _calmed(self) -> dict[int, Counter[str]]:
        """Return what each worker has open when its clients have gone.

        It closes what they have left open at the latest when keepalive is over.
        """
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            held = {worker.pid: self._held(worker) for worker in self._workers()}
            if not any(map(self._holds_too_much, held.values())):
                break
            time.sleep(0.5)
        return held

    def _holds_too_much(self, kinds: Counter[str]) -> bool:
        """Tell whether there is more than a database connection for each thread."""
        return bool(kinds["clients"]) or kinds["socket"] > kinds["threads"] + OTHERS

    def _held(self, worker: Any) -> Counter[str]:
        kinds: Counter[str] = Counter()
        lines = worker.net_connections(kind="tcp")
        kinds["clients"] = sum(
            line.laddr.port == self.site.port and line.status != "LISTEN"
            for line in lines
        )
        for link in Path(f"/proc/{worker.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kinds[self._kind(str(link.readlink()))] += 1
        kinds["threads"] = worker.num_threads()
        return kinds

    def _kind(self, target: str) -> str:
        if target.startswith((f"{self.folder}/media", f"{self.folder}/tmp")):
            return "uploads"
        if "sqlite3" in target:
            return "database"
        return target.partition(":")[0] if target[0] != "/" else "other files"

    # Afterwards

    def settle(self) -> None:
        """Wait for Celery; let housekeeping do its part, if something is left to it."""
        waiting, since = -1, time.monotonic()
        while self._in_line() and time.monotonic() - since < PATIENCE:
            if self._in_line() != waiting:
                waiting, since = self._in_line(), time.monotonic()
            time.sleep(1)
        rows = [row for row in self.books.rows() if row.state != "receiving"]
        if not all(row.settled for row in rows):
            super().settle()

    def _in_line(self) -> int:
        return sum(row.state == "assembling" for row in self.books.rows())

    def judged(self) -> list[str]:
        """Return everything that is not as it should be."""
        expected = {entry.name: entry.sum for entry in self.entries}
        self.wrong += self.tally.unexplained
        self.wrong += self._unexplained_breaks()
        self.wrong += self._unfinished()
        self.wrong += self.books.wrong_files(expected)
        self.wrong += self.books.left_overs()
        self.wrong += self._idle_ones()
        self.wrong += self._leaks()
        return self.wrong

    def _unexplained_breaks(self) -> Iterator[str]:
        for broken in self.tally.breaks:
            if not any(
                begun <= broken.until and broken.since <= ended
                for begun, ended in self.blows
            ):
                yield f"broken while nothing happened: {broken.what}"

    def _unfinished(self) -> Iterator[str]:
        states: dict[str, Counter[str]] = defaultdict(Counter)
        for row in self.books.rows():
            states[row.filename][row.state] += 1
        for entry in self.entries:
            found = states[entry.name]
            if entry.is_done and not found["complete"]:
                yield f"{entry.protocol} {entry.name} is complete, and is {dict(found)}"
            if DRIVERS[entry.protocol].finds_again and found["complete"] > 1:
                yield f"{entry.protocol} {entry.name}: {found['complete']} files"
            if entry.fate == "finished" and not entry.is_done:
                yield f"{entry.protocol} {entry.name} was not finished"

    def _idle_ones(self) -> Iterator[str]:
        """Name idle uploads that are not as they were left."""
        rows = {row.id: row for row in self.books.rows()}
        chunks: dict[str, list[Stretch]] = defaultdict(list)
        for owner, size, key, start in self.books.ask(
            f"SELECT upload_id, size, key, start FROM {CHUNKS}"
        ):
            chunks[str(uuid.UUID(str(owner)))].append(Stretch(0, size, key, start))
        for upload_id in self.idle:
            row, there = rows.get(upload_id), chunks[upload_id]
            if not row or (row.state, row.received) != ("receiving", IDLE_CHUNK):
                yield f"idle {upload_id}: {row}"
            elif [self.books.bytes_at(one) for one in there] != [POOL[:IDLE_CHUNK]]:
                yield f"idle {upload_id}: other bytes, or {len(there)} chunks"

    def _leaks(self) -> Iterator[str]:
        threads = int(self.env["WEB_THREADS"])
        for pid, kinds in self.afterwards.items():
            if self._holds_too_much(kinds) or kinds["uploads"]:
                yield f"worker {pid} has {dict(kinds)} open when all have gone"
            if kinds["threads"] > threads + 8:
                yield f"worker {pid} has {kinds['threads']} threads"
        for pid, thirds in self.memory().items():
            _, middle, end = thirds
            if end - middle > max(MAY_GROW[0], MAY_GROW[1] * middle):
                yield f"worker {pid} grows: {thirds}"

    def memory(self) -> dict[int, list[int]]:
        """Return bytes at the beginning, middle and end of each worker that lasted.

        What it takes to become warm is not counted.
        """
        found = {}
        for pid, samples in self.samples.items():
            warm = [one for one in samples if one.at > samples[0].at + WARM_AFTER]
            if len(warm) > 30:
                tenth = len(warm) // 10
                half = len(warm) // 2
                spans = (warm[:tenth], warm[half : half + tenth], warm[-tenth:])
                found[pid] = [
                    sum(one.memory for one in span) // len(span) for span in spans
                ]
        return found
