"""How many statements a request takes: the same for the first chunk and the last."""

from __future__ import annotations

import functools
import uuid
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from django.db import (
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from resumable_uploads import changes
from resumable_uploads.changes import AtLeast, Plus, change, change_and_add, insert
from resumable_uploads.lookups import Lookup, PairLookup
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.statements import Statement

from .buckets import OssClient, held
from .foreign import Resumable
from .racing import Running, counted
from .rest import some_bytes
from .visitor import Visitor

pytestmark = pytest.mark.django_db

SIZE = 100
COUNT = 50
DATA = some_bytes(SIZE)
# Where a connection has its statements.
KEPT = "_resumable_uploads_kept"


@pytest.fixture
def me():
    return Visitor()


def opened(me):
    about = {"filename": "a.bin", "size": SIZE * COUNT, "chunk_size": SIZE}
    return me.post("/uploads/", about).json()["url"]


def statements(call):
    """Return what a call asks the database, without the bounds of transactions."""
    with CaptureQueriesContext(connection) as captured:
        call()
    texts = [query["sql"] for query in captured]
    bounds = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    return [text for text in texts if not text.startswith(bounds)]


def put(me, url, number):
    assert me.put(f"{url}chunks/{number}/", DATA).status == 201


def test_a_chunk_takes_five_statements_whichever_it_is(me):
    url = opened(me)
    for number in range(COUNT - 2):
        asked = statements(lambda number=number: put(me, url, number))
        # Session and upload; under the lock, upload and chunk; counted and recorded.
        assert len(asked) <= 5, asked


def test_a_repeated_chunk_changes_nothing(me):
    url = opened(me)
    put(me, url, 0)
    asked = statements(lambda: me.put(f"{url}chunks/0/", DATA))
    assert len(asked) <= 4
    assert all(text.startswith("SELECT") for text in asked)


def test_an_append_takes_five_statements_however_much_is_there(me):
    url = opened(me)
    for number in range(5):
        asked = statements(lambda number=number: me.patch(url, number * SIZE, DATA))
        # Session and upload; the lease; counted and recorded.
        assert len(asked) <= 5, asked


def test_a_stretch_by_tus_takes_five_statements(me):
    sent = {"Tus-Resumable": "1.0.0"}
    opening = sent | {"Upload-Length": str(SIZE * COUNT)}
    me.get("/upload/")
    answer = me.request("POST", "/uploads/tus/", b"", opening)
    path = answer.headers["Location"].partition("testserver")[2]
    sent["Content-Type"] = "application/offset+octet-stream"
    for number in range(5):
        sent["Upload-Offset"] = str(number * SIZE)
        asked = statements(lambda: me.request("PATCH", path, DATA, sent))
        assert len(asked) <= 5, asked
    assert UploadSession.objects.get().received == 5 * SIZE


def test_a_chunk_in_a_form_takes_five_statements(me):
    me.get("/upload/")
    client = Resumable(some_bytes(SIZE * COUNT), chunk_size=SIZE)
    assert client.send(me, 1).status == 200
    for number in range(2, 7):
        asked = statements(lambda number=number: client.send(me, number))
        assert len(asked) <= 5, asked
    assert UploadSession.objects.get().received == 6 * SIZE


def test_a_part_takes_seven_statements(me):
    client = OssClient(me, held())
    upload = client.initiate("a.bin")
    for number in range(1, 6):
        asked = statements(
            lambda number=number: client.put_part("a.bin", upload, number, DATA)
        )
        # Revocations and upload; under the lock, the upload and who lies there;
        # counted; the quota, since the length is unknown; recorded.
        assert len(asked) <= 7, asked
    assert UploadSession.objects.get().received == 5 * SIZE


def test_an_offset_is_asked_for_by_few_statements(me):
    url = opened(me)
    put(me, url, 0)
    # Session and upload, and which chunks there are; for HEAD, the lease.
    assert len(statements(lambda: me.get(url))) <= 3
    assert len(statements(lambda: me.head(url))) <= 5
    appended = opened(me)
    me.patch(appended, 0, DATA)
    assert len(statements(lambda: me.get(appended))) <= 2
    # The UPDATE tells how far it is.
    assert len(statements(lambda: me.head(appended))) <= 3


def test_to_open_an_upload_takes_four_statements(me):
    opened(me)
    asked = statements(lambda: opened(me))
    # Session; the quota; how many are open; and the row.
    assert len(asked) <= 4, asked


# --- Growth -------------------------------------------------------------------------


def plans(asked):
    """Return how SQLite would do what it was asked."""
    with connection.cursor() as cursor:
        for text in asked:
            cursor.execute(f"EXPLAIN QUERY PLAN {text.replace('%', '%%')}", ())
            yield from (f"{row[-1]}: {text}" for row in cursor.fetchall())


@pytest.mark.only_on("sqlite")
def test_no_chunk_is_looked_for_among_all_others(me):
    """What is found by an index costs the same among 10,000 chunks as among two."""
    url = opened(me)
    asked = statements(lambda: put(me, url, 0))
    asked += statements(lambda: me.put(f"{url}chunks/0/", DATA))
    client = Resumable(some_bytes(SIZE * COUNT), chunk_size=SIZE)
    client.send(me, 1)
    asked += statements(lambda: client.send(me, 2))
    appended = opened(me)
    asked += statements(lambda: me.patch(appended, 0, DATA))
    asked += statements(lambda: me.head(appended))
    found = list(plans(asked))
    assert len(found) >= 15
    assert all(plan.startswith("SEARCH") for plan in found), found


@pytest.mark.once
def test_the_last_of_10_000_chunks_takes_as_many_statements_as_the_first(me):
    about = {"filename": "a.bin", "size": SIZE * 10_000, "chunk_size": SIZE}
    url = me.post("/uploads/", about).json()["url"]
    first = statements(lambda: put(me, url, 0))
    known = Chunk.objects.get()
    others = [
        Chunk(**vars_of(known) | {"id": None, "number": number})
        for number in range(1, 9_998)
    ]
    Chunk.objects.bulk_create(others)
    UploadSession.objects.update(received=9_998 * SIZE, chunk_count=9_998)
    last = statements(lambda: put(me, url, 9_998))
    assert [text.split()[0] for text in last] == [text.split()[0] for text in first]
    assert me.get(url).json()["missing"] == [[9_999, 9_999]]


def test_a_lookup_finds_what_a_query_finds(me):
    url = opened(me)
    put(me, url, 3)
    upload, chunk = UploadSession.objects.get(), Chunk.objects.get()
    found = Lookup(UploadSession, ("id",))(upload.pk)
    assert vars_of(found) == vars_of(upload)
    found = Lookup(Chunk, ("upload", "number"))(upload.pk, 3)
    assert vars_of(found) == vars_of(chunk)
    assert Lookup(Chunk, ("upload", "number"))(upload.pk, 4) is None


def test_two_rows_are_found_at_one_moment(me):
    url = opened(me)
    put(me, url, 3)
    upload, chunk = UploadSession.objects.get(), Chunk.objects.get()
    both = PairLookup(UploadSession, Chunk, on={"upload": "id", "number": None})
    found, beside = both(upload.pk, 3)
    assert vars_of(found) == vars_of(upload)
    assert vars_of(beside) == vars_of(chunk)
    found, beside = both(upload.pk, 4)
    assert vars_of(found) == vars_of(upload)
    assert beside is None
    assert both(uuid.uuid4(), 3) is None


def vars_of(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields}


# --- The way to the database ---------------------------------------------------------


def driver_only(monkeypatch):
    """Have Django's own cursors fail."""

    def cursor(*args, **kwargs):
        raise AssertionError("Django's cursor was asked.")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", cursor)


def test_where_nobody_watches_the_driver_is_asked(me, monkeypatch):
    opened(me)
    pk = UploadSession.objects.get().pk
    with monkeypatch.context() as patch:
        driver_only(patch)
        assert Lookup(UploadSession, ("id",))(pk).pk == pk
        assert change(UploadSession, pk, {"lease": "mine"}) == {}
    assert UploadSession.objects.get().lease == "mine"


@pytest.mark.once
@pytest.mark.parametrize("who", ["a wrapper", "the log", "a tracer", "a panel"])
def test_who_watches_sees_each_statement(me, monkeypatch, who):
    opened(me)
    pk = UploadSession.objects.get().pk
    seen = []

    def watching(execute, sql, *args):
        seen.append(sql)
        return execute(sql, *args)

    with ExitStack() as stack:
        if who == "a wrapper":
            stack.enter_context(connection.execute_wrapper(watching))
        elif who == "the log":
            log = stack.enter_context(CaptureQueriesContext(connection))
        elif who == "a tracer":
            whole = CursorWrapper.execute
            traced = functools.wraps(whole)(
                lambda self, *args: watching(partial(whole, self), *args)
            )
            monkeypatch.setattr(CursorWrapper, "execute", traced)
        else:
            own = connections["default"].cursor
            monkeypatch.setitem(
                connections["default"].__dict__,
                "cursor",
                lambda: seen.append("") or own(),
            )
        Lookup(UploadSession, ("id",))(pk)
        change(UploadSession, pk, {"lease": "mine"})
    if who == "the log":
        seen = [query["sql"] for query in log]
    assert len(seen) == 2


@pytest.fixture
def prepared_from(monkeypatch):
    """Let this connection prepare statements from the second time on, or never."""

    def from_(threshold):
        connection.ensure_connection()
        monkeypatch.setattr(connection.connection, "prepare_threshold", threshold)

    return from_


def prepared_statements():
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [text for (text,) in cursor.fetchall()]


def chunks_put(me, count):
    url = opened(me)
    for number in range(count):
        put(me, url, number)


@pytest.mark.only_on("postgres")
def test_postgres_understands_once_what_each_chunk_asks(me, prepared_from):
    prepared_from(2)
    chunks_put(me, 6)
    texts = prepared_statements()
    for verb in ("SELECT", "UPDATE", "INSERT"):
        assert any(text.startswith(verb) for text in texts)
    # The values are no part of them: one of each is enough.
    count = len(texts)
    chunks_put(me, 20)
    assert len(prepared_statements()) == count


@pytest.mark.only_on("postgres")
def test_nothing_is_prepared_where_the_site_does_without(me, prepared_from):
    before = prepared_statements()
    prepared_from(None)
    chunks_put(me, 10)
    assert prepared_statements() == before


def test_what_the_driver_raises_is_translated(me):
    put(me, opened(me), 3)
    row = Chunk.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(row)
    assert Chunk.objects.count() == 1


def test_a_transaction_that_has_failed_takes_no_more_statements(me):
    opened(me)
    pk = UploadSession.objects.get().pk
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            change(UploadSession, pk, {"lease": "mine"})
    assert UploadSession.objects.get().lease == ""


@pytest.mark.once
def test_who_wants_to_hear_of_each_row_does(me):
    opened(me)
    pk = UploadSession.objects.get().pk
    made = []
    with heard_of(post_init, made):
        assert Lookup(UploadSession, ("id",))(pk) == made[0]
    assert len(made) == 1


@contextmanager
def heard_of(signal, made):
    def hear(instance, **kwargs):
        made.append(instance)

    signal.connect(hear, sender=UploadSession)
    try:
        yield
    finally:
        signal.disconnect(hear, sender=UploadSession)


@pytest.mark.once
def test_what_was_not_looked_up_is_asked_for_when_it_is_wanted(me):
    opened(me)
    upload = UploadSession.objects.get()
    found = Lookup(UploadSession, ("id",), only=("id", "state"))(upload.pk)
    assert found.get_deferred_fields() >= {"filename", "metadata"}
    assert vars_of(found) == vars_of(upload)


# --- Changes ------------------------------------------------------------------------


BY_SELECT = "told by a SELECT"


@pytest.fixture(
    params=[
        "told by the UPDATE",
        # PostgreSQL always tells; its driver knows no other way.
        pytest.param(BY_SELECT, marks=pytest.mark.only_on("sqlite")),
    ]
)
def telling(request, monkeypatch):
    """Let the database tell at once what a row is like after a change, or not."""
    if request.param == BY_SELECT:
        monkeypatch.setattr(changes, "_TELLING", set())
        monkeypatch.setitem(connections["default"].__dict__, KEPT, {})
    yield
    connections["default"].__dict__.pop(KEPT, None)


@pytest.mark.usefixtures("telling")
def test_a_change_is_made_only_where_all_is_as_it_was_said(me):
    opened(me)
    upload = UploadSession.objects.get()
    to = {"received": Plus(5), "lease": "mine", "retry_at": upload.created_at}
    for wrong in (
        {"state": State.ASSEMBLING},
        {"state": State.RECEIVING, "addressed_by__not": ""},
        {"state": State.RECEIVING, "received__at_most": -1},
    ):
        assert change(UploadSession, upload.pk, to, ("received",), **wrong) is None
        assert vars_of(UploadSession.objects.get()) == vars_of(upload)
    assert change(UploadSession, uuid.uuid4(), to) is None
    as_said = {"state": State.RECEIVING, "received__at_most": 0, "lease": ""}
    told = change(UploadSession, upload.pk, to, ("received", "retry_at"), **as_said)
    assert told == {"received": 5, "retry_at": upload.created_at}
    assert change(UploadSession, upload.pk, {"retry_at": None}) == {}
    upload.received, upload.lease = 5, "mine"
    assert vars_of(UploadSession.objects.get()) == vars_of(upload)


def test_a_number_is_raised_and_never_lowered(me):
    opened(me)
    upload = UploadSession.objects.get()
    for before, raised, after in [(None, 3, 3), (2, 3, 3), (9, 3, 9), (3, 3, 3)]:
        UploadSession.objects.update(chunk_size=before)
        told = change(
            UploadSession, upload.pk, {"chunk_size": AtLeast(raised)}, ("chunk_size",)
        )
        assert told == {"chunk_size": after}


def test_a_row_is_changed_where_a_field_is_null_as_it_is_said_to_be(me):
    opened(me)
    pk = UploadSession.objects.get().pk
    assert change(UploadSession, pk, {"lease": "mine"}, length=None) is None
    assert change(UploadSession, pk, {"lease": "mine"}, retry_at=None) == {}
    assert UploadSession.objects.get().lease == "mine"


@pytest.mark.usefixtures("telling")
def test_an_inserted_row_is_what_a_saved_one_would_be(me):
    url = opened(me)
    put(me, url, 3)
    saved = Chunk.objects.get()
    row = Chunk(**{name: one for name, one in vars_of(saved).items() if name != "id"})
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(row)
    row.number, row.digests = 4, {"md5": "aa"}
    insert(row)
    assert not row._state.adding
    assert vars_of(Chunk.objects.get(pk=row.pk)) == vars_of(row)


# --- Both, or neither ---------------------------------------------------------------


@pytest.fixture(params=["unseen", "watched"])
def watched(request):
    """Have somebody watch the statements, or nobody."""
    with ExitStack() as stack:
        if request.param == "watched":
            stack.enter_context(CaptureQueriesContext(connections["default"]))
        yield request.param == "watched"


def first_chunk(upload):
    row = Chunk(upload=upload, number=0, offset=0, size=5, key="k", start=0)
    row.checksum, row.created_at, row.digests = "0" * 16, upload.created_at, {"a": "b"}
    return row


def counted_and_added(upload, row, **where):
    to = {"received": Plus(row.size), "addressed_by": "number", "retry_at": None}
    told = ("received", "chunk_total")
    return change_and_add(row, UploadSession, upload.pk, to, told, **where)


@pytest.mark.django_db(transaction=True)
def test_a_row_is_changed_and_another_one_added(me, watched):
    opened(me)
    upload = UploadSession.objects.get()
    row = first_chunk(upload)
    told = counted_and_added(upload, row, state=State.RECEIVING, retry_at=None)
    assert told == {"received": 5, "chunk_total": None}
    assert not row._state.adding
    assert vars_of(Chunk.objects.get(pk=row.pk)) == vars_of(row)
    upload.received, upload.addressed_by = 5, "number"
    assert vars_of(UploadSession.objects.get()) == vars_of(upload)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_added_where_nothing_was_changed(me, watched):
    opened(me)
    upload = UploadSession.objects.get()
    row = first_chunk(upload)
    assert counted_and_added(upload, row, lease="another") is None
    assert row._state.adding
    assert not Chunk.objects.exists()
    assert UploadSession.objects.get().received == 0


@pytest.mark.django_db(transaction=True)
def test_nothing_is_changed_where_nothing_can_be_added(me, watched):
    opened(me)
    upload = UploadSession.objects.get()
    counted_and_added(upload, first_chunk(upload))
    with pytest.raises(IntegrityError):
        counted_and_added(upload, first_chunk(upload))
    assert UploadSession.objects.get().received == 5
    assert not connection.in_atomic_block
    assert connection.get_autocommit()


@pytest.mark.django_db(transaction=True)
def test_it_is_a_transaction_of_its_own(me, watched):
    opened(me)
    upload = UploadSession.objects.get()
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        counted_and_added(upload, first_chunk(upload))
    assert not Chunk.objects.exists()


@pytest.mark.only_on("postgres")
@pytest.mark.django_db(transaction=True)
def test_postgres_is_asked_once(me, monkeypatch):
    opened(me)
    upload = UploadSession.objects.get()
    asked = counted(monkeypatch, Statement, "_done")
    assert counted_and_added(upload, first_chunk(upload))
    assert len(asked) == 1


@pytest.mark.only_on("sqlite")
@pytest.mark.django_db(transaction=True)
def test_a_commit_that_fails_is_taken_back(me, monkeypatch):
    opened(me)
    upload = UploadSession.objects.get()

    def fails(self):
        raise OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "_commit", fails)
        with pytest.raises(OperationalError):
            counted_and_added(upload, first_chunk(upload))
    assert UploadSession.objects.get().received == 0
    assert counted_and_added(upload, first_chunk(upload))


# --- Is the database still there? ---------------------------------------------------


@pytest.fixture
def to_be_tried(me, monkeypatch):
    """An upload, and a connection that Django would try before it is used again."""
    opened(me)
    upload = UploadSession.objects.get()
    django = connections["default"]
    monkeypatch.setattr(django, "health_check_enabled", True)
    monkeypatch.setattr(django, "health_check_done", False)
    return upload


@pytest.mark.only_on("postgres")
@pytest.mark.django_db(transaction=True)
def test_a_connection_on_which_nothing_waits_is_not_tried(to_be_tried, monkeypatch):
    tried = counted(monkeypatch, type(connections["default"]), "is_usable")
    assert Lookup(UploadSession, ("id",))(to_be_tried.pk) == to_be_tried
    # Nor by Django, which tries a connection once for each request.
    assert UploadSession.objects.get() == to_be_tried
    assert not tried


@pytest.mark.only_on("postgres")
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_ended_is_noticed_and_made_again(to_be_tried):
    django = connections["default"]
    before = django.connection
    ours = before.info.backend_pid

    def end():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours])

    Running(end).result()
    assert Lookup(UploadSession, ("id",))(to_be_tried.pk) == to_be_tried
    assert django.connection is not before
