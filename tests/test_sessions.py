"""Sessions by a statement put together once behave as Django's own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads import sessions

pytestmark = [pytest.mark.django_db, pytest.mark.once]


@pytest.fixture
def key():
    store = sessions.SessionStore()
    store["name"] = "alice"
    store.save()
    return store.session_key


@pytest.mark.parametrize("engine", [sessions, db])
def test_a_session_is_found_by_either_engine(key, engine):
    with CaptureQueriesContext(connection) as asked:
        assert engine.SessionStore(key)["name"] == "alice"
    assert len(asked) == 1


@pytest.mark.parametrize("engine", [sessions, db])
def test_a_session_whose_time_is_up_is_none(key, engine):
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    store = engine.SessionStore(key)
    assert "name" not in store
    assert store.session_key is None


@pytest.mark.parametrize("engine", [sessions, db])
def test_a_session_that_was_ended_is_none(key, engine):
    engine.SessionStore(key).flush()
    store = engine.SessionStore(key)
    assert "name" not in store
    assert store.session_key is None


@pytest.mark.parametrize("engine", [sessions, db])
def test_what_somebody_has_meddled_with_is_empty(key, engine):
    Session.objects.update(session_data="nonsense")
    assert engine.SessionStore(key).load() == {}


def test_what_was_signed_before_is_not_taken_for_signed_by_another_key(key, settings):
    assert sessions.SessionStore(key)["name"] == "alice"
    settings.SECRET_KEY = "another one, of which nothing is remembered"
    assert sessions.SessionStore(key).load() == {}
    settings.SECRET_KEY_FALLBACKS = ["not this one either"]
    assert sessions.SessionStore(key).load() == {}


def test_nobody_changes_what_is_remembered_of_a_session(key):
    for name in ("alice", "mallory"):
        store = sessions.SessionStore(key)
        assert store["name"] == "alice"
        store["name"] = name
    store.save()
    assert sessions.SessionStore(key)["name"] == "mallory"


def test_a_session_by_another_serializer_is_for_django_to_judge(key):
    class Broken:
        def loads(self, data):
            raise ValueError

    store = sessions.SessionStore(key)
    store.serializer = Broken
    assert store.load() == {}
