"""The engine beside a simple model, in sequences that nobody would write.

The model of an upload is the bytes that were acknowledged. Whatever is done, in
whatever order, and broken off wherever: they are there, and the file is made of them,
once. MODEL_EXAMPLES=1000 has more sequences tried, and others each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resumable_uploads import assembly, engine, errors, retention
from resumable_uploads.body import Body
from resumable_uploads.models import END_STATES, Chunk, State, UploadSession
from resumable_uploads.policies import get_policy
from resumable_uploads.stores import Place, store_for
from tests.making import (
    ALICE,
    ScriptedSource,
    body,
    content,
    files_in,
    finished,
    open_upload,
    read,
    staging,
)

from .grounds import GROUNDS, prepared
from .steps import Steps

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
CHUNK = 20
SMALL: dict[str, Any] = {
    "RUNNER": "tests.making.lost_nudge",
    "BUFFER_SIZE": 8,
    "SEGMENT_SIZE": 15,
    "IDLE_FLUSH": timedelta(milliseconds=1),
    "STALL_TIMEOUT": timedelta(milliseconds=5),
    "FSYNC": "never",
    "ASSEMBLY_ATTEMPTS": 1000,
}
APPENDED = ("offset", "unknown", "half")
LIVING = (State.RECEIVING, State.ASSEMBLING, State.COMPLETE)


class Died(BaseException):
    """Stands for the end of a process: nobody handles it."""


@dataclass
class Upload:
    """What has been acknowledged of an upload."""

    pk: Any
    kind: str
    data: bytes
    length: int | None
    state: str = State.RECEIVING
    # By number; what is appended is number 0.
    chunks: dict[int, bytes] = field(default_factory=lambda: {})
    # What it became, once it is settled which bytes those are.
    whole: bytes | None = None

    @property
    def row(self) -> UploadSession:
        return UploadSession.objects.get(pk=self.pk)

    @property
    def appended(self) -> bytes:
        return self.chunks.get(0, b"")

    @property
    def received(self) -> int:
        return sum(map(len, self.chunks.values()))

    def joined(self) -> bytes:
        return b"".join(data for _, data in sorted(self.chunks.items()))


sizes = some.integers(0, 70)
# Most files have several pieces.
lengths = sizes | some.integers(40, 70)
numbers = some.integers(0, 3)
# Most ends come late, and most things do not die.
rarely = some.sampled_from([False, False, True])
cuts = some.none() | sizes
kinds = some.sampled_from(
    ["offset", "unknown", "number", "number", "parts", "parts", "half"]
)
acts = some.sampled_from(["again", "again", "beside", "cancel", "restart", "finish"])


class Engine(RuleBasedStateMachine):
    """All verbs, in any order, and deaths in the midst of them."""

    uploads = Bundle("uploads")
    ground = "folder"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.told = self.folder / "told"
        self.told.touch()
        self.known: list[Upload] = []
        self.seed = 0
        self.stack = ExitStack()
        about = SMALL | GROUNDS[self.ground] | {"POLICIES": {"default": {}}}
        self.stack.enter_context(
            override_settings(
                MEDIA_ROOT=str(self.folder / "media"), RESUMABLE_UPLOADS=about
            )
        )
        self.stack.enter_context(prepared(self.ground, self.told))

    def fresh(self, size: int) -> bytes:
        self.seed += 1
        return content(size, self.seed)

    # Opening

    def opened(self, kind: str, size: int, **said: Any) -> Upload:
        upload = open_upload(**said)
        self.known.append(Upload(upload.pk, kind, self.fresh(size), upload.length))
        if not size and kind in ("offset", "number"):
            self.known[-1].state = State.ASSEMBLING
        return self.known[-1]

    @initialize(target=uploads, kind=kinds, size=lengths)
    def open_the_first(self, kind: str, size: int) -> Upload:
        return self.open(kind, size)

    @precondition(lambda self: len(self.known) < 4)
    @rule(target=uploads, kind=kinds, size=lengths)
    def open(self, kind: str, size: int) -> Upload:
        about: dict[str, dict[str, Any]] = {
            "offset": {"length": size},
            "unknown": {},
            "number": {"length": size, "chunk_size": CHUNK},
            "parts": {"ends_when_full": False},
            "half": {"length": size, "ends_when_full": False},
        }
        return self.opened(kind, size, **about[kind])

    # Sending

    @rule(upload=uploads, number=numbers, size=sizes, cut=cuts)
    def send(self, upload: Upload, number: int, size: int, cut: int | None) -> None:
        """Send what comes next, or again; whole or cut short."""
        if upload.kind == "number":
            data = upload.data[number * CHUNK :][:CHUNK]
            sent = data if cut is None else data[: cut % CHUNK]
            came = body(sent, length=len(data))
            self.attempt(upload, lambda: self._put(upload, number, came))
        elif upload.kind == "parts":
            self.send_part(upload, number + 1, size if size % 3 else CHUNK)
        elif upload.kind in APPENDED:
            offset = len(upload.appended)
            data = upload.data[offset : offset + size]
            self.attempt(upload, lambda: self._append(upload, offset, data, cut))

    # Half of all that is done.
    send_more = rule(upload=uploads, number=numbers, size=sizes, cut=some.none())(
        lambda self, **said: self.send(**said)
    )
    send_too = rule(upload=uploads, number=numbers, size=sizes, cut=cuts)(
        lambda self, **said: self.send(**said)
    )

    def send_part(self, upload: Upload, number: int, size: int) -> None:
        """Send a part, maybe in the place of another one."""
        data = self.fresh(size)
        wanted = upload.chunks | {number: data}

        def put() -> None:
            engine.put_part(engine.find(ALICE, upload.pk), number, body(data))

        self.attempt(upload, put, wanted)

    @rule(upload=uploads, numbers=some.permutations([1, 2, 3]))
    def send_many(self, upload: Upload, numbers: list[int]) -> None:
        for number in numbers:
            self.send(upload, number - 1, CHUNK, None)

    def _append(
        self, upload: Upload, offset: int, data: bytes, cut: int | None
    ) -> None:
        sent = data if cut is None else data[:cut]
        came = body(sent, length=len(data))
        with suppress(errors.Truncated):
            engine.append(engine.find(ALICE, upload.pk), offset, came)

    @rule(upload=uploads, offset=sizes | some.none())
    def append_elsewhere(self, upload: Upload, offset: int | None) -> None:
        """Append where the end is not, or is not to be had: nothing may come of it."""
        end = len(upload.appended) if upload.kind in APPENDED else None
        offset = upload.received if offset is None else offset
        if upload.chunks and offset != end:
            with pytest.raises((errors.UploadError, UploadSession.DoesNotExist)):
                engine.append(upload.row, offset, body(b"nonsense"))

    @rule(upload=uploads, first=some.integers(1, 20), second=some.integers(1, 20))
    def append_while_another_takes_over(
        self, upload: Upload, first: int, second: int
    ) -> None:
        """A forgotten request goes on to send when its client has come back."""
        if upload.kind not in APPENDED:
            return
        offset = len(upload.appended)
        end = offset + first

        def come_back() -> None:
            self.adopt(upload)
            there = len(upload.appended)
            self._append(upload, there, upload.data[there : there + second], None)

        source = ScriptedSource(
            upload.data[offset:end], come_back, b"x" * 30, length=first + 30
        )
        self.attempt(upload, lambda: self._forgotten(upload, offset, source))

    def _forgotten(self, upload: Upload, offset: int, source: Any) -> None:
        with suppress(errors.Truncated, errors.TooLarge):
            engine.append(engine.find(ALICE, upload.pk), offset, Body(source))

    def _put(self, upload: Upload, number: int, came: Any) -> None:
        with suppress(errors.Truncated):
            engine.put_chunk(engine.find(ALICE, upload.pk), number, came)

    @rule(upload=uploads, number=numbers, half=some.integers(0, CHUNK), act=acts)
    def send_while_something_happens(
        self, upload: Upload, number: int, half: int, act: str
    ) -> None:
        """Another request comes to its end while a piece is on the way."""
        data = self.piece(upload, number)
        source = ScriptedSource(
            data[:half],
            lambda: self.happen(upload, number, act),
            data[half:],
            length=len(data),
        )
        with suppress(errors.UploadError, UploadSession.DoesNotExist):
            self.bring(upload, number, Body(source))
        is_part = upload.kind == "parts"
        self.adopt(
            upload, None, upload.chunks | {number + 1: data} if is_part else None
        )

    def piece(self, upload: Upload, number: int) -> bytes:
        if upload.kind == "parts":
            return self.fresh(CHUNK)
        is_numbered = upload.kind == "number"
        if is_numbered and number in upload.chunks:
            # Nothing may come of other bytes.
            return self.fresh(len(upload.chunks[number]))
        start = number * CHUNK if is_numbered else len(upload.appended)
        return upload.data[start:][:CHUNK]

    def bring(self, upload: Upload, number: int, came: Body) -> None:
        row = engine.find(ALICE, upload.pk)
        if upload.kind == "parts":
            engine.put_part(row, number + 1, came)
        elif upload.kind == "number":
            engine.put_chunk(row, number, came)
        else:
            engine.append(row, len(upload.appended), came)

    def happen(self, upload: Upload, number: int, act: str) -> None:
        if act == "again":
            self.send(upload, number, CHUNK, None)
        elif act == "beside":
            self.send(upload, (number + 1) % 4, CHUNK, None)
        elif act == "cancel":
            self.cancel(upload, True)
        elif act == "finish":
            self.finish(upload, True)
        else:
            self.restart(upload)

    @rule(upload=uploads, number=some.integers(0, 3))
    def put_other_bytes(self, upload: Upload, number: int) -> None:
        if number in upload.chunks and upload.kind == "number":
            other = self.fresh(len(upload.chunks[number]))
            # Of a complete file, nothing is left to compare with.
            with suppress(errors.UploadError):
                self._put(upload, number, body(other))
                assert upload.state == State.COMPLETE

    # Ends

    @rule(upload=uploads, really=rarely)
    def finish(self, upload: Upload, really: bool) -> None:
        if not really:
            return
        if upload.kind == "parts":
            self.attempt(upload, lambda: engine.finish_with(upload.row, everything))
        elif upload.kind != "half":
            self.attempt(upload, lambda: engine.finish(upload.row))

    @rule(upload=uploads)
    def tell_length(self, upload: Upload) -> None:
        if upload.kind == "unknown":
            length = len(upload.data)
            self.attempt(upload, lambda: engine.declare_length(upload.row, length))

    @rule(upload=uploads, really=rarely)
    def cancel(self, upload: Upload, really: bool) -> None:
        if really:
            self.attempt(upload, lambda: engine.cancel(upload.row))

    @rule(upload=uploads, really=rarely)
    def expire(self, upload: Upload, really: bool) -> None:
        if not really:
            return
        past = timezone.now() - timedelta(seconds=1)
        rows = UploadSession.objects.filter(pk=upload.pk)
        rows.filter(state__in=(State.RECEIVING, State.FAILED)).update(expires_at=past)
        self.attempt(upload, lambda: engine.find(ALICE, upload.pk))

    @rule(upload=uploads, offset=sizes)
    def rewind(self, upload: Upload, offset: int) -> None:
        if upload.kind in ("offset", "unknown") and offset < len(upload.appended):
            wanted = {0: upload.appended[:offset]} if offset else {}
            self.attempt(upload, lambda: engine.rewind(upload.row, offset), wanted)

    @rule(upload=uploads)
    def restart(self, upload: Upload) -> None:
        if upload.kind in ("offset", "unknown", "number"):
            self.attempt(upload, lambda: engine.restart(upload.row), {})

    @rule(target=uploads, first=uploads, second=uploads)
    def concatenate(self, first: Upload, second: Upload) -> Upload:
        """Make a whole of two halves; what comes of others is nothing."""
        before = set(UploadSession.objects.values_list("pk", flat=True))
        parts = [first, second]
        if first is second or {part.kind for part in parts} != {"half"}:
            return first
        data = b"".join(part.appended for part in parts)
        with self.dying(), suppress(errors.UploadError, UploadSession.DoesNotExist):
            policy, new = get_policy("default"), engine.NewUpload("whole.bin")
            rows = [part.row for part in parts]
            engine.concatenate(ALICE, "test", policy, new, rows)
        for row in UploadSession.objects.exclude(pk__in=before):
            self.known.append(Upload(row.pk, "whole", data, len(data), row.state))
            self.known[-1].chunks, self.known[-1].whole = {0: data}, data
        return self.known[-1] if self.known[-1].kind == "whole" else first

    # Housekeeping

    @rule()
    def keep_house(self) -> None:
        """Do what is due; what still waits for its client is none of it."""
        now = timezone.now()
        rows = UploadSession.objects.filter(state=State.RECEIVING, expires_at__gt=now)
        waiting = set(rows.values_list("pk", flat=True))
        with self.dying():
            self.do_all()
        self.adopt_all()
        left = rows.filter(pk__in=waiting).count()
        assert left == len(waiting), "housekeeping has ended what still waits"

    @rule(upload=uploads)
    def let_much_time_pass(self, upload: Upload) -> None:
        """Let an end be so long ago that its row may be forgotten, but for a file's."""
        past = timezone.now() - timedelta(seconds=1)
        ended = UploadSession.objects.filter(pk=upload.pk, state__in=END_STATES)
        ended.update(expires_at=past)

    @rule()
    def sweep(self) -> None:
        with self.dying():
            retention.sweep()

    # Deaths

    _step = 0
    _when = "before"

    @rule(step=some.integers(1, 25), when=some.sampled_from(["before", "after"]))
    def the_next_thing_dies(self, step: int, when: str) -> None:
        self._step, self._when = step, when

    def dying(self) -> Any:
        """Die at the step that was chosen, if one was; go on behind it."""
        step, self._step = self._step, 0
        stack = ExitStack()
        if step:
            stack.callback(connection.close)
            stack.enter_context(buried())
            stack.enter_context(Steps(step, _die, self._when).watched())
        return stack

    def attempt(
        self,
        upload: Upload,
        verb: Callable[[], Any],
        wanted: dict[int, bytes] | None = None,
    ) -> None:
        """Do something; what has come of it is either all of it or nothing."""
        before = upload.chunks
        with self.dying(), suppress(errors.UploadError, UploadSession.DoesNotExist):
            verb()
        self.adopt(upload, before, wanted)

    # The model learns what was recorded; and that nothing but what was sent can be.

    def adopt_all(self) -> None:
        for upload in self.known:
            self.adopt(upload)

    def adopt(
        self,
        upload: Upload,
        before: dict[int, bytes] | None = None,
        wanted: dict[int, bytes] | None = None,
    ) -> None:
        row = UploadSession.objects.filter(pk=upload.pk).first()
        if row is None:
            assert upload.state not in LIVING, "forgotten before it had ended"
            return
        before = upload.chunks if before is None else before
        if row.state in (State.RECEIVING, State.ASSEMBLING):
            now = recorded(upload, row)
            known = now in (before, wanted) or is_more(upload, before, now)
            assert known, (upload.kind, before, wanted, now)
            upload.chunks = now
        if row.state in (State.ASSEMBLING, State.COMPLETE) and upload.whole is None:
            is_given = upload.kind in ("offset", "number", "unknown")
            upload.whole = upload.data[: row.length] if is_given else upload.joined()
            assert row.state == State.COMPLETE or upload.whole == upload.joined()
        upload.state, upload.length = row.state, row.length

    # What must hold

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        for upload in self.known:
            row = UploadSession.objects.filter(pk=upload.pk).first()
            if row is None:
                assert upload.state not in LIVING
                continue
            assert row.state == upload.state
            if row.state in (State.RECEIVING, State.ASSEMBLING):
                assert recorded(upload, row) == upload.chunks
                assert row.received == upload.received
            if row.state == State.COMPLETE:
                assert read(row) == upload.whole

    @invariant()
    def each_end_is_told_at_most_twice(self) -> None:
        for line, times in Counter(self.told.read_text().splitlines()).items():
            assert times <= 2, line

    def do_all(self) -> None:
        past = timezone.now() - timedelta(hours=2)
        UploadSession.objects.update(active_at=past, retry_at=None)
        for row in assembly.waiting():
            assembly.assemble(row.pk)
        retention.purge()

    def teardown(self) -> None:
        """Let everything come to its end, and see that nothing is left."""
        try:
            for upload in self.known:
                if upload.state == State.RECEIVING:
                    engine.cancel(upload.row)
            for _ in range(3):
                self.do_all()
                with suppress(OSError):
                    retention.sweep()
            self.adopt_all()
            self.nothing_is_left()
        finally:
            UploadSession.objects.all().update(settled=True)
            Chunk.objects.all().delete()
            UploadSession.objects.all().delete()
            self.stack.close()
            shutil.rmtree(self.folder)

    def nothing_is_left(self) -> None:
        rows = UploadSession.objects.all()
        assert not rows.exclude(state__in=END_STATES).exists()
        assert not rows.exclude(settled=True).exists()
        complete = rows.filter(state=State.COMPLETE)
        whole = {upload.pk: upload.whole for upload in self.known}
        for row in complete:
            assert read(row) == whole[row.pk]
        assert {Path(row.file.path) for row in complete} == set(finished())
        assert not Chunk.objects.exists()
        assert files_in(staging()) == []
        told = set(self.told.read_text().splitlines())
        for row in rows:
            assert f"{row.state} {row.pk}" in told


def _die(name: str) -> None:
    raise Died(name)


@contextmanager
def buried() -> Iterator[None]:
    """Go on after a death, also where something else was raised on its way out.

    Of a transaction of PostgreSQL, for one, that neither was committed nor rolled back.
    """
    try:
        yield
    except BaseException as error:
        seen: BaseException | None = error
        while seen is not None and not isinstance(seen, Died):
            seen = seen.__context__
        if seen is None:
            raise


def everything(parts: Any) -> Any:
    return parts, {}


def recorded(upload: Upload, row: UploadSession) -> dict[int, bytes]:
    """Return what the rows say, in the words of the model, read from the store."""
    store, found = store_for(row.storage), {}
    for chunk in Chunk.objects.filter(upload=row).order_by("number"):
        with store.open(Place(chunk.key, chunk.start)) as stream:
            data = stream.read(chunk.size)
        assert len(data) == chunk.size
        number = chunk.number if row.addressed_by == "number" else 0
        found[number] = found.get(number, b"") + data
    return found


def recorded_bytes(row: UploadSession) -> bytes:
    """Return what is recorded of an upload, one piece after another."""
    store, found = store_for(row.storage), b""
    for chunk in Chunk.objects.filter(upload=row).order_by("number"):
        with store.open(Place(chunk.key, chunk.start)) as stream:
            found += stream.read(chunk.size)
    return found


def is_more(upload: Upload, before: dict[int, bytes], now: dict[int, bytes]) -> bool:
    """Tell whether nothing but bytes of the file has come to what there was."""
    if upload.kind == "parts" or not before.keys() <= now.keys():
        return False
    if upload.kind == "number":
        there = {number: upload.data[number * CHUNK :][:CHUNK] for number in now}
        return now == there
    appended = now.get(0, b"")
    return appended.startswith(before.get(0, b"")) and upload.data.startswith(appended)


@pytest.mark.parametrize(
    "ground", ["folder", pytest.param("storage", marks=pytest.mark.once)]
)
def test_the_engine_does_as_the_model(ground, monkeypatch):
    monkeypatch.setattr(Engine, "ground", ground)
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))
    about = settings(
        max_examples=EXAMPLES or 6,
        stateful_step_count=40,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Engine, settings=about)
