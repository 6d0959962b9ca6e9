"""Rows by their keys, by statements that are put together once for each connection.

A chunk's request asks for its upload and its chunk several times, before and after it
holds a lock. To build such a query anew costs ten times what the database takes to
answer it.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from django.db import connections, models, router

Row = TypeVar("Row", bound=models.Model)
Converter = Any


class Lookup(Generic[Row]):
    """What to look up by the values of some fields, at most one row of a table."""

    def __init__(self, model: type[Row], by: tuple[str, ...]) -> None:
        self.model = model
        self.by = by

    def __call__(self, *values: Any) -> Row | None:
        """Return the row whose fields have these values, as it is now; or None."""
        connection = connections[router.db_for_read(self.model)]
        sql, converters = self._compiled(connection)
        fields = zip(self._keys, values, strict=True)
        params = [field.get_db_prep_value(value, connection) for field, value in fields]
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            row = cursor.fetchone()
        if row is None:
            return None
        found = [
            _converted(value, steps, connection)
            for value, steps in zip(row, converters, strict=True)
        ]
        names = [field.attname for field in self._fields]
        return self.model.from_db(connection.alias, names, found)

    @property
    def _fields(self) -> Any:
        return self.model._meta.concrete_fields

    @property
    def _keys(self) -> list[Any]:
        return [self.model._meta.get_field(name) for name in self.by]

    def _compiled(self, connection: Any) -> tuple[str, list[Any]]:
        """Return the statement and what turns columns into values of fields.

        They are kept on the connection, because they are bound to it.
        """
        kept = connection.__dict__.setdefault("_resumable_uploads_lookups", {})
        if self not in kept:
            kept[self] = self._statement(connection), self._converters(connection)
        return kept[self]

    def _statement(self, connection: Any) -> str:
        quoted = connection.ops.quote_name
        columns = ", ".join(quoted(field.column) for field in self._fields)
        keys = " AND ".join(f"{quoted(field.column)} = %s" for field in self._keys)
        table = quoted(self.model._meta.db_table)
        # Names of the model's own columns; values are parameters.
        return f"SELECT {columns} FROM {table} WHERE {keys}"  # nosec B608

    def _converters(self, connection: Any) -> list[Any]:
        return [
            (column, _converters_of(column, connection))
            for column in (field.get_col("") for field in self._fields)
        ]


def _converters_of(column: Any, connection: Any) -> list[Converter]:
    own = connection.ops.get_db_converters(column)
    return [*own, *column.get_db_converters(connection)]


def _converted(value: Any, steps: tuple[Any, list[Converter]], connection: Any) -> Any:
    column, converters = steps
    for convert in converters:
        value = convert(value, column, connection)
    return value
