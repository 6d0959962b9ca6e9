"""Values of fields as a database has them, and back, by Django's own fields.

SQLite knows neither moments nor UUIDs nor documents, and for each of them Django goes
through a dozen functions; for PostgreSQL, which knows them all, through nearly as many.
Where a value is just what its field is made for, what they come to is done here at
once; anything else is left to them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import models

Prepare = Callable[[Any], Any]
# With the places of the values that they are for.
Preparers = list[tuple[int, Prepare]]

# What databases take as it is; PostgreSQL wants to be told how long a number is.
_PLAIN = (models.CharField, models.TextField, models.BooleanField)
_PLAIN_OF = {
    "sqlite": (*_PLAIN, models.IntegerField),
    "postgresql": _PLAIN,
}
_SQLITE = "django.db.backends.sqlite3.base"
_POSTGRESQL = "django.db.backends.postgresql.base"


def preparers(
    fields: Sequence[Any], connection: Any, method: str = "get_db_prep_value"
) -> Preparers:
    """Return what turns values of fields into parameters, where that is needed."""
    found = [_preparer(field, connection, method) for field in fields]
    return [(index, prepare) for index, prepare in enumerate(found) if prepare]


def _preparer(field: Any, connection: Any, method: str) -> Prepare | None:
    if _is_plain(field, connection):
        return None
    prepare = partial(getattr(field, method), connection=connection)
    target = field.target_field if type(field) is models.ForeignKey else field
    make = _PREPARERS.get(type(connection).__module__, {}).get(type(target))
    return make(target, connection, prepare) if make else prepare


def _is_plain(field: Any, connection: Any) -> bool:
    is_djangos = type(field).__module__.startswith("django.db.models.")
    return is_djangos and isinstance(field, _PLAIN_OF.get(connection.vendor, ()))


def prepared(steps: Preparers, values: Sequence[Any]) -> list[Any]:
    """Return values as parameters."""
    params = [*values]
    for index, prepare in steps:
        params[index] = prepare(params[index])
    return params


def _uuid_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    def prepared(value: Any) -> Any:
        return value.hex if type(value) is uuid.UUID else prepare(value)

    return prepared


def _moment_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    def prepared(value: Any) -> Any:
        # Only where nothing has to be reckoned. Without USE_TZ, a connection has no
        # time zone.
        if type(value) is datetime and value.tzinfo is connection.timezone is UTC:
            return str(value.replace(tzinfo=None))
        return prepare(value)

    return prepared


def _document_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    encode = (field.encoder or json.JSONEncoder)().encode

    def prepared(value: Any) -> Any:
        return encode(value) if type(value) is dict else prepare(value)

    return prepared


def _number_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    # Of psycopg 3, which says by them what type a number is of.
    kinds = getattr(connection.ops, "integerfield_type_map", {})
    kind = kinds.get(field.get_internal_type())
    if kind is None:
        return prepare

    def prepared(value: Any) -> Any:
        return kind(value) if type(value) is int else prepare(value)

    return prepared


def _known_uuid_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    return lambda value: value if type(value) is uuid.UUID else prepare(value)


def _known_moment_preparer(field: Any, connection: Any, prepare: Prepare) -> Prepare:
    def prepared(value: Any) -> Any:
        if type(value) is datetime and value.tzinfo is UTC:
            return value
        return prepare(value)

    return prepared


# By the modules of Django's own backends: those derived from them may differ.
_PREPARERS: dict[str, dict[type, Callable[[Any, Any, Prepare], Prepare]]] = {
    _SQLITE: {
        models.UUIDField: _uuid_preparer,
        models.DateTimeField: _moment_preparer,
        models.JSONField: _document_preparer,
    },
    _POSTGRESQL: {
        models.UUIDField: _known_uuid_preparer,
        models.DateTimeField: _known_moment_preparer,
        models.IntegerField: _number_preparer,
        models.BigIntegerField: _number_preparer,
        models.PositiveIntegerField: _number_preparer,
        models.PositiveBigIntegerField: _number_preparer,
        models.PositiveSmallIntegerField: _number_preparer,
    },
}


def converters(column: Any, connection: Any) -> list[Any]:
    """Return what turns a value of the database into one of a field, in order."""
    own = connection.ops.get_db_converters(column)
    if type(connection).__module__ == _SQLITE:
        quick = {
            connection.ops.convert_datetimefield_value: _moment,
            connection.ops.convert_uuidfield_value: _uuid,
        }
        own = [quick.get(convert, convert) for convert in own]
    return [*own, *column.get_db_converters(connection)]


def _moment(value: Any, column: Any, connection: Any) -> Any:
    if value is None:
        return None
    if type(value) is datetime and value.tzinfo is None:
        return value.replace(tzinfo=connection.timezone)
    return connection.ops.convert_datetimefield_value(value, column, connection)


def _uuid(value: Any, column: Any, connection: Any) -> Any:
    if type(value) is str and len(value) == 32:
        return uuid.UUID(int=int(value, 16))
    return connection.ops.convert_uuidfield_value(value, column, connection)
