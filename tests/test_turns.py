"""Turns: few threads at work at once, and nobody held up by one who is stuck."""

from __future__ import annotations

import random
import sys
import threading
import time

import pytest

from resumable_uploads import turns as turns_module
from resumable_uploads.turns import Turns

PATIENCE = 10


@pytest.fixture
def turns():
    return Turns(at_once=2)


@pytest.fixture
def patient(monkeypatch):
    """Let nobody be found to be stuck."""
    monkeypatch.setattr(turns_module, "PATIENCE", 60)


@pytest.fixture
def hurried():
    """Let Python change from thread to thread at any line."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Worker(threading.Thread):
    """A thread that takes part, and does what it is told to, step by step."""

    def __init__(self, turns):
        super().__init__(daemon=True)
        self.turns = turns
        self.has_turn = threading.Event()
        self._go = threading.Event()
        self._next = ""
        self.start()

    def run(self):
        with self.turns.part():
            self.turns.take()
            self.has_turn.set()
            while self._go.wait(PATIENCE):
                self._go.clear()
                if self._next == "end":
                    break
                getattr(self.turns, self._next)()
                self.has_turn.set()

    def tell(self, what):
        self.has_turn.clear()
        self._next = what
        self._go.set()

    def end(self):
        self.tell("end")
        self.join(PATIENCE)
        assert not self.is_alive()


def works(worker):
    return worker.has_turn.wait(PATIENCE)


def waits(worker):
    return not worker.has_turn.wait(0.1)


@pytest.fixture
def workers(turns):
    """Three of them, of which two have a turn."""
    made = []
    for _ in range(3):
        made.append(Worker(turns))
        made[-1].has_turn.wait(0.1)
    yield made
    for each in made:
        if each.is_alive():
            each.end()


@pytest.mark.usefixtures("patient")
def test_no_more_are_at_work_than_there_are_turns(workers):
    first, second, third = workers
    assert works(first)
    assert works(second)
    assert waits(third)
    first.end()
    assert works(third)


@pytest.mark.usefixtures("patient")
def test_who_waits_for_a_client_has_no_turn_meanwhile(workers):
    first, _, third = workers
    first.tell("leave")
    assert works(third)
    first.tell("take")
    assert waits(first)
    third.end()
    assert works(first)


@pytest.mark.usefixtures("patient")
def test_who_has_waited_longest_is_next(turns, workers):
    first, second, third = workers
    fourth = Worker(turns)
    assert waits(fourth)
    second.end()
    assert works(third)
    assert waits(fourth)
    first.end()
    assert works(fourth)
    fourth.end()


@pytest.mark.usefixtures("patient")
def test_a_turn_is_kept_for_a_while_and_then_handed_on(workers, monkeypatch):
    first, _, third = workers
    monkeypatch.setattr(turns_module, "SLICE", 60)
    first.tell("take")
    assert works(first)
    assert waits(third)
    monkeypatch.setattr(turns_module, "SLICE", 0)
    first.tell("take")
    assert works(third)
    assert waits(first)


@pytest.mark.usefixtures("patient")
def test_a_turn_is_kept_for_as_long_as_nobody_wants_it(turns, monkeypatch):
    monkeypatch.setattr(turns_module, "SLICE", 0)
    only = Worker(turns)
    for _ in range(3):
        assert works(only)
        only.tell("take")
    assert works(only)
    only.end()


def test_one_who_is_stuck_keeps_nobody_waiting(workers):
    """Two have a turn, and are not heard of: a disk, a lock, a slow client."""
    first, second, third = workers
    assert works(third)
    # And whoever goes on again is as any other.
    first.tell("take")
    assert works(first)
    second.tell("leave")
    third.end()
    assert len(first.turns._holders) == 1


def test_all_get_past_those_that_are_stuck(turns):
    made = [Worker(turns) for _ in range(12)]
    assert all(works(each) for each in made)
    for each in made:
        each.end()
    assert turns._holders == []


def test_who_does_not_take_part_is_not_held_up(turns, workers):
    turns.take()
    turns.take()
    turns.leave()
    assert len(turns._holders) == 2


def test_a_turn_ends_with_whatever_is_raised(turns):
    for _ in range(5):
        with pytest.raises(KeyError):
            failing(turns)
    assert turns._holders == []


def failing(turns):
    with turns.part():
        turns.take()
        raise KeyError


def work_at_once(work):
    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)


@pytest.mark.usefixtures("patient", "hurried")
def test_nobody_is_forgotten_and_never_too_many_at_work(turns, monkeypatch):
    monkeypatch.setattr(turns_module, "SLICE", 0)
    most, done, working = [0], [], []

    def work(seed):
        dice = random.Random(seed)
        with turns.part():
            for _ in range(200):
                turns.take()
                working.append(seed)
                most[0] = max(most[0], len(working))
                if dice.random() < 0.3:
                    time.sleep(0.0001)
                working.remove(seed)
                if dice.random() < 0.5:
                    turns.leave()
        done.append(seed)

    work_at_once(work)
    assert sorted(done) == list(range(8))
    assert most[0] == 2
    assert turns._holders == []
    assert not turns._waiting


def test_one_that_is_found_to_be_stuck_just_as_it_leaves_has_left(turns):
    guard = turns._guard

    class Late:
        def __enter__(self):
            # Between the look at the own turn and this.
            turns._guard = guard
            turns._end(turns._me())
            guard.acquire()

        def __exit__(self, *raised):
            guard.release()

    with turns.part():
        turns.take()
        turns._guard = Late()
        turns.leave()
        assert turns._holders == []


@pytest.mark.usefixtures("hurried")
def test_those_found_stuck_in_a_crowd_break_nothing(turns, monkeypatch):
    """Each is passed over all the time, also while it hands its turn on."""
    monkeypatch.setattr(turns_module, "PATIENCE", 1e-5)
    monkeypatch.setattr(turns_module, "SLICE", 0)
    done = []

    def work(seed):
        dice = random.Random(seed)
        with turns.part():
            for _ in range(300):
                turns.take()
                time.sleep(0.0001 * dice.random())
                if dice.random() < 0.5:
                    turns.leave()
        done.append(seed)

    work_at_once(work)
    assert sorted(done) == list(range(8))
    assert turns._holders == []
    assert not turns._waiting
