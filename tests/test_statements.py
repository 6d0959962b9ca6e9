"""How many statements a request takes: the same for the first chunk and the last."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from resumable_uploads.lookups import Lookup
from resumable_uploads.models import Chunk, UploadSession

from .rest import some_bytes
from .visitor import Visitor

pytestmark = pytest.mark.django_db

SIZE = 100
COUNT = 50
DATA = some_bytes(SIZE)


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


def test_a_chunk_takes_seven_statements_whichever_it_is(me):
    url = opened(me)
    for number in range(COUNT - 2):
        asked = statements(lambda number=number: put(me, url, number))
        # Session, upload and chunk; under the lock, the upload; it is counted,
        # recorded, and looked at once more.
        assert len(asked) <= 7, asked


def test_a_repeated_chunk_changes_nothing(me):
    url = opened(me)
    put(me, url, 0)
    asked = statements(lambda: me.put(f"{url}chunks/0/", DATA))
    assert len(asked) <= 5
    assert all(text.startswith("SELECT") for text in asked)


def test_an_append_takes_six_statements_however_much_is_there(me):
    url = opened(me)
    for number in range(5):
        asked = statements(lambda number=number: me.patch(url, number * SIZE, DATA))
        assert len(asked) <= 6, asked


def test_an_offset_is_asked_for_by_few_statements(me):
    url = opened(me)
    put(me, url, 0)
    assert len(statements(lambda: me.get(url))) <= 3
    assert len(statements(lambda: me.head(url))) <= 5


def test_to_open_an_upload_takes_few_statements(me):
    opened(me)
    assert len(statements(lambda: opened(me))) <= 7


def test_a_lookup_finds_what_a_query_finds(me):
    url = opened(me)
    put(me, url, 3)
    upload, chunk = UploadSession.objects.get(), Chunk.objects.get()
    found = Lookup(UploadSession, ("id",))(upload.pk)
    assert vars_of(found) == vars_of(upload)
    found = Lookup(Chunk, ("upload", "number"))(upload.pk, 3)
    assert vars_of(found) == vars_of(chunk)
    assert Lookup(Chunk, ("upload", "number"))(upload.pk, 4) is None


def vars_of(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields}
