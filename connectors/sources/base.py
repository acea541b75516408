"""A table of a source database, read in the order of its key, as texts that the contract's types are read from.

Every value is text: as `schemas/types.py` has it, or, of dates and times, with a blank instead of the `T`. Each read is
a statement of its own in a read-only session, so that no snapshot is held and no log is kept for us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from schemas.errors import ConfigurationError, SourceUnavailable
from schemas.types import ColumnType

KEYS_AT_ONCE_MAX = 500  # of one statement that looks rows up by key


class Session(Protocol):
    """A read-only session of a database."""

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """Run one statement and return its rows.

        Raises:
            SourceUnavailable: the server does not answer.
            ConfigurationError: it refuses the statement.
        """
        ...

    def moment(self) -> str:
        """Return where the database's log is; empty where this user may not know."""
        ...

    def leaves_open(self) -> str:
        """Return what of its settings leaves the order of its changes open; empty where nothing does that is known."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a database writes what we ask: a name, and the text of a column that is given quoted (None: it has none)."""

    quote: Callable[[str], str]
    text_of: Callable[[str, ColumnType], str | None]


@dataclass(frozen=True, slots=True)
class Driver:
    """What a database's driver raises: where the server is `away`, and where it `refuses`; `said` is its own sentence.

    A sentence has no value of a row.
    """

    away: tuple[type[Exception], ...]
    refuses: type[Exception]
    said: Callable[[Exception], str]

    @contextmanager
    def translated(self, *, hint: str = "run it again") -> Iterator[None]:
        """Raise an error of ours for one of the driver's; `hint` is what to do about a server that is away.

        Raises:
            SourceUnavailable: the server does not answer, or ended the session.
            ConfigurationError: it refuses.
        """
        try:
            yield
        except self.away as exc:
            raise SourceUnavailable(f"the source database: {self.said(exc)}", hint=hint) from exc
        except self.refuses as exc:  # without what it was raised from: that may show values
            raise ConfigurationError(
                f"the source database refuses: {self.said(exc)}", hint="may this user read it?"
            ) from None


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Values of the first key column, both included; None: no end."""

    first: str | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table of a source; `name` is quoted, `columns` are those that are read, the `key` among them."""

    session: Session
    dialect: Dialect
    name: str
    key: Sequence[str]
    columns: Mapping[str, ColumnType]
    bounds: KeyRange

    def count(self) -> int:
        """Return how many rows the range has now."""
        where, parameters = self._bounds()
        return int(self.session.run(f"SELECT count(*) FROM {self.name} AS t WHERE {where}", parameters)[0][0])  # noqa: S608  quoted

    def rows_after(self, after: Sequence[str] | None, limit: int) -> pa.Table:
        """Return up to `limit` rows of the range behind the key `after`, in the database's own order of the key."""
        where, parameters = self._bounds()
        if after is not None:
            behind, more = self._behind(after)
            where, parameters = f"{where} AND {behind}", [*parameters, *more]
        order = ", ".join(map(self._column, self.key))
        return self._read(f"WHERE {where} ORDER BY {order} LIMIT {int(limit)}", parameters)

    def rows_of(self, keys: Sequence[Sequence[str]]) -> pa.Table:
        """Return the rows that have one of `keys`, texts as `rows_after` returned them, in any order."""
        parts = [self._rows_of(keys[at : at + KEYS_AT_ONCE_MAX]) for at in range(0, len(keys), KEYS_AT_ONCE_MAX)]
        return pa.concat_tables(parts) if parts else self._table([])

    def _rows_of(self, keys: Sequence[Sequence[str]]) -> pa.Table:
        one = " AND ".join(f"{self._column(name)} = %s" for name in self.key)
        where = " OR ".join([f"({one})"] * len(keys))
        return self._read(f"WHERE {where}", [part for key in keys for part in key])

    def _bounds(self) -> tuple[str, list[str]]:
        first = self._column(self.key[0])
        given = [(f"{first} >= %s", self.bounds.first), (f"{first} <= %s", self.bounds.last)]
        chosen = [(clause, value) for clause, value in given if value is not None]
        return " AND ".join(clause for clause, _ in chosen) or "1 = 1", [value for _, value in chosen]

    def _behind(self, after: Sequence[str]) -> tuple[str, list[str]]:
        """Return what says that a key comes after another: spelled out, since MySQL uses no index for `(a, b) > …`."""
        names = list(map(self._column, self.key))
        ways = [
            " AND ".join([*(f"{name} = %s" for name in names[:at]), f"{names[at]} > %s"]) for at in range(len(names))
        ]
        clause = f"{names[0]} >= %s AND ({' OR '.join(f'({way})' for way in ways)})"
        return clause, [after[0], *(part for at in range(len(names)) for part in after[: at + 1])]

    def _read(self, rest: str, parameters: Sequence[str]) -> pa.Table:
        texts = [self.dialect.text_of(self._column(name), type_) for name, type_ in self.columns.items()]
        query = f"SELECT {', '.join(map(str, texts))} FROM {self.name} AS t {rest}"  # noqa: S608  quoted
        return self._table(self.session.run(query, parameters))

    def _column(self, name: str) -> str:
        """Return a column with the table before it: alone, it could mean the text of it that a statement selects."""
        return f"t.{self.dialect.quote(name)}"

    def _table(self, rows: Sequence[Sequence[Any]]) -> pa.Table:
        values: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in self.columns]
        arrays = [pa.array(column, pa.string()) for column in values]
        return pa.Table.from_arrays(arrays, names=list(self.columns))


def open_table(
    session: Session, dialect: Dialect, name: tuple[str, str], key: Sequence[str],
    columns: Mapping[str, ColumnType], bounds: KeyRange,
) -> SourceTable:  # fmt: skip
    """Return the table called `name` (schema or database, table) with those of `columns` that it has as text.

    Raises:
        SourceUnavailable: the server does not answer.
        ConfigurationError: there is no such table, or none with this key.
    """
    there = {row[0] for row in session.run(_COLUMNS, name)}
    if not there:
        raise ConfigurationError(
            f"the source database has no table {'.'.join(name)} that this user may see",
            hint="name it with --source-table SCHEMA.TABLE",
        )
    read = {
        c: type_ for c, type_ in columns.items() if c in there and dialect.text_of(dialect.quote(c), type_) is not None
    }
    if missing := [column for column in key if column not in read]:
        raise ConfigurationError(
            f"{'.'.join(name)} has no key column {', '.join(missing)} that can be read", hint="is it the right table?"
        )
    return SourceTable(session, dialect, ".".join(map(dialect.quote, name)), key, read, bounds)


_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
