"""Each verb, broken off at each of its steps: by a death, by an error, by neither.

A step is what changes a file, a row or a transaction; see ``tests.faults.steps``. For
n = 1, 2, 3... an upload is prepared, something is done to it, and at the nth step the
process is killed, or the step fails, or it is done and fails all the same (as a commit
whose answer is lost). That ends when the n is beyond the last step. Then the client
does again what it has had no answer to, housekeeping does its part, and all must be
well.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.utils import timezone

from resumable_uploads import engine, errors, retention
from resumable_uploads.body import checksum
from resumable_uploads.models import END_STATES, Chunk, State, UploadSession
from resumable_uploads.stores import Place, store_for
from tests.killed import Executioner
from tests.making import files_in, finished, read, staging, use

from . import acts
from .acts import CHUNK, DATA, appended, numbered, two_halves, with_parts
from .grounds import GROUNDS, IS_THOROUGH, prepared
from .steps import Steps

pytestmark = pytest.mark.django_db(transaction=True)

# Beyond that, something goes round in circles.
MOST_STEPS = 120
SMALL: dict[str, Any] = {
    "BUFFER_SIZE": CHUNK,
    "SEGMENT_SIZE": CHUNK,
    "FSYNC": "chunk",
    "ASSEMBLY_ATTEMPTS": 3,
}
Prepare = Callable[[int], UploadSession]


@dataclass
class Scenario:
    """What there is, what is done to it, and how it ends once that is repeated."""

    prepare: Prepare
    act: str
    end: State | None
    # Is what was recorded before still there afterwards?
    keeps: bool = True

    def may_end(self, state: str | None) -> bool:
        return state == self.end


def superseding(index: int) -> UploadSession:
    """Return the parts of a file that takes the place of another one."""
    key = f"{acts.KEY}{index}"
    acts.finish_parts(str(with_parts(1, object_key=key).pk))
    return with_parts(3, object_key=key)


def with_wrong_part(index: int, size: int = CHUNK) -> UploadSession:
    upload = with_parts(1)
    acts.wrong_part(str(upload.pk), size)
    return upload


def with_part_to_drop(index: int) -> UploadSession:
    upload = with_parts(3)
    acts.put_part(str(upload.pk), 3)
    with suppress(errors.UploadError):
        engine.put_part(acts.found(str(upload.pk)), 9, acts.body(b"not listed"))
    return upload


COMPLETE, REJECTED = State.COMPLETE, State.REJECTED
SCENARIOS = {
    "open": Scenario(lambda index: numbered(0), "open_", COMPLETE),
    "open an empty file": Scenario(lambda index: numbered(0), "open_empty", COMPLETE),
    "a chunk": Scenario(lambda index: numbered(1), "put_chunk", COMPLETE),
    "the last chunk": Scenario(lambda index: numbered(2), "put_chunk", COMPLETE),
    "an append": Scenario(lambda index: appended(0), "append", COMPLETE),
    "a refused file": Scenario(
        lambda index: appended(40, declared_checksum=acts.WRONG), "append", REJECTED
    ),
    "a length": Scenario(
        lambda index: appended(len(DATA), length=None), "tell_length", COMPLETE
    ),
    "finish": Scenario(
        lambda index: appended(len(DATA), ends_when_full=False), "finish", COMPLETE
    ),
    "a part": Scenario(lambda index: with_parts(1), "put_part", COMPLETE),
    "a part again": Scenario(with_wrong_part, "replace_part", COMPLETE, keeps=False),
    "a part again, shorter": Scenario(
        lambda index: with_wrong_part(index, 50), "replace_part", COMPLETE, keeps=False
    ),
    "a manifest": Scenario(with_part_to_drop, "finish_parts", COMPLETE, keeps=False),
    "a new object": Scenario(superseding, "finish_parts", COMPLETE),
    "concatenate": Scenario(lambda index: two_halves(), "concatenate", State.EXPIRED),
    "cancel": Scenario(
        lambda index: numbered(2), "cancel", State.CANCELLED, keeps=False
    ),
    "cancel what is complete": Scenario(
        lambda index: numbered(3), "cancel", State.CANCELLED, keeps=False
    ),
    "expire": Scenario(lambda index: numbered(2), "expire", State.EXPIRED, keeps=False),
    "purge": Scenario(lambda index: appended(40), "purge", None, keeps=False),
    "delete": Scenario(lambda index: numbered(2), "delete", None, keeps=False),
    "delete what is complete": Scenario(
        lambda index: numbered(3), "delete", None, keeps=False
    ),
    "rewind": Scenario(lambda index: appended(50), "rewind", COMPLETE, keeps=False),
    "restart": Scenario(lambda index: numbered(2), "restart", COMPLETE, keeps=False),
    "reshape": Scenario(lambda index: numbered(2), "reshape", COMPLETE, keeps=False),
}


# Each is asked of one database in a short run, and of both in a thorough one.
OF_POSTGRES = (
    "the last chunk",
    "a part again",
    "a manifest",
    "concatenate",
    "cancel what is complete",
)


def asked(name: str) -> Any:
    """Return a scenario for a parameter, marked for the database it is asked of."""
    if IS_THOROUGH:
        return pytest.param(name)
    here = pytest.mark.only_on("postgres"), pytest.mark.once
    return pytest.param(name, marks=here[name not in OF_POSTGRES])


# On any ground but a folder, and where a step is done and then fails.
FAILURES = [
    ("the last chunk", "folder", "after"),
    ("the last chunk", "no links", "before"),
    ("delete what is complete", "storage", "before"),
]
if IS_THOROUGH:
    FAILURES = list(product(SCENARIOS, GROUNDS, ["before", "after"]))


@pytest.fixture(autouse=True)
def _small(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(settings, **SMALL)
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))


@pytest.fixture(scope="module")
def executioner(django_db_setup: None) -> Iterator[Executioner]:
    executioner = Executioner(str(connection.settings_dict["NAME"]))
    yield executioner
    executioner.close()


class Sweep:
    """One scenario on one ground, at each of its steps in turn."""

    def __init__(self, scenario: Scenario, ground: str, told: Path) -> None:
        self.scenario = scenario
        self.ground = ground
        self.told = told
        self.struck: dict[str, str] = {}
        told.touch()

    def killed(self, executioner: Executioner, when: str) -> None:
        """Have other processes do it, and die of it."""
        for step in range(1, MOST_STEPS):
            upload = self.scenario.prepare(step)
            status = executioner.carry_out(self._order(upload, step, when))
            assert status in (0, -9), f"step {step}: {status}"
            if not self._goes_on(upload, step, f"killed {when}", status == -9):
                return
        raise AssertionError(f"more than {MOST_STEPS} steps")

    def failed(self, when: str) -> None:
        """Do it here, where steps fail."""
        for step in range(1, MOST_STEPS):
            upload = self.scenario.prepare(step)
            steps = Steps(step, fail, when)
            with (
                steps.watched(),
                suppress(errors.UploadError, OSError, OperationalError),
            ):
                getattr(acts, self.scenario.act)(str(upload.pk))
            connection.close()
            if not self._goes_on(upload, step, steps.struck, bool(steps.struck)):
                return
        raise AssertionError(f"more than {MOST_STEPS} steps")

    def _goes_on(
        self, upload: UploadSession, step: int, struck: str, was_struck: bool
    ) -> bool:
        if not was_struck:
            assert step > 1, "nothing has happened"
            return False
        self.struck[str(upload.pk)] = f"step {step}: {struck}"
        check_rows(upload, self.struck[str(upload.pk)])
        if self.scenario.act in ("purge", "reshape"):
            # What is done to all uploads, or wants them as they are, is repaired now.
            self.recover(upload)
        return True

    def _order(self, upload: UploadSession, step: int, when: str) -> dict[str, Any]:
        return {
            "media": str(django_settings.MEDIA_ROOT),
            "uploads": SMALL | GROUNDS[self.ground],
            "ground": self.ground,
            "told": str(self.told),
            "act": self.scenario.act,
            "upload": str(upload.pk),
            "step": step,
            "when": when,
        }

    def recover_all(self) -> None:
        """Go on with all uploads, have the house kept, and see that all is well."""
        for pk in self.struck:
            upload = UploadSession.objects.filter(pk=pk).first()
            if upload:
                self.recover(upload)
        # What has been opened beside them.
        for upload in UploadSession.objects.filter(state=State.RECEIVING):
            send_rest(upload)
        for _ in range(4):
            keep_house()
        if self.scenario.end is None:
            forget_the_gone()
        self.check()

    def recover(self, upload: UploadSession) -> None:
        """Do again what had no answer, and then the rest."""
        with suppress(errors.UploadError, UploadSession.DoesNotExist, AssertionError):
            getattr(acts, self.scenario.act)(str(upload.pk))
        send_rest(upload)

    def check(self) -> None:
        assert self.struck
        ends = dict(UploadSession.objects.values_list("pk", "state"))
        by_pk = {str(pk): state for pk, state in ends.items()}
        for pk, struck in self.struck.items():
            assert self.scenario.may_end(by_pk.get(pk)), struck
        complete = UploadSession.objects.filter(state=State.COMPLETE)
        for upload in complete:
            struck = self.struck.get(str(upload.pk), "")
            assert read(upload) == DATA[: upload.length], struck
            assert upload.length in (0, CHUNK, len(DATA))
        names = {Path(upload.file.path) for upload in complete}
        assert set(finished()) == names, "no file but those of complete uploads"
        assert not UploadSession.objects.exclude(state__in=END_STATES).exists()
        assert not UploadSession.objects.exclude(settled=True).exists()
        assert not UploadSession.objects.exclude(lease="").exists()
        assert not Chunk.objects.exists()
        assert files_in(staging()) == []
        objects = complete.exclude(object_key="").values_list("object_key", flat=True)
        assert len(set(objects)) == len(objects), "two files are the same object"
        self.check_told(by_pk)

    def check_told(self, ends: dict[str, str]) -> None:
        """See that each end was told: once, or twice where a process died telling."""
        told = Counter(self.told.read_text().splitlines())
        for pk, state in ends.items():
            times = told[f"{state} {pk}"]
            assert times in (1, 2), (state, times, self.struck.get(pk))


def send_rest(upload: UploadSession) -> None:
    """Send what is missing of an upload that takes it."""
    row = UploadSession.objects.filter(pk=upload.pk).first()
    while row and row.state == State.RECEIVING and go_on(row):
        row = UploadSession.objects.filter(pk=upload.pk).first()


def forget_the_gone() -> None:
    past = timezone.now() - timedelta(hours=1)
    UploadSession.objects.update(expires_at=past)
    retention.purge()


def go_on(row: UploadSession) -> bool:
    """Do the next thing a client does; return whether there was anything to do."""
    pk = str(row.pk)
    if row.length not in (None, len(DATA)):
        # Half of a file.
        return False
    if row.ends_when_full and row.chunk_size:
        acts.put_chunk(pk)
    elif row.ends_when_full or row.addressed_by != "number":
        if row.received < len(DATA):
            acts.append(pk)
        if acts.found(pk).state == State.RECEIVING:
            tell_end(acts.found(pk))
    elif row.chunk_count < 3:
        acts.put_part(pk)
    else:
        acts.finish_parts(pk)
    return True


def tell_end(row: UploadSession) -> None:
    if row.length is None:
        acts.tell_length(str(row.pk))
    engine.finish(acts.found(str(row.pk)))


def keep_house() -> None:
    """Let time pass, and do what is done now and then."""
    past = timezone.now() - timedelta(hours=2)
    UploadSession.objects.update(active_at=past, retry_at=None)
    halves = UploadSession.objects.filter(state=State.RECEIVING, ends_when_full=False)
    halves.update(expires_at=past)
    for upload in UploadSession.objects.filter(state=State.FAILED):
        engine.retry(upload)
    retention.housekeep()
    retention.sweep()


def check_rows(upload: UploadSession, when: str) -> None:
    """See that rows say what is there, of an upload and of what was opened since."""
    rows = UploadSession.objects.filter(created_at__gte=upload.created_at)
    for upload in rows.exclude(state__in=END_STATES):
        store, chunks = store_for(upload.storage), Chunk.objects.filter(upload=upload)
        there = [(chunk.size, chunk) for chunk in chunks]
        counted = (upload.received, upload.chunk_count)
        assert counted == (sum(size for size, _ in there), len(there)), when
        if has_file(upload):
            # Without links, the bytes themselves have moved there.
            continue
        for size, chunk in there:
            with store.open(Place(chunk.key, chunk.start)) as stream:
                assert f"{checksum(stream.read(size)):016x}" == chunk.checksum, when


def has_file(upload: UploadSession) -> bool:
    """Tell whether the file has been published, though nobody has said so."""
    path = Path(upload.file.path) if upload.file else None
    return bool(path and path.exists() and path.read_bytes() == DATA)


def fail(name: str) -> None:
    if hasattr(os, name):
        raise OSError(errno.EIO, f"{name} fails")
    raise OperationalError("the database fails")


@pytest.mark.parametrize("ground", GROUNDS if IS_THOROUGH else ["folder"])
@pytest.mark.parametrize("name", list(map(asked, SCENARIOS)))
def test_killed(name, ground, executioner, tmp_path, settings):
    use(settings, **GROUNDS[ground])
    sweep = Sweep(SCENARIOS[name], ground, tmp_path / "told")
    with prepared(ground, sweep.told):
        sweep.killed(executioner, "before")
        sweep.recover_all()


@pytest.mark.once
@pytest.mark.parametrize(("name", "ground", "when"), FAILURES)
def test_failed(name, ground, when, tmp_path, settings):
    use(settings, **GROUNDS[ground])
    sweep = Sweep(SCENARIOS[name], ground, tmp_path / "told")
    with prepared(ground, sweep.told):
        sweep.failed(when)
        sweep.recover_all()
