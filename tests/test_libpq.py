"""What psycopg has prepared is handed to libpq, and comes to what its cursors give."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)
from django.utils import timezone
from psycopg import IsolationLevel, waiting

from resumable_uploads import libpq
from resumable_uploads.changes import change, insert
from resumable_uploads.libpq import PreparedStatement
from resumable_uploads.lookups import Lookup
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.statements import Statement

from . import making
from .racing import Running, counted

pytestmark = [
    pytest.mark.only_on("postgres"),
    pytest.mark.django_db(transaction=True),
]

TYPES = (
    "SELECT %s::bigint, %s::uuid, %s::timestamptz, %s::text, %s::boolean, %s::jsonb, "
    "%s::double precision, NULL::text"
)
NOW = datetime(2026, 11, 30, 12, 34, 56, 780000, UTC)
PARAMS = [2**40, uuid.UUID(int=7), NOW, "ä'%s", True, '{"a": [1, null]}', 2.5]


@pytest.fixture(autouse=True)
def prepared_at_once(monkeypatch):
    """Have this connection prepare what it is asked for the first time."""
    connections["default"].ensure_connection()
    monkeypatch.setattr(connections["default"].connection, "prepare_threshold", 0)


@pytest.fixture
def handed_over(monkeypatch):
    """What libpq is handed, by the names that psycopg has given."""
    return counted(monkeypatch, PreparedStatement, "_handed_over")


def again(statement, params=()):
    """Run a statement a second time; return what it gives then."""
    statement.first(params)
    return statement.first(params)


def made(sql):
    return Statement(connections["default"], sql)


def test_from_the_second_time_on_a_statement_is_handed_over(handed_over):
    statement = made("SELECT %s::int + 1")
    assert [statement.first([number]) for number in (1, 2, 3)] == [(2,), (3,), (4,)]
    assert len(handed_over) == 2


def test_each_type_is_what_the_cursor_makes_of_it(handed_over):
    statement = made(TYPES)
    first, second = statement.first(PARAMS), statement.first(PARAMS)
    assert len(handed_over) == 1
    with connections["default"].cursor() as cursor:
        cursor.execute(TYPES, PARAMS)
        assert first == second == cursor.fetchone()
    assert [type(value) for value in first] == [type(value) for value in second]
    assert first[2].tzinfo is second[2].tzinfo is UTC


MOMENTS = [
    NOW,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(2026, 1, 1, 0, 0, 0, 100, UTC),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_moment_is_the_same_again(moment):
    assert again(made("SELECT %s::timestamptz"), [moment]) == (moment,)


def test_a_moment_that_python_does_not_know_is_refused_as_ever():
    statement = made("SELECT 'infinity'::timestamptz")
    for _ in range(2):
        with pytest.raises(DataError):
            statement.first(())


def test_a_session_of_another_time_zone_gives_the_same_moments():
    with connections["default"].cursor() as cursor:
        cursor.execute("SET TIME ZONE 'Asia/Kolkata'")
    try:
        found = again(made("SELECT %s::timestamptz"), [NOW])[0]
    finally:
        connections["default"].close()
    assert found == NOW
    assert found.tzinfo is UTC


def test_a_site_without_time_zones_gets_moments_without(settings, handed_over):
    connections["default"].close()
    settings.USE_TZ = False
    connections["default"].ensure_connection()
    connections["default"].connection.prepare_threshold = 0
    try:
        found = again(made("SELECT '2026-11-30 12:00'::timestamptz"))[0]
    finally:
        connections["default"].close()
    assert found == datetime(2026, 11, 30, 12)
    assert len(handed_over) == 1


def test_all_rows_are_found_and_none_kept(handed_over):
    statement = made("SELECT * FROM generate_series(1, %s::int)")
    for count in (3, 0, 5):
        assert statement.all([count]) == [(n,) for n in range(1, count + 1)]
    assert len(handed_over) == 2
    assert statement._prepared._transformer.pgresult is None
    assert statement._prepared._cursor.pgresult is None


def test_no_row_is_none():
    assert again(made("SELECT 1 WHERE %s::boolean"), [False]) is None


def test_how_many_rows_were_changed_is_told(handed_over):
    upload = making.open_upload()
    handed_over.clear()
    for told in ({}, {}, {}):
        assert change(UploadSession, upload.pk, {"lease": "a"}) == told
    assert change(UploadSession, uuid.uuid4(), {"lease": "a"}) is None
    assert len(handed_over) == 3
    assert UploadSession.objects.get().lease == "a"


def test_a_none_among_the_parameters_is_prepared_by_itself(handed_over):
    statement = made("SELECT %s::int IS NULL, %s::text")
    for value in (1, None, 2, None, 3):
        assert statement.first([value, "x"]) == (value is None, "x")
    assert len(handed_over) == 3


# --- Errors -------------------------------------------------------------------------


def test_what_the_database_refuses_is_djangos_error(handed_over):
    upload = making.open_upload()
    chunk = {"offset": 0, "size": 5, "key": "k", "start": 0, "checksum": "0" * 16}

    handed_over.clear()

    def row(number):
        more = {"created_at": timezone.now(), "digests": {}}
        return Chunk(upload=upload, number=number, **chunk, **more)

    insert(row(0))
    with pytest.raises(IntegrityError, match="duplicate key"):
        insert(row(0))
    assert len(handed_over) == 1
    insert(row(1))
    assert Chunk.objects.count() == 2


def test_what_cannot_be_a_parameter_is_djangos_error_too(handed_over):
    statement = made("SELECT %s::text")
    statement.first(["a"])
    with pytest.raises(DataError, match="NUL"):
        statement.first(["a\0b"])
    assert statement.first(["b"]) == ("b",)


def test_a_connection_that_is_lost_is_noticed_and_made_again(handed_over):
    statement = made("SELECT pg_backend_pid()")
    (ours,) = again(statement)

    def end():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours])

    Running(end).result()
    with pytest.raises(OperationalError):
        statement.first(())
    # As Django does at the end of a request.
    connections["default"].close_if_unusable_or_obsolete()
    assert statement.first(())[0] != ours


# --- Transactions -------------------------------------------------------------------


@contextmanager
def taken_back():
    """A transaction that fails in the end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_a_transaction_is_begun_before_and_taken_back(handed_over):
    upload = making.open_upload()
    handed_over.clear()
    for lease in ("a", "b"):
        change(UploadSession, upload.pk, {"lease": lease})
    with taken_back():
        change(UploadSession, upload.pk, {"lease": "c"})
        change(UploadSession, upload.pk, {"lease": "d"})
        assert UploadSession.objects.get().lease == "d"
    assert len(handed_over) == 3
    assert UploadSession.objects.get().lease == "b"


def test_a_transaction_is_begun_as_the_site_wants_it(handed_over):
    level = made("SELECT current_setting('transaction_isolation')")
    driver = connections["default"].connection
    driver.isolation_level = IsolationLevel.SERIALIZABLE
    try:
        level.first(())
        with transaction.atomic():
            # By the cursor, which knows how.
            assert level.first(()) == ("serializable",)
            assert not handed_over
            assert level.first(()) == ("serializable",)
    finally:
        connections["default"].close()


def test_what_was_prepared_before_a_rollback_is_prepared_anew(handed_over):
    upload = making.open_upload()
    find = Lookup(UploadSession, ("id",))
    find(upload.pk)
    assert find(upload.pk) == upload
    with taken_back():
        find(upload.pk)
    before = len(handed_over)
    # psycopg has dropped all that was prepared.
    assert find(upload.pk) == upload
    assert len(handed_over) == before
    assert find(upload.pk) == upload
    assert len(handed_over) == before + 1


def test_a_failed_part_of_a_transaction_leaves_the_rest(handed_over):
    statement = made("SELECT 1 / %s::int")
    statement.first([1])
    with transaction.atomic():
        assert statement.first([1]) == (1,)
        with pytest.raises(DataError), transaction.atomic():
            statement.first([0])
        assert statement.first([1]) == (1,)


# --- Where it is left to the cursor -------------------------------------------------


def test_the_main_thread_can_be_interrupted(monkeypatch, handed_over):
    monkeypatch.undo()
    connections["default"].ensure_connection()
    connections["default"].connection.prepare_threshold = 0
    assert threading.current_thread() is threading.main_thread()
    assert libpq.is_interruptible()
    assert not Running(libpq.is_interruptible).result()


def test_green_threads_are_not_held_up(monkeypatch):
    monkeypatch.undo()
    # What psycopg takes where gevent has replaced select.
    monkeypatch.setattr(waiting, "wait", waiting.wait_selector)
    assert Running(libpq.is_interruptible).result()


@pytest.mark.parametrize("why", ["interruptible", "unseen", "in a pipeline"])
def test_else_the_cursor_is_asked(monkeypatch, handed_over, why):
    statement = made("SELECT %s::int")
    statement.first([1])
    if why == "interruptible":
        monkeypatch.setattr(libpq, "is_interruptible", lambda: True)
        assert statement.first([2]) == (2,)
    elif why == "unseen":
        monkeypatch.setattr(statement._prepared, "_names", None)
        assert statement.first([2]) == (2,)
    else:
        with connections["default"].connection.pipeline():
            assert statement.first([2]) == (2,)
    assert not handed_over


def test_other_threads_go_on_while_the_database_is_busy(handed_over):
    statement = made("SELECT pg_sleep(%s)")
    statement.first([0.0])
    went_on = threading.Event()

    def go_on():
        went_on.wait(5)
        return went_on.is_set()

    waiting = Running(go_on)
    threading.Timer(0.1, went_on.set).start()
    # It would hold up the timer as well, and both would be late.
    statement.first([0.5])
    assert waiting.result()
    assert len(handed_over) == 1
