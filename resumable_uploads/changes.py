"""Rows changed and added, by statements that are put together once for each connection.

They say what ``QuerySet.update`` and ``Model.save`` would say, for a tenth of the work
that it takes to put these together for each chunk. No signals are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.db import connections, models, router

from .lookups import Columns, bare, is_heard, is_plain, quoted_table
from .statements import Statement, brief, is_unseen, kept
from .values import prepared, preparers

Row = TypeVar("Row", bound=models.Model)

# Where UPDATE can tell what the row is like afterwards. (MariaDB's INSERT can as well,
# but not its UPDATE.)
_TELLING = {"postgresql", "sqlite"}
_OPERATORS = {"": "= %s", "not": "<> %s", "at_most": "<= %s", "null": "IS NULL"}


@dataclass(frozen=True)
class Value:
    """What a field is to be."""

    value: Any
    sql: ClassVar[str] = "%s"
    times: ClassVar[int] = 1


class Plus(Value):
    """What is to be added to a number, whatever that is by then."""

    sql = "{column} + %s"


class AtLeast(Value):
    """What a number, or NULL, is to be raised to if it is less."""

    sql = "CASE WHEN {column} >= %s THEN {column} ELSE %s END"
    times = 2


_KINDS = {Value, Plus, AtLeast}


def change(
    model: type[models.Model],
    pk: Any,
    to: Mapping[str, Any],
    told: tuple[str, ...] = (),
    **where: Any,
) -> dict[str, Any] | None:
    """Change one row, if it is as it is said to be, in one conditional UPDATE.

    ``where`` is what fields have to be: ``state=...``, ``addressed_by__not=...``,
    ``received__at_most=...``, ``length=None``. Return the fields named in ``told`` as
    they are afterwards, or None where nothing was changed. Call it within a transaction
    if ``told`` is asked for: not every database can tell in the same statement.
    """
    connection = connections[router.db_for_write(model)]
    updating, params = _updating(connection, model, pk, to, told, where)
    return updating(params)


def change_and_add(
    row: models.Model,
    model: type[models.Model],
    pk: Any,
    to: Mapping[str, Any],
    told: tuple[str, ...],
    **where: Any,
) -> dict[str, Any] | None:
    """Change one row as ``change`` does, and if it was, add another: both or neither.

    A transaction of its own, which no other one may be around; with PostgreSQL one
    statement, which is asked and answered at once. Raise IntegrityError as ``insert``.
    """
    connection = connections[router.db_for_write(model)]
    updating, params = _updating(connection, model, pk, to, told, where)
    inserting = _inserting(connection, type(row))
    if connection.vendor == "postgresql" and is_unseen(connection, alone=True):
        key = updating, inserting
        both = kept(connection, key, lambda: _UpdateAndInsert(connection, *key))
        return both(params, row)
    with brief(connection):
        found = updating(params)
        if found is not None:
            inserting(row)
    return found


def _updating(
    connection: Any,
    model: type[models.Model],
    pk: Any,
    to: Mapping[str, Any],
    told: tuple[str, ...],
    where: Mapping[str, Any],
) -> tuple[_Update, list[Any]]:
    """Return the UPDATE of this kind, and its parameters."""
    asked = [f"{name}__null" if where[name] is None else name for name in where]
    keys = [pk, *[value for value in where.values() if value is not None]]
    values = [one.value if type(one) in _KINDS else one for one in to.values()]
    kinds = [type(one) if type(one) in _KINDS else Value for one in to.values()]
    shape = tuple(to), tuple(kinds), tuple(asked), told
    updating = kept(
        connection, (model, shape), lambda: _Update(model, connection, *shape)
    )
    return updating, updating.params(values, keys)


class _Update:
    def __init__(
        self,
        model: type[models.Model],
        connection: Any,
        names: Sequence[str],
        kinds: Sequence[type[Value]],
        where: Sequence[str],
        told: Sequence[str],
    ) -> None:
        fields = [model._meta.get_field(name) for name in names]
        asked = [(model._meta.pk.attname, "", "")]
        asked += [name.partition("__") for name in where]
        keys = [model._meta.get_field(name) for name, _, how in asked if how != "null"]
        self._times = [kind.times for kind in kinds]
        self._prepare = preparers(fields, connection, "get_db_prep_save")
        self._prepare_keys = preparers(keys, connection)
        self.told = Columns(model, connection, told)
        self._tells = bool(told) and _can_tell(connection)
        table, quote = quoted_table(model, connection), connection.ops.quote_name
        sets = ", ".join(
            f"{quote(field.column)} = {kind.sql.format(column=quote(field.column))}"
            for field, kind in zip(fields, kinds, strict=True)
        )
        wanted = [
            f"{quote(model._meta.get_field(name).column)} {_OPERATORS[how]}"
            for name, _, how in asked
        ]
        self.sql = f"UPDATE {table} SET {sets} WHERE {' AND '.join(wanted)}"  # nosec B608
        self.pk = f"{table}.{quote(model._meta.pk.column)}"
        telling = f" RETURNING {self.told.sql}" if self._tells else ""
        self._statement = Statement(connection, self.sql + telling)
        asking = f"SELECT {self.told.sql} FROM {table} WHERE {wanted[0]}"  # nosec B608
        self._asking = Statement(connection, asking)
        self._keys = len(keys)

    def params(self, values: Sequence[Any], keys: Sequence[Any]) -> list[Any]:
        params = []
        new = prepared(self._prepare, values)
        for value, times in zip(new, self._times, strict=True):
            params += [value] * times
        return params + prepared(self._prepare_keys, keys)

    def __call__(self, params: Sequence[Any]) -> dict[str, Any] | None:
        if self._tells:
            found = self._statement.first(params)
            return None if found is None else self.told.named(found)
        if not self._statement.run(params):
            return None
        if not len(self.told):
            return {}
        pk = params[len(params) - self._keys]
        return self.told.named(self._asking.first([pk]) or ())


def new(model: type[Row], **values: Any) -> Row:
    """Return a new row; all of its fields are given, by the names of their columns.

    What ``model(**values)`` returns, for a fraction of the work where nobody listens.
    """
    if is_heard(model) or not is_plain(model):
        return model(**values)
    return bare(model, values)


def insert(row: models.Model) -> None:
    """Add a new row. Raise IntegrityError where there is one with its unique values."""
    model = type(row)
    connection = connections[router.db_for_write(model)]
    _inserting(connection, model)(row)


def _inserting(connection: Any, model: type[models.Model]) -> _Insert:
    return kept(connection, (model, insert), lambda: _Insert(model, connection))


class _Insert:
    def __init__(self, model: type[models.Model], connection: Any) -> None:
        self._connection = connection
        self._pk = model._meta.pk
        self._table = model._meta.db_table
        self._fields = [
            field for field in model._meta.concrete_fields if not field.primary_key
        ]
        self._names = [field.attname for field in self._fields]
        made = enumerate(self._fields)
        self._made_then = [(index, field) for index, field in made if _is_made(field)]
        self._prepare = preparers(self._fields, connection, "get_db_prep_save")
        table, quote = quoted_table(model, connection), connection.ops.quote_name
        columns = ", ".join(quote(field.column) for field in self._fields)
        self.places = ", ".join(["%s"] * len(self._fields))
        self.into = f"INSERT INTO {table} ({columns})"
        self.telling = f"RETURNING {quote(self._pk.column)}"
        self._tells = _can_tell(connection)
        sql = f"{self.into} VALUES ({self.places})"
        self._statement = Statement(
            connection, f"{sql} {self.telling}" if self._tells else sql
        )

    def __call__(self, row: models.Model) -> None:
        self.note(row, self._new_key(self.params(row)))

    def params(self, row: models.Model) -> list[Any]:
        found = vars(row)
        values = [found[name] for name in self._names]
        for index, field in self._made_then:
            values[index] = field.pre_save(row, add=True)
        return prepared(self._prepare, values)

    def note(self, row: models.Model, key: Any) -> None:
        """Note in a row that it has been added, under this key."""
        setattr(row, self._pk.attname, key)
        row._state.adding = False
        row._state.db = self._connection.alias

    def _new_key(self, params: Sequence[Any]) -> Any:
        if self._tells:
            return (self._statement.first(params) or [None])[0]
        with self._connection.cursor() as cursor:
            cursor.execute(self._statement.sql, params)
            last_id = self._connection.ops.last_insert_id
            return last_id(cursor, self._table, self._pk.column)


class _UpdateAndInsert:
    """Both as one statement of PostgreSQL; nothing is added if nothing was changed."""

    def __init__(self, connection: Any, updating: _Update, inserting: _Insert) -> None:
        self._updating, self._inserting = updating, inserting
        told = updating.told.sql if len(updating.told) else updating.pk
        sql = (
            f"WITH changed AS ({updating.sql} RETURNING {told}), "  # nosec B608
            f"added AS ({inserting.into} SELECT {inserting.places} FROM changed "
            f"{inserting.telling}) SELECT changed.*, added.* FROM changed, added"
        )
        self._statement = Statement(connection, sql)

    def __call__(
        self, params: Sequence[Any], row: models.Model
    ) -> dict[str, Any] | None:
        told = self._updating.told
        found = self._statement.first([*params, *self._inserting.params(row)])
        if found is None:
            return None
        self._inserting.note(row, found[-1])
        return told.named(found[: len(told)])


def _is_made(field: Any) -> bool:
    """Tell whether a field makes its value, or changes it, when a row is saved."""
    if type(field) is models.DateTimeField:
        return field.auto_now or field.auto_now_add
    return type(field).pre_save is not models.Field.pre_save


def _can_tell(connection: Any) -> bool:
    can_return = connection.features.can_return_columns_from_insert
    return connection.vendor in _TELLING and can_return
