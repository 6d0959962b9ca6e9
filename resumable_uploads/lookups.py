"""Rows by their keys, by statements that are put together once for each connection.

A chunk's request asks for its upload and its chunk several times, before and after it
holds a lock. To build such a query anew costs ten times what the database takes to
answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from django.db import connections, models, router

Row = TypeVar("Row", bound=models.Model)
Other = TypeVar("Other", bound=models.Model)
Kept = TypeVar("Kept")


def kept(connection: Any, key: Hashable, make: Callable[[], Kept]) -> Kept:
    """Return what was made for a connection, which it is bound to; make it once."""
    found = connection.__dict__.setdefault("_resumable_uploads_kept", {})
    if key not in found:
        found[key] = make()
    return found[key]


class Columns(Generic[Row]):
    """Columns of a table, all or some, and how they become values of fields."""

    def __init__(
        self, model: type[Row], connection: Any, names: Sequence[str] | None = None
    ) -> None:
        self.model = model
        # In the order in which a model takes its values.
        fields = [
            field
            for field in model._meta.concrete_fields
            if names is None or field.name in names
        ]
        self.names = [field.attname for field in fields]
        table = quoted_table(model, connection)
        quote = connection.ops.quote_name
        self.sql = ", ".join(f"{table}.{quote(field.column)}" for field in fields)
        self._steps = [
            (index, column, convert)
            for index, column in enumerate(field.get_col("") for field in fields)
            for convert in _converters(column, connection)
        ]
        self._connection = connection

    def __len__(self) -> int:
        return len(self.names)

    def row(self, values: Sequence[Any]) -> Row:
        alias = self._connection.alias
        return self.model.from_db(alias, self.names, self._converted(values))

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.names, self._converted(values), strict=True))

    def _converted(self, values: Sequence[Any]) -> list[Any]:
        found = list(values)
        for index, column, convert in self._steps:
            found[index] = convert(found[index], column, self._connection)
        return found


class Lookup(Generic[Row]):
    """What to look up by the values of some fields, at most one row of a table.

    ``among`` are other fields with the values that they may have, always the same.
    """

    def __init__(
        self,
        model: type[Row],
        by: tuple[str, ...],
        among: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.model = model
        self.by = by
        self.among = among or {}

    def __call__(self, *values: Any) -> Row | None:
        """Return the row whose fields have these values, as it is now; or None."""
        connection = connections[router.db_for_read(self.model)]
        sql, columns, keys = kept(connection, self, lambda: self._made(connection))
        params = [
            field.get_db_prep_value(value, connection)
            for field, value in zip(keys, values, strict=True)
        ]
        params += [value for listed in self.among.values() for value in listed]
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            found = cursor.fetchone()
        return None if found is None else columns.row(found)

    def _made(self, connection: Any) -> tuple[str, Columns[Row], list[Any]]:
        columns = Columns(self.model, connection)
        table, quote = quoted_table(self.model, connection), connection.ops.quote_name
        keys = [self.model._meta.get_field(name) for name in self.by]
        asked = [f"{table}.{quote(field.column)} = %s" for field in keys]
        for name, values in self.among.items():
            column = quote(self.model._meta.get_field(name).column)
            places = ", ".join(["%s"] * len(values))
            asked.append(f"{table}.{column} IN ({places})")
        wanted = " AND ".join(asked)
        return f"SELECT {columns.sql} FROM {table} WHERE {wanted}", columns, keys  # nosec B608


class PairLookup(Generic[Row, Other]):
    """A row by its primary key, and beside it the one of another table, if any.

    ``on`` says which: field of the other table -> field of the first one, or None for
    a value that is given with each call. ``only`` names the fields of the first row
    that are wanted; to ask it for another one takes another query.
    """

    def __init__(
        self,
        model: type[Row],
        other: type[Other],
        on: Mapping[str, str | None],
        only: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.other = other
        self.on = on
        self.only = only

    def __call__(self, pk: Any, *values: Any) -> tuple[Row, Other | None] | None:
        """Return both rows as they are at one moment; None where the first is gone."""
        connection = connections[router.db_for_read(self.model)]
        made = kept(connection, self, lambda: self._made(connection))
        sql, columns, others, keys = made
        params = [
            field.get_db_prep_value(value, connection)
            for field, value in zip(keys, (*values, pk), strict=True)
        ]
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            found = cursor.fetchone()
        if found is None:
            return None
        rest = found[len(columns) :]
        # A row that is not there has not even a key.
        is_there = any(value is not None for value in rest)
        row = columns.row(found[: len(columns)])
        return row, others.row(rest) if is_there else None

    def _made(
        self, connection: Any
    ) -> tuple[str, Columns[Row], Columns[Other], list[Any]]:
        columns = Columns(self.model, connection, self.only)
        others = Columns(self.other, connection)
        table = quoted_table(self.model, connection)
        beside = quoted_table(self.other, connection)
        quote = connection.ops.quote_name
        wanted, keys = [], []
        for name, source in self.on.items():
            field = self.other._meta.get_field(name)
            value = "%s"
            if source is None:
                keys.append(field)
            else:
                column = self.model._meta.get_field(source).column  # type: ignore[union-attr]
                value = f"{table}.{quote(column)}"
            wanted.append(f"{beside}.{quote(field.column)} = {value}")  # type: ignore[union-attr]
        pk = self.model._meta.pk
        sql = (
            f"SELECT {columns.sql}, {others.sql} FROM {table} "  # nosec B608
            f"LEFT JOIN {beside} ON {' AND '.join(wanted)} "
            f"WHERE {table}.{quote(pk.column)} = %s"
        )
        return sql, columns, others, [*keys, pk]


def quoted_table(model: type[models.Model], connection: Any) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _converters(column: Any, connection: Any) -> list[Any]:
    """Return what turns a value of the database into one of a field, in order."""
    own = connection.ops.get_db_converters(column)
    return [*own, *column.get_db_converters(connection)]
