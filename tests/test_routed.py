"""Uploads in another database than the default one, by a router of the site's."""

from __future__ import annotations

import pytest
from django.db import router, transaction

from resumable_uploads import engine, signals
from resumable_uploads.models import State, UploadSession

from .making import body, content, files_in, heard, open_upload, read, staging

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "elsewhere"])

DATA = content(20)
ELSEWHERE = "elsewhere"


class Router:
    """Send uploads elsewhere."""

    def db_for_read(self, model, **hints):
        return ELSEWHERE if model._meta.app_label == "resumable_uploads" else None

    db_for_write = db_for_read


@pytest.fixture(autouse=True)
def _routed(monkeypatch):
    monkeypatch.setattr(router, "routers", [Router()])


def there():
    return UploadSession.objects.get()


def test_a_file_is_made_there():
    with heard(signals.upload_completed) as completed:
        upload = open_upload(20, 10)
        engine.put_chunk(there(), 1, body(DATA[10:]))
        engine.put_chunk(there(), 0, body(DATA[:10]))
    assert completed == [upload.pk]
    assert there()._state.db == ELSEWHERE
    assert read(there()) == DATA


@pytest.mark.parametrize("number", [0, 1])
def test_a_chunk_is_recorded_there_as_a_whole_or_not_at_all(monkeypatch, number):
    """The last one by steps, and the one before it at once."""
    open_upload(20, 10)
    if number:
        engine.put_chunk(there(), 0, body(DATA[:10]))

    def fails(*args):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("resumable_uploads.changes._Insert.params", fails)
        with pytest.raises(RuntimeError):
            engine.put_chunk(there(), number, body(DATA[:10]))
    assert there().received == 10 * number
    assert there().state == State.RECEIVING


def test_nobody_is_told_before_it_is_true():
    with heard(signals.upload_cancelled) as cancelled:
        upload = open_upload(20, 10)
        with transaction.atomic(using=ELSEWHERE):
            engine.cancel(there())
            assert cancelled == []
    assert cancelled == [upload.pk]


def test_bytes_of_a_row_stay_where_its_deletion_is_taken_back():
    open_upload(20, 10)
    engine.put_chunk(there(), 0, body(DATA[:10]))
    with transaction.atomic(using=ELSEWHERE):
        there().delete()
        transaction.set_rollback(True, using=ELSEWHERE)
    assert len(files_in(staging())) > 0
    engine.put_chunk(there(), 1, body(DATA[10:]))
    assert read(there()) == DATA
