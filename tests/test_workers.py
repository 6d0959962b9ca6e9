"""Threads for requests: all of them when there is much to do, one when there is not."""

from __future__ import annotations

import io
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from resumable_uploads import turns as turns_module
from resumable_uploads import workers
from resumable_uploads.turns import Turns
from resumable_uploads.workers import WarmQueue, WarmThreads, WarmThreadWorker


@pytest.fixture
def pool():
    with WarmThreads(8) as pool:
        yield pool


def busy_at_once(pool, count):
    """Have so many tasks under way at the same time; return what they have returned."""
    together = threading.Barrier(count)

    def task():
        together.wait(10)
        return threading.get_ident()

    return [each.result(10) for each in [pool.submit(task) for _ in range(count)]]


def taken_in_turn(pool, count):
    """Return which threads so many tasks had, each begun when the last one was idle."""
    threads = []
    for _ in range(count):
        threads.append(pool.submit(threading.get_ident).result(10))
        time.sleep(0.01)
    return threads


def test_the_next_task_goes_to_the_thread_that_was_busy_last(pool):
    assert len(set(busy_at_once(pool, 8))) == 8
    time.sleep(0.05)
    assert len(set(taken_in_turn(pool, 20))) == 1


def test_a_pool_of_pythons_lets_all_its_threads_take_turns():
    """What this is for: should it ever change, the pool is not needed any more."""
    with ThreadPoolExecutor(8) as pool:
        busy_at_once(pool, 8)
        assert len(set(taken_in_turn(pool, 20))) > 1


def test_all_threads_are_used_when_there_is_something_for_each(pool):
    for _ in range(20):
        assert len(set(busy_at_once(pool, 8))) == 8


def test_what_there_is_no_thread_for_waits_in_line(pool):
    gate, order = threading.Event(), []
    held = [pool.submit(gate.wait, 10) for _ in range(8)]
    waiting = [pool.submit(order.append, number) for number in range(20)]
    assert not any(each.done() for each in waiting)
    gate.set()
    wait([*held, *waiting], 10)
    assert sorted(order) == list(range(20))


def test_nothing_is_lost_between_many_who_put_and_many_who_get():
    shared, got = WarmQueue(), []

    def put(first):
        for number in range(first, first + 2000):
            shared.put(number)

    def get():
        while (item := shared.get()) is not None:
            got.append(item)

    takers = [threading.Thread(target=get) for _ in range(6)]
    givers = [threading.Thread(target=put, args=[n * 2000]) for n in range(6)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in takers + givers:
            each.start()
        for each in givers:
            each.join(60)
        for _ in takers:
            shared.put(None)
        for each in takers:
            each.join(60)
    finally:
        sys.setswitchinterval(before)
    assert not any(each.is_alive() for each in takers)
    assert sorted(got) == list(range(12_000))


def test_an_item_that_is_put_just_before_somebody_waits_is_taken(monkeypatch):
    shared = WarmQueue()

    class Late(threading.Thread):
        def run(self):
            self.got = shared.get()

    # Put between the look at an empty queue and the registration of who waits.
    ready = shared._wait
    shared._wait = lambda: (shared.put("early"), ready())
    late = Late()
    late.start()
    late.join(5)
    assert late.got == "early"
    assert shared._waiting == []


def test_who_does_not_want_to_wait_hears_that_there_is_nothing():
    shared = WarmQueue()
    with pytest.raises(queue.Empty):
        shared.get_nowait()
    shared.put(1)
    assert shared.get_nowait() == 1


def test_a_handler_of_a_signal_may_put_something_at_any_moment():
    """A worker that is told to quit shuts its pool down from within the handler."""
    shared, put = WarmQueue(), []

    def handler(*args):
        put.append(None)
        shared.put("signal")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(20_000):
            shared.put("loop")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    got = [shared.get_nowait() for _ in range(20_000 + len(put))]
    assert got.count("signal") == len(put) > 0


@pytest.mark.parametrize("shut", ["pool.shutdown()", "pool.shutdown(wait=False)", ""])
def test_a_process_ends_that_has_idle_threads(shut):
    code = (
        "from resumable_uploads.workers import WarmThreads\n"
        "pool = WarmThreads(4)\n"
        "[each.result() for each in [pool.submit(sum, [1]) for _ in range(9)]]\n"
    )
    subprocess.run([sys.executable, "-c", code + shut], check=True, timeout=30)


# The next request of the same client


def test_a_pool_knows_whether_a_task_would_find_a_thread(pool):
    assert pool.has_spare()
    gate = threading.Event()
    held = [pool.submit(gate.wait, 10) for _ in range(7)]
    assert pool.has_spare()
    held.append(pool.submit(gate.wait, 10))
    assert not pool.has_spare()
    gate.set()
    wait(held, 10)
    time.sleep(0.05)
    assert pool.has_spare()


@pytest.fixture
def answered(monkeypatch):
    """What requests gunicorn was asked to answer, instead of answering them."""
    answered = []

    def handle(self, conn):
        answered.append(conn.sock.recv(100))
        return bool(answered[-1])

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    return answered


@pytest.fixture
def line():
    """A connection as gunicorn has it, and the client's end of it."""
    ours, theirs = socket.socketpair()
    unreader = SimpleNamespace(buf=io.BytesIO())
    with ours, theirs:
        theirs.sendall(b"first")
        yield (
            SimpleNamespace(sock=ours, parser=SimpleNamespace(unreader=unreader)),
            theirs,
        )


@pytest.fixture
def turns(monkeypatch):
    """The turns of this process, of which there is one at a time."""
    monkeypatch.setattr(workers, "turns", made := Turns(at_once=1))
    return made


def worker(pool, alive=True, is_ssl=False):
    made = WarmThreadWorker.__new__(WarmThreadWorker)
    made.alive, made.tpool, made.cfg = alive, pool, SimpleNamespace(is_ssl=is_ssl)
    return made


def test_a_thread_also_answers_the_request_that_comes_soon_after(
    pool, line, answered, monkeypatch
):
    conn, client = line
    monkeypatch.setattr(workers, "NEXT_REQUEST", 10_000)
    soon = threading.Timer(0.05, lambda: (client.sendall(b"second"), client.close()))
    soon.start()
    assert worker(pool).handle(conn) is False
    assert answered == [b"first", b"second", b""]


def test_a_connection_on_which_nothing_more_comes_goes_back_to_the_poller(
    pool, line, answered
):
    conn, _ = line
    assert worker(pool).handle(conn) is True
    assert answered == [b"first"]


@pytest.mark.parametrize("why", ["all are busy", "it is to stop", "TLS", "read ahead"])
def test_a_thread_does_not_wait_when(why, pool, line, answered, monkeypatch):
    conn, client = line
    monkeypatch.setattr(workers, "NEXT_REQUEST", 10_000)
    gate = threading.Event()
    held = [
        pool.submit(gate.wait, 10) for _ in range(8 if why == "all are busy" else 0)
    ]
    if why == "read ahead":
        conn.parser.unreader.buf.write(b"GET")
    begun = time.monotonic()
    kept = worker(pool, alive=why != "it is to stop", is_ssl=why == "TLS").handle(conn)
    assert (kept, answered) == (True, [b"first"])
    assert time.monotonic() - begun < 5
    gate.set()
    wait(held, 10)


# Turns


@pytest.fixture
def had(monkeypatch, turns):
    """Whether threads had a turn when gunicorn was to answer."""
    had = []

    def handle(self, conn):
        had.append(turns._me().has_turn)
        return bool(conn.sock.recv(100))

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    return had


def test_a_thread_has_a_turn_while_it_answers(pool, line, had, turns, monkeypatch):
    conn, client = line
    monkeypatch.setattr(workers, "NEXT_REQUEST", 10_000)
    given = []
    monkeypatch.setattr(
        turns, "leave", lambda: (given.append(turns._me().has_turn), Turns.leave(turns))
    )
    soon = threading.Timer(0.05, lambda: (client.sendall(b"second"), client.close()))
    soon.start()
    assert worker(pool).handle(conn) is False
    assert had == [True, True, True]
    # It was given away while it had to wait for the client.
    assert given == [True]
    assert turns._holders == []


def test_without_spare_threads_a_client_is_kept_for_a_turn_at_most(
    pool, line, answered, turns, monkeypatch
):
    """Others wait for a thread; to go on with this client at once costs them least."""
    conn, client = line
    monkeypatch.setattr(workers, "SOON", 10_000)
    gate = threading.Event()
    held = [pool.submit(gate.wait, 10) for _ in range(8)]
    monkeypatch.setattr(turns_module, "SLICE", 60)
    soon = threading.Timer(0.05, client.sendall, [b"second"])
    soon.start()
    goes_on = turns.goes_on

    def until_the_second(is_wanted):
        assert is_wanted
        if len(answered) == 2:
            monkeypatch.setattr(turns_module, "SLICE", -1)
        return goes_on(is_wanted)

    monkeypatch.setattr(turns, "goes_on", until_the_second)
    assert worker(pool).handle(conn) is True
    assert answered == [b"first", b"second"]
    gate.set()
    wait(held, 10)


def test_who_has_said_nothing_yet_has_no_turn(pool, line, had, turns):
    conn, client = line
    conn.sock.recv(100)
    soon = threading.Timer(0.05, client.close)
    soon.start()
    assert worker(pool).handle(conn) is False
    assert had == [False]


@pytest.mark.parametrize(
    ("processors", "processes", "at_once"), [(1, 4, 2), (2, 2, 2), (32, 4, 8)]
)
def test_there_are_as_many_turns_as_processors(
    monkeypatch, turns, pool, processors, processes, at_once
):
    monkeypatch.setattr(workers, "_processors", lambda: processors)
    monkeypatch.setattr(ThreadWorker, "init_process", lambda self: None)
    made = worker(pool)
    made.cfg.workers = processes
    made.init_process()
    assert turns.at_once == at_once
