"""Each verb, with another one in the midst of it: between any two of its steps.

One request or worker is held at its nth step, unless that is in a transaction; another
one does something to the same upload; then the first goes on, or is killed. Whatever
comes of it: a file is the client's file, and nothing is left that belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.db import DatabaseError, connection

from resumable_uploads import errors, retention
from resumable_uploads.models import State, UploadSession
from tests.killed import DISTURBED, Executioner
from tests.making import use
from tests.racing import Running

from . import acts
from .acts import DATA, appended, numbered, two_halves, with_parts
from .grounds import GROUNDS, IS_THOROUGH, prepared
from .steps import Steps
from .test_crash_points import MOST_STEPS, SMALL, Scenario, Sweep, superseding

pytestmark = pytest.mark.django_db(transaction=True)


class Disputed(Scenario):
    """Two do what cannot both be done; either may win."""

    def may_end(self, state: str | None) -> bool:
        return True


FIRST = {
    "the last chunk": Disputed(lambda index: numbered(2), "put_chunk", State.COMPLETE),
    "an append": Disputed(lambda index: appended(0), "append", State.COMPLETE),
    "a length": Disputed(
        lambda index: appended(len(DATA), length=None), "tell_length", State.COMPLETE
    ),
    "a part": Disputed(lambda index: with_parts(1), "put_part", State.COMPLETE),
    "a manifest": Disputed(superseding, "finish_parts", State.COMPLETE),
    "concatenate": Disputed(lambda index: two_halves(), "concatenate", State.COMPLETE),
    "cancel": Disputed(lambda index: numbered(3), "cancel", State.COMPLETE),
    "purge": Disputed(lambda index: appended(40), "purge", State.COMPLETE),
    "rewind": Disputed(lambda index: appended(50), "rewind", State.COMPLETE),
}
SECOND = (
    "cancel",
    "expire",
    "delete",
    "take_over",
    "keep_house",
    "put_chunk",
    "append",
    "ask_offset",
    "restart",
    "finish_parts",
)
REFUSALS = (
    errors.UploadError,
    OSError,
    DatabaseError,
    AssertionError,
    KeyError,
    ValueError,
    UploadSession.DoesNotExist,
)


@pytest.fixture(autouse=True)
def _small(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(settings, **SMALL)
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))


@pytest.fixture(scope="module")
def executioner(django_db_setup: None) -> Iterator[Executioner]:
    executioner = Executioner(str(connection.settings_dict["NAME"]))
    yield executioner
    executioner.close()


class Interference(Sweep):
    """One verb in the midst of another, at each of its steps."""

    def __init__(self, first: str, second: str, ground: str, told: Any) -> None:
        super().__init__(FIRST[first], ground, told)
        self.second = second

    def going_on(self) -> None:
        for step in range(1, MOST_STEPS):
            upload = self.scenario.prepare(step)
            pk = str(upload.pk)
            steps = Steps(
                step, lambda name, pk=pk: interfere(self.second, pk), "before", True
            )
            with steps.watched(), suppress(*REFUSALS):
                getattr(acts, self.scenario.act)(pk)
            if not steps.struck:
                return
            self.struck[pk] = f"{self.second} at step {step}: {steps.struck}"
        raise AssertionError(f"more than {MOST_STEPS} steps")

    def killed_then(self, executioner: Executioner, later: int) -> None:
        """Have it disturbed at each step, and die so many steps after that."""
        for step in range(1, MOST_STEPS):
            upload = self.scenario.prepare(step)
            order = self._order(upload, step, "before")
            order |= {"meanwhile": self.second, "later": later}
            status = executioner.carry_out(order)
            if not status:
                return
            # What was disturbed may refuse to go on.
            assert status in (-9, 1, DISTURBED), status
            self.struck[str(upload.pk)] = f"{self.second} and death at step {step}"
        raise AssertionError(f"more than {MOST_STEPS} steps")

    def recover(self, upload: UploadSession) -> None:
        with suppress(*REFUSALS):
            super().recover(upload)


def interfere(act: str, upload_id: str) -> None:
    """Have somebody else do something, and wait for it."""
    other = Running(getattr(acts, act), upload_id).wait()
    assert other.error is None or isinstance(other.error, REFUSALS), other.error


PAIRS = [
    ("the last chunk", "take_over", "storage"),
    ("the last chunk", "cancel", "folder"),
    ("a manifest", "delete", "folder"),
    ("concatenate", "take_over", "folder"),
]
if IS_THOROUGH:
    PAIRS = list(product(FIRST, SECOND, ["folder", "storage"]))


@pytest.mark.once
@pytest.mark.parametrize(("first", "second", "ground"), PAIRS)
def test_while_it_goes_on(first, second, ground, tmp_path, settings):
    use(settings, **GROUNDS[ground])
    sweep = Interference(first, second, ground, tmp_path / "told")
    with prepared(ground, sweep.told):
        sweep.going_on()
        sweep.recover_all()


# How many steps after the disturbance.
DEATHS = [
    ("the last chunk", "take_over", "storage", 3),
    ("the last chunk", "cancel", "storage", 5),
    ("the last chunk", "delete", "storage", 1),
    ("the last chunk", "cancel", "folder", 1),
]
if IS_THOROUGH:
    DEATHS = [(*pair, later) for pair in PAIRS for later in (0, 1, 3, 5)]


@pytest.mark.once
@pytest.mark.parametrize(("first", "second", "ground", "later"), DEATHS)
def test_and_then_it_dies(
    first, second, ground, later, executioner, tmp_path, settings
):
    use(settings, **GROUNDS[ground])
    sweep = Interference(first, second, ground, tmp_path / "told")
    with prepared(ground, sweep.told):
        sweep.killed_then(executioner, later)
        sweep.recover_all()
