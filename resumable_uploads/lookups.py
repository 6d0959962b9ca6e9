"""Rows by their keys, by statements that are put together once for each connection.

A chunk's request asks for its upload and its chunk several times, before and after it
holds a lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from django.db import connections, models, router
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from .statements import Statement, kept
from .values import Preparers, converters, prepared, preparers

Row = TypeVar("Row", bound=models.Model)
Other = TypeVar("Other", bound=models.Model)


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
            for convert in converters(column, connection)
        ]
        self._connection = connection
        self._is_plain = (
            model.from_db.__func__ is models.Model.from_db.__func__  # type: ignore[attr-defined]
            and is_plain(model)
        )

    def __len__(self) -> int:
        return len(self.names)

    def row(self, values: Sequence[Any]) -> Row:
        found = self.named(values)
        if not self._is_plain or is_heard(self.model):
            names, alias = self.names, self._connection.alias
            return self.model.from_db(alias, names, [*found.values()])
        row = bare(self.model, found)
        row._state.adding, row._state.db = False, self._connection.alias
        return row

    def row_if_any(self, values: Sequence[Any]) -> Row | None:
        """Return a row of an outer join: one that is not there has not even a key."""
        if values.count(None) == len(values):
            return None
        return self.row(values)

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        found = [*values]
        for index, column, convert in self._steps:
            found[index] = convert(found[index], column, self._connection)
        return dict(zip(self.names, found, strict=True))


class Lookup(Generic[Row]):
    """What to look up by the values of some fields, at most one row of a table.

    ``among`` are other fields with the values that they may have, always the same;
    ``only`` the fields that are wanted: to ask the row for another takes another query.
    """

    def __init__(
        self,
        model: type[Row],
        by: tuple[str, ...],
        among: Mapping[str, Sequence[str]] | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.by = by
        self.among = among or {}
        self.only = only

    def __call__(self, *values: Any) -> Row | None:
        """Return the row whose fields have these values, as it is now; or None."""
        connection = connections[router.db_for_read(self.model)]
        made = kept(connection, self, lambda: self._made(connection))
        statement, columns, prepare = made
        params = prepared(prepare, values)
        params += [value for listed in self.among.values() for value in listed]
        found = statement.first(params)
        return None if found is None else columns.row(found)

    def _made(self, connection: Any) -> tuple[Statement, Columns[Row], Preparers]:
        columns = Columns(self.model, connection, self.only)
        table, quote = quoted_table(self.model, connection), connection.ops.quote_name
        keys = [self.model._meta.get_field(name) for name in self.by]
        asked = [f"{table}.{quote(field.column)} = %s" for field in keys]
        for name, values in self.among.items():
            column = quote(self.model._meta.get_field(name).column)
            places = ", ".join(["%s"] * len(values))
            asked.append(f"{table}.{column} IN ({places})")
        sql = f"SELECT {columns.sql} FROM {table} WHERE {' AND '.join(asked)}"  # nosec B608
        return Statement(connection, sql), columns, preparers(keys, connection)


class PairLookup(Generic[Row, Other]):
    """A row by its primary key, and beside it the one of another table, if any.

    ``on`` says which: field of the other table -> field of the first one, or None for
    a value that is given with each call. ``only`` and ``other_only`` name the fields
    that are wanted; to ask a row for another one takes another query.
    """

    def __init__(
        self,
        model: type[Row],
        other: type[Other],
        on: Mapping[str, str | None],
        only: Sequence[str] | None = None,
        other_only: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.other = other
        self.on = on
        self.only = only
        self.other_only = other_only

    def __call__(self, pk: Any, *values: Any) -> tuple[Row, Other | None] | None:
        """Return both rows as they are at one moment; None where the first is gone."""
        found = self._looked_up(pk, *values)
        if found is None:
            return None
        (columns, row), (others, other) = found
        return columns.row(row), others.row_if_any(other)

    def facts(
        self, pk: Any, *values: Any
    ) -> tuple[dict[str, Any], Other | None] | None:
        """Return the same, with the first row as values by the names of fields."""
        found = self._looked_up(pk, *values)
        if found is None:
            return None
        (columns, row), (others, other) = found
        return columns.named(row), others.row_if_any(other)

    def _looked_up(self, pk: Any, *values: Any) -> Any:
        connection = connections[router.db_for_read(self.model)]
        made = kept(connection, self, lambda: self._made(connection))
        statement, columns, others, prepare = made
        found = statement.first(prepared(prepare, (*values, pk)))
        if found is None:
            return None
        size = len(columns)
        return (columns, found[:size]), (others, found[size:])

    def _made(
        self, connection: Any
    ) -> tuple[Statement, Columns[Row], Columns[Other], Preparers]:
        columns = Columns(self.model, connection, self.only)
        others = Columns(self.other, connection, self.other_only)
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
        prepare = preparers([*keys, pk], connection)
        return Statement(connection, sql), columns, others, prepare


class Listing:
    """Some fields of all rows that have a value in another one, in order.

    Only texts and whole numbers: databases give them as Python has them.
    """

    def __init__(
        self, model: type[models.Model], by: str, fields: Sequence[str], order: str = ""
    ) -> None:
        self.model = model
        self.by = by
        self.fields = fields
        self.order = order.split() or [*fields]

    def __call__(self, value: Any) -> Sequence[Sequence[Any]]:
        connection = connections[router.db_for_read(self.model)]
        statement, prepare = kept(connection, self, lambda: self._made(connection))
        return statement.all(prepared(prepare, [value]))

    def _made(self, connection: Any) -> tuple[Statement, Preparers]:
        def columns(names: Sequence[str]) -> str:
            fields = [self.model._meta.get_field(name) for name in names]
            quote = connection.ops.quote_name
            return ", ".join(quote(field.column) for field in fields)  # type: ignore[union-attr]

        sql = (
            f"SELECT {columns(self.fields)} "  # nosec B608
            f"FROM {quoted_table(self.model, connection)} "
            f"WHERE {columns([self.by])} = %s ORDER BY {columns(self.order)}"
        )
        key = self.model._meta.get_field(self.by)
        return Statement(connection, sql), preparers([key], connection)


def bare(model: type[Row], values: Mapping[str, Any]) -> Row:
    """Return a row as Django makes it, value by value, where nobody listens."""
    row = model.__new__(model)
    row._state = ModelState()
    row.__dict__ |= values
    return row


def changed(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a copy of a row with other values, as ``copy.copy`` would copy it."""
    other = bare(type(row), {**vars(row), **values})
    other._state = ModelState()
    other._state.__dict__ |= vars(row._state)
    other._state.fields_cache = {**row._state.fields_cache}
    return other


def is_plain(model: type[models.Model]) -> bool:
    """Tell whether rows are made as Django makes them."""
    return model.__init__ is models.Model.__init__


def is_heard(model: type[models.Model]) -> bool:
    """Tell whether anybody wants to know of each row that is made."""
    if not (pre_init.receivers or post_init.receivers):
        # Nobody wants to know of any: so it is on most sites.
        return False
    return pre_init.has_listeners(model) or post_init.has_listeners(model)


def quoted_table(model: type[models.Model], connection: Any) -> str:
    return connection.ops.quote_name(model._meta.db_table)
