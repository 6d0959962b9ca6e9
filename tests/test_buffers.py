"""Where bytes pass through: one's own buffer, or a large one for a moment."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from resumable_uploads import buffers
from resumable_uploads.body import Body
from resumable_uploads.buffers import LARGE, LARGE_BUFFERS, Loan, own

from .making import ScriptedSource, content, use

pytestmark = pytest.mark.once

SIZE = 100
DATA = content(3000)


@pytest.fixture(autouse=True)
def _small(settings: Any) -> None:
    use(settings, BUFFER_SIZE=SIZE)


class Line(ScriptedSource):
    """A source that says how many bytes have come already."""

    def __init__(self, *steps: Any, there: int) -> None:
        super().__init__(*steps, length=sum(map(len, steps)))
        self.there = there

    def waiting(self) -> int:
        return self.there


def lent() -> int:
    """Return how many large buffers are with somebody."""
    return LARGE_BUFFERS - len(buffers._large)


def sizes(there: int) -> list[int]:
    segment = Body(Line(DATA, there=there)).segment(1000)
    return [len(block) for block in segment]


def test_a_thread_has_one_buffer_and_others_have_theirs():
    found = [own().obj, own().obj]
    thread = threading.Thread(target=lambda: found.append(own().obj))
    thread.start()
    thread.join()
    assert found[0] is found[1]
    assert found[0] is not found[2]


def test_blocks_are_large_where_enough_has_come():
    assert sizes(there=5000) == [LARGE * SIZE, 200]


def test_blocks_are_small_where_they_would_have_to_be_waited_for():
    assert sizes(there=2 * SIZE - 1) == [SIZE] * 10


def test_a_large_block_is_no_larger_than_what_has_come():
    assert sizes(there=300) == [300] * 3 + [SIZE]


def test_blocks_of_a_source_that_cannot_tell_are_small():
    body = Body(ScriptedSource(DATA, length=len(DATA)))
    assert [len(block) for block in body.segment(250)] == [100, 100, 50]


def test_bytes_are_the_same_in_large_blocks():
    body = Body(Line(DATA[:700], DATA[700:], there=5000))
    assert b"".join(bytes(block) for block in body.whole(len(DATA))) == DATA


def test_no_more_large_buffers_are_lent_than_there_are():
    loans = [Loan(1000, 1000) for _ in range(LARGE_BUFFERS + 1)]
    assert [len(loan.view) for loan in loans] == [LARGE * SIZE] * LARGE_BUFFERS + [SIZE]
    assert len({id(loan.view.obj) for loan in loans}) == LARGE_BUFFERS + 1
    for loan in loans:
        loan.end()
        loan.end()
    assert lent() == 0


def test_a_large_buffer_is_with_somebody_only_while_a_block_is_written():
    seen = []
    for _ in Body(Line(DATA, there=5000)).whole(len(DATA)):
        seen.append(lent())
    assert set(seen) == {1}
    assert lent() == 0


@pytest.mark.parametrize("end", ["is left", "breaks", "cannot be read"])
def test_a_large_buffer_comes_back_when_a_block(end):
    class Broken(Line):
        def readinto(self, view: memoryview, patience: float) -> int:
            raise RuntimeError

    def write() -> None:
        source = (Broken if end == "cannot be read" else Line)(DATA, there=5000)
        for _ in Body(source).whole(len(DATA)):
            if end == "breaks":
                raise RuntimeError
            return

    try:
        write()
    except RuntimeError:
        assert end != "is left"
    gc.collect()
    assert lent() == 0


def test_a_changed_buffer_size_is_heeded_by_the_large_ones(settings):
    assert sizes(there=5000)[0] == LARGE * SIZE
    use(settings, BUFFER_SIZE=50)
    assert sizes(there=5000)[0] == LARGE * 50
