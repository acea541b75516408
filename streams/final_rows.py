"""The rows that changes come to, in any order and however often they come: the rule of docs/redis.md, in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.change import ChangeValue, Operation
from schemas.position import just_below
from schemas.table import TableSpec

_decode = msgspec.json.Decoder(ChangeValue).decode
_ABSENT = object()

Values = dict[str, Any]


@dataclass(slots=True)
class _Move:
    """A life that ended by a change of the key: between which positions it was, and of what it knew which value."""

    since: str
    until: str
    to: Any
    known: dict[str, str]  # by column the position of the value that was handed over

    def holds(self, position: str) -> bool:
        """Say whether what stands at a position was said to this life."""
        return self.since <= position < self.until

    def take(self, values: Mapping[str, Any], position: str) -> Values:
        """Return what is news to the new key of what is said at a position, and note it."""
        news = {name: value for name, value in values.items() if self.known.get(name, "") < position}
        self.known.update(dict.fromkeys(news, position))
        return news


@dataclass(slots=True)
class _Row:
    """What is known of a key: its highest delete, its highest other change, and of each column value and position.

    `waiting` are values from another key, by their position, until the row is there that they are for.
    """

    key: Any
    deleted: str = ""
    newest: str = ""
    columns: dict[str, tuple[str, Any]] = field(default_factory=dict)
    origins: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # by column: between equal positions they decide
    waiting: dict[str, Values] = field(default_factory=dict)
    moves: list[_Move] = field(default_factory=list)

    def known(self) -> dict[str, tuple[str, Any]]:
        """Return what was said of it since its last delete."""
        return {name: said for name, said in self.columns.items() if said[0] >= self.deleted}

    def known_below(self, position: str) -> dict[str, tuple[str, Any]]:
        """Return the same below a position, with what has waited in vain."""
        found = {name: said for name, said in self.known().items() if said[0] < position}
        for at in sorted(self.waiting, reverse=True):
            if self.deleted <= at < position:
                found = {name: (at, value) for name, value in self.waiting[at].items()} | found
        return found

    def fill(self, values: Values, position: str) -> None:
        """Take values from another key where none was said to this one."""
        known = self.known()
        for name, value in values.items():
            if known.get(name, ("",))[0] in {"", position}:
                self.columns[name] = (position, value)

    def settle(self) -> None:
        """Take what has waited for the row, if it is there, and drop what it is too late for."""
        for position in sorted(self.waiting, reverse=True):
            if position < self.deleted:
                del self.waiting[position]
            elif position < self.newest:
                self.fill(self.waiting.pop(position), position)


class FinalRows:
    """The rows of one table that has a key.

    Columns that the insert of a new key did not carry are those of the old key's row. That is exact where the changes
    of each key come in order; how those of two keys come, and what comes again, does not matter.
    """

    def __init__(self, spec: TableSpec) -> None:
        """Have none."""
        assert spec.key, "rows of a table without a key cannot be told apart"
        self._spec = spec
        self._rows: dict[bytes, _Row] = {}
        self._floor = ""

    def follow(self, spec: TableSpec) -> None:
        """Go on with another spec of the table; the rows so far do not have the columns that it adds."""
        if spec is self._spec:
            return
        added = spec.columns.keys() - self._spec.columns.keys()
        self._spec = spec
        for row in self._rows.values():
            for name in added:
                row.columns.setdefault(name, (row.newest, _ABSENT))

    def apply(self, value: bytes) -> None:
        """Take a change as the contract writes it."""
        change = _decode(value)
        if change.op == Operation.FLOOR:
            self.raise_floor(change.position)
        elif change.position >= self._floor:
            self._take(change)

    def raise_floor(self, position: str) -> None:
        """Take a floor: to every row it is what a delete at its position is, also to those that come later."""
        self._floor = max(self._floor, position)
        for row in self._rows.values():
            row.deleted = max(row.deleted, self._floor)
            row.settle()

    def _take(self, change: ChangeValue) -> None:
        row = self._row(change.key)
        if change.op == Operation.DELETE:
            if change.new_key is not None and row.deleted < change.position:
                self._hand_over(row, change.position, change.new_key)
            row.deleted = max(row.deleted, change.position)
        else:
            self._upsert(row, change)
        row.settle()

    def _row(self, key: Any) -> _Row:
        return self._rows.setdefault(msgspec.json.encode(key), _Row(key, self._floor))

    def _upsert(self, row: _Row, change: ChangeValue) -> None:
        row.newest = max(row.newest, change.position)
        said = {name: change.after.get(name, _ABSENT) for name in self._spec.columns.keys() - set(change.unavailable)}
        origin = tuple(change.source.origin[3:])
        for name, value in said.items():
            known = row.columns.get(name, ("", None))[0]
            if known < change.position or (known == change.position and row.origins.get(name, ()) < origin):
                row.columns[name], row.origins[name] = (change.position, value), origin
        if change.position < row.deleted:
            self._give(row.key, change.position, self._handed(said), late=True)

    def _handed(self, values: Mapping[str, Any]) -> Values:
        """Return what a new key takes from an old one: each row names its own key."""
        return {name: value for name, value in values.items() if name not in self._spec.key}

    def _hand_over(self, row: _Row, position: str, to: Any) -> None:
        """Give the new key what the row knows, and note what it may still hear."""
        known = self._handed(row.known_below(position))
        positions = {name: at for name, (at, _) in known.items()}
        if len(known) < len(self._spec.columns) - len(self._spec.key):
            row.moves.append(_Move(row.deleted, position, to, positions))
        self._give(to, just_below(position), {name: value for name, (_, value) in known.items()})

    def _give(self, key: Any, position: str, values: Values, *, late: bool = False) -> None:
        """Bring values at a position to a key, and on to where its row has gone since; `late`: only on."""
        gifts = deque([(self._row(key), position, values)])
        while gifts:
            row, position, values = gifts.popleft()
            move = next((move for move in row.moves if move.holds(position)), None)
            if move is not None:
                news = move.take(values, position)
                if news:
                    gifts.append((self._row(move.to), just_below(move.until), news))
            elif not late and values:
                row.waiting.setdefault(position, {}).update(values)
                row.settle()

    def documents(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that live, by key; `unavailable` names what no change since the last delete has said."""
        for _, row in sorted(self._rows.items()):
            if not row.newest or row.newest < row.deleted:
                continue
            said = {name: value for name, (_, value) in row.known().items()}
            missing = [name for name in self._spec.columns if name not in said]
            values = {name: said[name] for name in self._spec.columns if said.get(name, _ABSENT) is not _ABSENT}
            yield {
                "table": self._spec.table,
                "key": row.key,
                "row": values,
                **({"unavailable": missing} if missing else {}),
            }
