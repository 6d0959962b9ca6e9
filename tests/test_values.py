"""What is done at once for a value comes to what Django makes of it."""

from __future__ import annotations

import copy
import uuid
import warnings
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from django.db import connections
from django.utils.timezone import now

from resumable_uploads.changes import new
from resumable_uploads.lookups import changed
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.values import converters, prepared, preparers

from . import making

# Itself, and not what stands for it: the kind is what counts here.
connection = connections["default"]

# On each database, whether it is asked or not.
pytestmark = pytest.mark.django_db

MOMENTS = [
    datetime(2026, 11, 30, 12, 34, 56, 789012, UTC),
    datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC),
    datetime(2026, 11, 30, 12, 34, 56, 1, ZoneInfo("Asia/Kolkata")),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 1, 1, tzinfo=timezone(-timedelta(hours=3))),
    datetime(1, 1, 1, tzinfo=UTC),
]
NAIVE = datetime(2026, 11, 30, 12, 34, 56, 789012)
ONE = uuid.UUID("0123456789abcdef0123456789abcdef")
VALUES = [
    *((UploadSession, "created_at", moment) for moment in MOMENTS),
    (UploadSession, "created_at", NAIVE),
    (UploadSession, "created_at", "2026-11-30T12:00:00+02:00"),
    (UploadSession, "retry_at", None),
    (UploadSession, "id", ONE),
    (UploadSession, "id", str(ONE)),
    (Chunk, "upload", ONE),
    (Chunk, "source", None),
    (Chunk, "digests", {}),
    (Chunk, "digests", {"md5": "ä", "no": None, "nested": {"a": [1, 2.5, True]}}),
    (Chunk, "digests", ["no", "dict"]),
    (Chunk, "number", 7),
    (Chunk, "size", 2**40),
    (Chunk, "size", "12"),
    (Chunk, "offset", None),
    (UploadSession, "chunk_total", None),
    (UploadSession, "ends_when_full", True),
    (UploadSession, "filename", "a"),
]


def is_same(ours, theirs):
    """Tell whether a driver would make the same of both."""
    return (type(ours), repr(ours)) == (type(theirs), repr(theirs))


def differing(model, name, value):
    """Return what is made of a value here, and by Django, by each method."""
    field = model._meta.get_field(name)
    for method in ("get_db_prep_value", "get_db_prep_save"):
        [ours] = prepared(preparers([field], connection, method), [value])
        theirs = getattr(field, method)(value, connection=connection)
        # SQLite takes texts and numbers as they are.
        as_is = connection.vendor == "sqlite" and ours == value
        if not is_same(ours, theirs) and not as_is:
            yield method, ours, theirs


@pytest.mark.parametrize(("model", "name", "value"), VALUES)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_value_is_prepared_as_django_prepares_it(settings, model, name, value, zone):
    settings.TIME_ZONE = zone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert list(differing(model, name, value)) == []


@pytest.mark.only_on("sqlite")
def test_moments_are_kept_as_django_keeps_them():
    """As texts that compare as the moments do: without a zone, in that of UTC."""
    field = UploadSession._meta.get_field("created_at")
    prepare = preparers([field], connection)
    kept = [prepared(prepare, [moment])[0] for moment in MOMENTS]
    assert kept == [
        field.get_db_prep_value(moment, connection=connection) for moment in MOMENTS
    ]
    assert kept[0] == "2026-11-30 12:34:56.789012"
    assert kept[1] == "2026-11-30 12:34:56"


@pytest.mark.only_on("sqlite")
def test_without_time_zones_moments_have_none(settings):
    settings.USE_TZ = False
    assert list(differing(UploadSession, "created_at", NAIVE)) == []
    prepare = preparers([UploadSession._meta.get_field("created_at")], connection)
    with pytest.raises(ValueError, match="timezone-aware"):
        prepared(prepare, [MOMENTS[0]])
    assert found_of("created_at", NAIVE) == NAIVE


@pytest.mark.only_on("sqlite")
def test_the_zone_of_the_database_is_reckoned_with(settings, monkeypatch):
    zone = ZoneInfo("America/New_York")
    monkeypatch.setitem(connection.__dict__, "timezone", zone)
    for moment in MOMENTS[:-1]:
        assert list(differing(UploadSession, "created_at", moment)) == []
    assert found_of("created_at", NAIVE) == NAIVE.replace(tzinfo=zone)


def found_of(name, value):
    """Return what is made of a value that a database gives."""
    column = UploadSession._meta.get_field(name).get_col("")
    for convert in converters(column, connection):
        value = convert(value, column, connection)
    return value


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_at", NAIVE),
        ("created_at", MOMENTS[2]),
        ("created_at", "2026-11-30 12:34:56.789012"),
        ("created_at", None),
        ("id", ONE.hex),
        ("id", str(ONE)),
        ("id", None),
        ("metadata", '{"a": 1}'),
        ("ends_when_full", 1),
    ],
)
def test_a_value_is_found_as_django_finds_it(name, value):
    column = UploadSession._meta.get_field(name).get_col("")
    theirs = value
    for convert in (
        *connection.ops.get_db_converters(column),
        *column.get_db_converters(connection),
    ):
        theirs = convert(theirs, column, connection)
    found = found_of(name, value)
    assert found == theirs
    assert repr(found) == repr(theirs)


# Rows


def chunk(**values):
    about = {"id": None, "upload_id": ONE, "number": 1, "offset": 0, "size": 2}
    about |= {"checksum": "0" * 16, "digests": {}, "key": "a", "start": 0}
    return about | {"source_id": None, "created_at": now()} | values


def state_of(row):
    return row._state.adding, row._state.db, row._state.fields_cache


@pytest.mark.once
def test_a_new_row_is_one_that_its_constructor_makes():
    values = chunk(digests={"md5": "aa"})
    ours, theirs = new(Chunk, **values), Chunk(**values)
    assert {name: vars(ours)[name] for name in values} == values
    assert vars(ours).keys() == vars(theirs).keys()
    assert state_of(ours) == state_of(theirs)


@pytest.mark.once
@pytest.mark.django_db
def test_a_row_with_other_values_leaves_the_first_as_it_is():
    upload = making.open_upload(length=5)
    before = {**vars(upload)}
    other = changed(upload, {"received": 3, "lease": "mine"})
    theirs = copy.copy(upload)
    theirs.received, theirs.lease = 3, "mine"
    # A pickle, which the other way makes, also says by whom.
    assert vars(other).keys() == vars(theirs).keys() - {"_django_version"}
    assert state_of(other) == state_of(theirs)
    other._state.fields_cache["policy"] = None
    other._state.db = "another"
    assert vars(upload) == before
    assert (upload._state.db, other.received, other.lease) == ("default", 3, "mine")
    assert "policy" not in upload._state.fields_cache
