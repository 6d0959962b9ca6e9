"""Values of fields as a database has them, and back, by Django's own fields.

SQLite knows neither moments nor UUIDs nor documents, and for each of them Django goes
through a dozen functions. Where a value is just what its field is made for, what they
come to is done here at once; anything else is left to them.
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

# What SQLite takes as it is.
_PLAIN = (models.CharField, models.TextField, models.IntegerField, models.BooleanField)
_SQLITE = "django.db.backends.sqlite3.base"


def preparers(
    fields: Sequence[Any], connection: Any, method: str = "get_db_prep_value"
) -> Preparers:
    """Return what turns values of fields into parameters, where that is needed."""
    found = [_preparer(field, connection, method) for field in fields]
    return [(index, prepare) for index, prepare in enumerate(found) if prepare]


def _preparer(field: Any, connection: Any, method: str) -> Prepare | None:
    if connection.vendor == "sqlite" and _is_plain(field):
        return None
    prepare = partial(getattr(field, method), connection=connection)
    target = field.target_field if type(field) is models.ForeignKey else field
    make = _PREPARERS.get(type(target)) if _is_sqlite(connection) else None
    return make(target, connection, prepare) if make else prepare


def _is_plain(field: Any) -> bool:
    is_djangos = type(field).__module__.startswith("django.db.models.")
    return is_djangos and isinstance(field, _PLAIN)


def _is_sqlite(connection: Any) -> bool:
    """Tell whether it is Django's own backend, and not one derived from it."""
    return type(connection).__module__ == _SQLITE


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


_PREPARERS: dict[type, Callable[[Any, Any, Prepare], Prepare]] = {
    models.UUIDField: _uuid_preparer,
    models.DateTimeField: _moment_preparer,
    models.JSONField: _document_preparer,
}


def converters(column: Any, connection: Any) -> list[Any]:
    """Return what turns a value of the database into one of a field, in order."""
    own = connection.ops.get_db_converters(column)
    if _is_sqlite(connection):
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
