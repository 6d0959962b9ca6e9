"""Many uploads over all protocols, while everything they need is taken from them.

All is drawn from the seed: what is sent, how it is broken off, and what dies when. Real
processes take their own time, so the same seed gives the same plan, not the same order
of events to the microsecond.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from resumable_uploads.schedule import BEAT_SCHEDULE
from tests.client import Answer, Body, Client, RawRequest
from tests.contracts.protocol import Driver, File, Refused
from tests.live import CeleryWorker, LiveSite
from tests.rest import sha256
from tests.services import PostgreSQL, Valkey
from tests.test_bucket_contracts import OssDriver, S3Driver
from tests.test_client_contracts import (
    ConcurrentFineDriver,
    FineDriver,
    FlowDriver,
    ResumableDriver,
    SimpleDriver,
)
from tests.test_client_contracts import RestDriver as ByteOffsetDriver
from tests.test_protocol_contracts import RestByPatch, RestByPut
from tests.test_tus_contracts import (
    AppendingDriver,
    DraftDriver,
    OlderDriver,
    TusDriver,
)

from .disk import Disk, folder_of, small_disk
from .inspection import Books, open_files

DRIVERS: dict[str, Driver] = {
    "REST, chunks": RestByPut(),
    "REST, appends": RestByPatch(),
    "tus": TusDriver(),
    "IETF draft": DraftDriver(),
    "IETF draft 6": OlderDriver(),
    "Resumable.js": ResumableDriver(),
    "flow.js": FlowDriver(),
    "simple-uploader": SimpleDriver(),
    "Fine Uploader": FineDriver(),
    "Fine, concurrent": ConcurrentFineDriver(),
    "javascript.info": ByteOffsetDriver(),
    "OSS": OssDriver(),
    "S3": S3Driver(),
}
# What a client says who has not been served; XML that is cut is a SyntaxError.
BY_HAND = (
    Refused,
    OSError,
    http.client.HTTPException,
    ValueError,
    SyntaxError,
    AssertionError,
    KeyError,
)
MOST_PIECES = 5
# Seconds in which an upload must come to its end once nothing is in its way any more.
PATIENCE = 90.0


class Sender(Client):
    """A visitor who forgets no connection that is left hanging."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=20)
        self.hanging: list[RawRequest] = []
        # What clients of buckets sent their manifests with.
        self.listed: list[Any] = []
        # What was asked for last.
        self.asked = ""

    def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.asked = path
        return super().request(method, path, body, headers)

    def cut(
        self,
        method: str,
        path: str,
        body: bytes,
        after: int,
        how: str = "fin",
        headers: Mapping[str, str] | None = None,
    ) -> RawRequest:
        # What is signed has a host of its own.
        sent = {
            name: value for name, value in (headers or {}).items() if name != "Host"
        }
        request = super().cut(method, path, body, after, how, sent)
        self.hanging.append(request)
        return request

    def hang_up(self) -> None:
        for request in self.hanging:
            with contextlib.suppress(OSError):
                request.close()
        self.hanging.clear()
        self.close()


@dataclass
class Entry:
    """What a client knows of one file it sends."""

    protocol: str
    name: str
    data: bytes
    piece: int
    fate: str
    acked: set[int] = field(default_factory=set)
    # Has it been told that all is there?
    is_done: bool = False
    is_ended: bool = False
    # SHA-256, where the bytes themselves are not kept.
    sum: str = ""


class Storm:
    """One site, its clients, and what is done to them."""

    # The site's environment, and how many connections its database allows.
    env = {"WEB_WORKERS": "3", "WEB_THREADS": "16"}
    connections = 200

    def __init__(
        self, folder: Path, seed: str, database: str, with_celery: bool
    ) -> None:
        self.folder, self.seed = folder, seed
        self.random = random.Random(f"chaos {seed}")
        self.over = threading.Event()
        self.calm = threading.Event()
        self.lock = threading.Lock()
        self.table: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.entries: list[Entry] = []
        self.under_way: dict[int, str] = {}
        self.wrong: list[str] = []
        (folder / "tmp").mkdir()
        env = self.env | {"TMPDIR": str(folder / "tmp")}
        self.postgres = self.valkey = self.worker = self.beat = None
        url = ""
        if database == "postgres":
            self.postgres = PostgreSQL.alone(self.connections)
            url = self.postgres.create("site")
        if with_celery:
            self.valkey = Valkey(folder.with_name(f"{folder.name}-valkey")).start()
            env["CELERY_BROKER_URL"] = self.valkey.url
        self.disk = self.own_disk()
        files = folder_of(self.disk, folder)
        self.site = self.made(folder, url, env)
        self.books = Books(folder, url, files)
        if url:
            self.site.manage("migrate", "--verbosity", 0)

    def made(self, folder: Path, url: str, env: dict[str, str]) -> LiveSite:
        """Return the site: one that hurries, where calls fail and clocks lie."""
        about = SETTINGS | {"MEDIA_ROOT": str(folder_of(self.disk, folder) / "media")}
        return LiveSite(
            folder, database_url=url, uploads=UPLOADS, settings=about, env=env
        )

    def own_disk(self) -> Disk | None:
        """Return a disk for uploads alone, where that is allowed."""
        return small_disk()

    def start(self) -> None:
        self.site.start()
        if self.valkey:
            self.worker = CeleryWorker(self.site, concurrency=2).start()
            self.beat = CeleryWorker(self.site, beat=True).start()

    def stop(self) -> None:
        for service in (self.worker, self.beat, self.site, self.postgres):
            if service:
                service.kill()
        if self.valkey:
            self.valkey.stop()
        if self.disk:
            self.disk.remove()

    def run(self, seconds: float, clients: int) -> None:
        """Let the storm rage for so long, then have everything brought to its end."""
        threads = [
            threading.Thread(target=self._send_files, args=(number,), daemon=True)
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self.random.uniform(0.2, 1.5))
            self._strike()
            self._revive()
        self.calm.set()
        self._plan()
        self._revive()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.wrong.append(f"a client hangs: {self.under_way}")
        self.over.set()

    # What dies

    def _strike(self) -> None:
        blows: list[tuple[str, Callable[[], None]]] = [
            ("web worker killed", self._kill_worker),
            ("web worker killed", self._kill_worker),
            ("server killed", self._kill_server),
            ("graceful restart", self.site.restart),
            ("writes fail", lambda: self._fail(errno.EIO, pwrite=0.3)),
            ("fsync fails", lambda: self._fail(errno.EIO, fsync=0.5)),
            ("link fails", lambda: self._fail(errno.EIO, link=0.5)),
            (
                "unlink, mkdir fail",
                lambda: self._fail(errno.EIO, unlink=0.5, mkdir=0.3),
            ),
            ("disk full", lambda: self._fail(errno.ENOSPC, **FULL)),
            ("clocks differ", lambda: self._plan(skew=self.random.uniform(1, 20))),
        ]
        if self.postgres:
            blows.append(("PostgreSQL killed", self._kill_postgres))
        if self.valkey:
            blows.append(("Valkey killed", self._kill_valkey))
            blows.append(("Celery killed", self._kill_celery))
        if self.disk:
            blows += [("disk really full", self._fill_disk)] * 2
        name, blow = self.random.choice(blows)
        with self.lock:
            for protocol in self.under_way.values():
                self.table[name, protocol] += 1
            self.table[name, ""] += 1
        blow()

    def _kill_worker(self) -> None:
        assert self.site.process
        workers = psutil.Process(self.site.process.pid).children()
        if workers:
            self.random.choice(workers).send_signal(signal.SIGKILL)

    def _kill_server(self) -> None:
        self.site.kill()
        self.site.start()

    def _kill_postgres(self) -> None:
        assert self.postgres
        self.postgres.kill()
        time.sleep(self.random.uniform(0, 1))
        self.postgres.start()

    def _kill_valkey(self) -> None:
        assert self.valkey
        self.valkey.stop()
        time.sleep(self.random.uniform(0, 2))
        self.valkey.start()

    def _kill_celery(self) -> None:
        assert self.worker
        self.worker.kill()
        self.worker.start()

    def _revive(self) -> None:
        """Start Celery again where it has ended by itself, as service managers do.

        When its broker dies at the wrong moment, a worker of Celery 5.7 gives up.
        """
        for service in (self.worker, self.beat):
            if service and service.process and service.process.poll() is not None:
                self.table["Celery gave up", ""] += 1
                service.kill()
                service.start()

    def _fail(self, code: int, **calls: float) -> None:
        self._plan(fail=calls, errno=code)
        time.sleep(self.random.uniform(0.3, 1.5))
        self._plan()

    def _fill_disk(self) -> None:
        """Have the disk full to its last bytes, and free, and full again."""
        assert self.disk
        for _ in range(self.random.randint(1, 3)):
            self.disk.fill(self.random.choice([0, 0, 20_000, 300_000]))
            time.sleep(self.random.uniform(0.2, 1))
            self.disk.empty()
            time.sleep(self.random.uniform(0, 0.3))

    def _plan(self, **plan: Any) -> None:
        draft = self.folder / "faults.draft"
        draft.write_text(json.dumps(plan))
        draft.replace(self.folder / "faults.json")

    # What is sent

    def _send_files(self, client: int) -> None:
        rng = random.Random(f"client {client} {self.seed}")
        names = list(DRIVERS)
        rng.shuffle(names)
        count = 0
        while not self.calm.is_set():
            protocol = names[count % len(names)] if count < 39 else rng.choice(names)
            count += 1
            entry = new_entry(rng, protocol, f"{client}-{count}.bin")
            with self.lock:
                self.entries.append(entry)
                self.under_way[client] = protocol
            try:
                Sending(self, rng, entry).run()
            except Exception as error:
                self.note(entry, f"{type(error).__name__}: {error}")
        with self.lock:
            self.under_way.pop(client, None)

    def note(self, entry: Entry, said: str) -> None:
        with self.lock:
            self.wrong.append(f"{entry.protocol} {entry.name} ({entry.fate}): {said}")

    # Afterwards

    def settle(self) -> None:
        """Wait until housekeeping has done its part."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._revive()
            self.books.age()
            self.site.manage("uploads_doctor", "--resend", "--sweep", check=False)
            self.site.manage("purge_uploads")
            rows = self.books.rows()
            busy = [row for row in rows if row.state in ("assembling", "failed")]
            loose = [row for row in rows if row.state in ENDS and not row.settled]
            if not busy and not loose:
                return
            time.sleep(1)

    def inspect(self) -> list[str]:
        """Return everything that is not as it should be."""
        expected = {entry.name: sha256(entry.data) for entry in self.entries}
        for entry in self.entries:
            if said := self._judged(entry):
                self.note(entry, said)
        checks = (
            self.books.wrong_files(expected),
            self.books.left_overs(),
            self.books.untold(),
        )
        self.wrong += [said for check in checks for said in check]
        assert self.site.process
        for worker in psutil.Process(self.site.process.pid).children():
            self.wrong += [
                f"{worker.pid} has {path} open"
                for path in open_files(worker.pid, self.folder, self.books.files)
            ]
        return self.wrong

    def _judged(self, entry: Entry) -> str:
        states = Counter(row.state for row in self.books.rows(entry.name))
        driver = DRIVERS[entry.protocol]
        if entry.is_done and not states["complete"]:
            return f"was told it is complete; there is {dict(states)}"
        if driver.finds_again and states["complete"] > 1:
            return f"{states['complete']} files"
        if entry.is_ended:
            return ""
        return self.books.missing(entry.name, entry.data, entry.piece, entry.acked)

    def repeated(self) -> int:
        """Return how many ends were told more than once, as after a death."""
        return sum(times > 1 for times in self.books.told().values())


class Sending:
    """One file on its way up."""

    # Seconds within which it must come to its end once nothing is in its way.
    patience = PATIENCE / 2
    # How pieces are sent: "" as they should be.
    ways = ("", "", "", "fin", "rst", "stall", "at once")

    def __init__(
        self, storm: Storm, rng: random.Random, entry: Entry, me: Sender | None = None
    ) -> None:
        self.storm, self.rng, self.entry = storm, rng, entry
        self.driver = DRIVERS[entry.protocol]
        self.me = me or Sender(storm.site.url)
        known = not isinstance(self.driver, AppendingDriver) or rng.random() < 0.7
        size = len(entry.data) if known else None
        self.file = File(entry.data, entry.name, size, key=entry.name)
        self.handle: Any = None

    def run(self) -> None:
        try:
            self.until_done("begin", self._begin)
            for number in self._order():
                self._send(number)
            self._end()
        finally:
            self.me.hang_up()

    def _begin(self) -> None:
        self.handle = self.driver.begin(self.me, self.file)

    def _order(self) -> list[int]:
        """Return the numbers of pieces, some of them twice."""
        numbers = list(range(len(self.file.pieces(self.driver.piece))))
        if self.driver.any_order:
            first = numbers[:1] if "Fine" in self.entry.protocol else []
            rest = numbers[len(first) :]
            self.rng.shuffle(rest)
            if self.rng.random() < 0.3:
                rest += self.rng.sample(rest, min(2, len(rest)))
            return first + rest
        return numbers

    def _send(self, number: int) -> None:
        how = self.rng.choice(self.ways)
        if number == 0 and "Fine" in self.entry.protocol:
            # To send the first one again is to begin anew.
            self.until_done("send", lambda: self._acked(number))
            return
        if how in ("fin", "rst", "stall"):
            self.count(f"cut: {how}")
            after = self.rng.randrange(self.driver.piece)
            with contextlib.suppress(*BY_HAND):
                self.driver.cut(self.me, self.handle, self.file, number, after, how)
        elif how == "at once":
            self.count("sent twice at once")
            self._send_beside(number)
        with contextlib.suppress(*BY_HAND):
            self._acked(number)
        if self.rng.random() < 0.2:
            self.count("sent again")
            with contextlib.suppress(*BY_HAND):
                self._acked(number)

    def _send_beside(self, number: int) -> None:
        """Let another connection of the same client send the same."""

        def send() -> None:
            twin = Sender(self.storm.site.url)
            twin.cookies = dict(self.me.cookies)
            with contextlib.suppress(*BY_HAND):
                self.driver.send(twin, self.handle, self.file, number)
            twin.hang_up()

        threading.Thread(target=send, daemon=True).start()

    def _acked(self, number: int) -> None:
        try:
            self.driver.send(self.me, self.handle, self.file, number)
        except Refused as refusal:
            self.seen(refusal)
            raise
        self.entry.acked.add(number)

    def _end(self) -> None:
        fate = self.entry.fate
        if fate == "left":
            self._check()
        elif fate == "cancelled":
            self._cancel()
        elif fate == "expired":
            self._expire()
        else:
            self.until_done("resume", self._go_on)
            self.entry.is_done = True

    def _go_on(self) -> None:
        """Ask what is there, send the rest, and say that it is all."""
        self._check()
        if "Fine" in self.entry.protocol and 0 not in self.entry.acked:
            self._acked(0)
        if not self._is_complete():
            self.driver.resume(self.me, self.handle, self.file)
            self.driver.finish(self.me, self.handle, self.file)

    def _is_complete(self) -> bool:
        """Tell whether the file is there, of whose end an answer was lost."""
        with contextlib.suppress(Exception):
            rows = self.storm.books.rows(self.entry.name)
            return any(row.state in ("assembling", "complete") for row in rows)
        return False

    def _check(self) -> None:
        """See that nothing is gone of what was acknowledged."""
        said = ""
        for _ in range(4):
            try:
                said = self.storm.books.missing(
                    self.entry.name,
                    self.entry.data,
                    self.entry.piece,
                    set(self.entry.acked),
                )
            except Exception:
                # The database is down, or bytes have moved: look again.
                said = "?"
            if not said:
                return
            time.sleep(0.5)
        if said != "?":
            self.storm.note(self.entry, f"acknowledged, and not there: {said}")

    def _cancel(self) -> None:
        self.entry.is_ended = True
        self.count("cancelled")
        for request in self.driver.cancels(self.handle):
            with contextlib.suppress(*BY_HAND):
                request.send(self.me)

    def _expire(self) -> None:
        self.entry.is_ended = True
        self.count("expired")
        with contextlib.suppress(Exception):
            self.storm.books.expire(self.entry.name)
        with contextlib.suppress(*BY_HAND):
            self.driver.send(self.me, self.handle, self.file, 0)

    def until_done(self, what: str, act: Callable[[], None]) -> None:
        """Try again until it works. Raise TimeoutError when it should have by now."""
        calm_since: float | None = None
        last: Exception | None = None
        while True:
            if self.storm.calm.is_set():
                calm_since = calm_since or time.monotonic()
                if time.monotonic() - calm_since > self.patience:
                    raise TimeoutError(f"{what} does not end: {last!r}")
            try:
                return act()
            except Refused as refusal:
                self.seen(refusal)
                last = refusal
            except BY_HAND as error:
                last = error
            time.sleep(self.rng.uniform(0.05, 0.5))

    def seen(self, refusal: Refused) -> None:
        answer = refusal.answer
        with self.storm.lock:
            self.storm.statuses[self.entry.protocol, answer.status] += 1
        is_meant = any(word in answer.body.lower() for word in MEANT_BY_500)
        # Of a page, Django itself says so when the database is away.
        if answer.status == 500 and not is_meant and self.me.asked != PAGE:
            self.storm.note(self.entry, f"a mistake of the server: {answer.body!r}")

    def count(self, fault: str) -> None:
        with self.storm.lock:
            self.storm.table[fault, self.entry.protocol] += 1
            self.storm.table[fault, ""] += 1


def new_entry(rng: random.Random, protocol: str, name: str) -> Entry:
    piece = DRIVERS[protocol].piece
    size = rng.randrange(1, MOST_PIECES * piece)
    fates = ["finished"] * 8 + ["left", "cancelled", "expired"]
    data = rng.randbytes(size)
    return Entry(protocol, name, data, piece, rng.choice(fates))


# A full disk, to Resumable.js; a silent client, to tus and the IETF draft.
PAGE = "/upload/"
MEANT_BY_500 = (b"no space left", b"storage_full", b"stalled")
ENDS = ("complete", "rejected", "cancelled", "expired")
FULL = {"pwrite": 0.7, "copy_file_range": 0.7, "mkdir": 0.3, "link": 0.2}
SOON = timedelta(seconds=2)
UPLOADS = {
    "HOUSEKEEPING_EVERY": SOON,
    "ASSEMBLY_TIMEOUT": timedelta(seconds=3),
    "ASSEMBLY_ATTEMPTS": 100_000,
    "STALL_TIMEOUT": timedelta(seconds=2),
    "IDLE_FLUSH": timedelta(seconds=0.2),
    "SEGMENT_SIZE": 64 * 1024,
    "BUFFER_SIZE": 16 * 1024,
    # Small files have small parts.
    "BUCKETS": {"demo-bucket": {"policy": "default", "min_part_size": 0}},
}
SETTINGS: dict[str, Any] = {
    "INSTALLED_APPS": [*settings.INSTALLED_APPS, "tests.faults.saboteur"],
    "CELERY_BEAT_SCHEDULE": {
        name: entry | {"schedule": SOON} for name, entry in BEAT_SCHEDULE.items()
    },
}
