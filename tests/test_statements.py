"""How many statements a request takes: the same for the first chunk and the last."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from resumable_uploads import changes
from resumable_uploads.changes import AtLeast, Plus, change, insert
from resumable_uploads.lookups import Lookup, PairLookup
from resumable_uploads.models import Chunk, State, UploadSession

from .buckets import OssClient, held
from .foreign import Resumable
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


# --- Changes ------------------------------------------------------------------------


@pytest.fixture(params=["told by the UPDATE", "told by a SELECT"])
def telling(request, monkeypatch):
    """Let the database tell at once what a row is like after a change, or not."""
    if request.param == "told by a SELECT":
        monkeypatch.setattr(changes, "_TELLING", set())
        monkeypatch.setitem(connection.__dict__, KEPT, {})
    yield
    connection.__dict__.pop(KEPT, None)


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
