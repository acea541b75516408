"""Rows of one bucket put together for one call: many changes of a key become the few that matter. Pure.

A change that is older than one that speaks of every column can leave no trace, so it is not sent. What is sent leaves
the same hash as applying all of them one by one, in any order (tests/property/test_ledger.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar
from zlib import crc32

from schemas.change import Operation
from schemas.errors import PoisonRecord
from sinks.redis.floor import FloorSection, ViewFloor
from sinks.redis.generation import kept_positions
from sinks.redis.handover import HandOver, moves_in
from sinks.redis.layout import FLOORS, Layout
from sinks.redis.ledger import Arguments
from sinks.redis.rows import DELETE, DELETED, UPSERTS, Row, TableRows, ViewPlan
from sinks.redis.updates import causes

_OF_ROWS = frozenset({*UPSERTS, DELETE})
_new_key_of = operator.attrgetter("new_key")


class Section:
    """The rows of one view and bucket: the last one of each key, and those that had to stay before it.

    Of a view that does not fold all rows are kept, as they came.
    """

    __slots__ = ("earlier", "latest", "plan")

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        self.latest: dict[str, Row] = {}
        self.earlier: list[Row] = []

    def add(self, row: Row) -> None:
        """Take a row of any key."""
        before = self.latest.get(row[0])
        if not self.plan.folds:
            self.earlier.append(row)
        elif before is None or hides(row, before):
            self.latest[row[0]] = row
        elif not hides(before, row):
            self.earlier.append(before)
            self.latest[row[0]] = row

    @property
    def emits(self) -> bool:
        """Say whether what they change becomes feature updates."""
        return self.plan.emits

    def rows(self) -> list[Row]:
        """Return what is to be sent."""
        return [*self.earlier, *self.latest.values()]

    def arguments(self) -> list[Any]:
        """Return the section as `ledger.lua` reads it."""
        flat = list(chain.from_iterable(self.earlier)) if self.earlier else []
        flat.extend(chain.from_iterable(self.latest.values()))
        return [*self.plan.header, len(flat), *flat]


def hides(row: Row, other: Row) -> bool:
    """Say whether `row` leaves nothing of `other`, a row of the same key, to be seen.

    A delete hides what is older. A row that speaks of every column hides older rows, but not deletes: the position of
    the last delete is kept. Of two rows at one position, its generation with it, that are no deletes, one is a repeat.
    """
    if row[2] == DELETED:
        return bool(row[1] > other[1] or (row[1] == other[1] and other[2] == DELETED))
    if other[2] == DELETED:
        return False
    return bool(row[1] == other[1] or (row[1] > other[1] and "u" not in row[2]))


T = TypeVar("T")
Sections = dict[int, dict[str, Section]]


class Gatherer:
    """Puts the changes of many runs into sections by bucket and view."""

    def __init__(self, layout: Layout, row_bytes_max: int, emitted_row_bytes_max: int | None = None) -> None:
        """Begin empty; a view that emits may have a limit of its own."""
        self._layout = layout
        self._row_bytes_max = row_bytes_max
        self._emitted_row_bytes_max = emitted_row_bytes_max or row_bytes_max
        self.sections: Sections = {}
        self.sharing: Sections = {}  # rows of views whose entities several rows share
        self.floors: dict[str, tuple[ViewPlan, ViewFloor]] = {}  # by view, the highest
        self.handover: HandOver | None = None  # where keys change
        self.rows = 0

    def raise_floor(self, plan: ViewPlan, floor: ViewFloor) -> None:
        """Take a floor of a view."""
        known = self.floors.get(plan.id)
        if known is None or known[1].position < floor.position:
            self.floors[plan.id] = (plan, floor)

    def told(self, *, shares: bool) -> Mapping[int, Mapping[str, Arguments]]:
        """Return what the ledger is told of views whose entities rows share, or of the others.

        A floor is told to all buckets, behind the rows: one that was there before is seen to go.
        """
        rows: Mapping[int, Mapping[str, Arguments]] = self.sharing if shares else self.sections
        floors: dict[str, Arguments] = {
            f"{plan.id}|{FLOORS}": FloorSection(plan.id, floor)
            for plan, floor in self.floors.values()
            if plan.shares is shares
        }
        return {b: {**rows.get(b, {}), **floors} for b in range(self._layout.buckets)} if floors else rows

    def takes(self, table: TableRows, changes: Sequence[Any]) -> int:
        """Return how many of `changes` may be added: the key of a row changes once in a round at most."""
        if self.handover is None and not any(map(_new_key_of, changes)):
            return len(changes)
        moving = moves_in(changes)
        seen: set[str] = set()
        for index, key in zip(moving, table.keys([changes[index] for index in moving]), strict=True):
            if key in seen or (self.handover is not None and self.handover.waits_for(table, key)):
                return index
            seen.add(key)
        return len(changes)

    def add(
        self,
        table: TableRows,
        changes: Sequence[Any],
        origin: Callable[[int], str],
        *,
        value_bytes_max: int,
        replayed: Callable[[int], bool] = lambda _: False,
    ) -> list[int]:
        """Take `changes` of a table; `origin(i)` says where change i stands in the output topic.

        Returns which of them are floors: the caller gives them to `raise_floor`.

        `value_bytes_max` is the size of the largest contract value among them: rows are measured only where it is near
        the limit. `replayed(i)` says whether change i is marked as a replay.

        Raises:
            PoisonRecord: a change has no key, or no row although it is no delete.
            RecordTooLarge: a row is above `row_bytes_max`.
        """
        if self.handover is not None or any(map(_new_key_of, changes)):
            self._add_moving(table, changes, origin, value_bytes_max, replayed)
            return [at for at, change in enumerate(changes) if change.op == Operation.FLOOR]
        return self._add(table, changes, origin, value_bytes_max, replayed)

    def _add_moving(
        self,
        table: TableRows,
        changes: Sequence[Any],
        origin: Callable[[int], str],
        value_bytes_max: int,
        replayed: Callable[[int], bool],
    ) -> None:
        """Put deletes of keys that have a new one aside, and behind them what came of these keys later."""
        handover = self.handover or HandOver(Gatherer(self._layout, self._row_bytes_max, self._emitted_row_bytes_max))
        moving = moves_in(changes)
        first = dict(zip(table.keys([changes[index] for index in moving]), moving, strict=True))
        headed = [index for index, change in enumerate(changes) if change.key is not None]
        keys = dict(zip(headed, table.keys([changes[index] for index in headed]), strict=True))
        behind = [
            index
            for index, key in keys.items()
            if index >= first.get(key, len(changes)) or handover.waits_for(table, key)
        ]
        aside = set(behind)
        for gatherer, part in ((self, [i for i in range(len(changes)) if i not in aside]), (handover.leaving, behind)):
            some = [changes[index] for index in part]
            gatherer._add(  # noqa: SLF001 - one of our own
                table, some, _at(origin, part), value_bytes_max, _at(replayed, part)
            )
        if moving:
            said = [changes[index] for index in moving]
            of_views = {
                plan.id: causes(said, _at(replayed, moving), loading=plan.loading) for plan in table.plans if plan.emits
            }
            handover.add(table, list(first), said, of_views)
            self.handover = handover

    def _add(
        self,
        table: TableRows,
        changes: Sequence[Any],
        origin: Callable[[int], str],
        value_bytes_max: int,
        replayed: Callable[[int], bool],
    ) -> list[int]:
        indices = [index for index, change in enumerate(changes) if change.op in _OF_ROWS]
        told = changes if len(indices) == len(changes) else [changes[index] for index in indices]
        try:
            keys, positions = table.keys(told), kept_positions(told)
            rows = [plan.rows(keys, positions, told, lambda place: origin(indices[place])) for plan in table.plans]
        except AttributeError:  # of None: asking each change before would cost the good ones
            _refuse_headless(changes)
            raise
        buckets = [crc32(key.encode()) % self._layout.buckets for key in keys]
        for plan, of_plan in zip(table.plans, rows, strict=True):
            bytes_max = self._emitted_row_bytes_max if plan.emits else self._row_bytes_max
            if plan.may_exceed(value_bytes_max, bytes_max):
                for row in of_plan:
                    plan.check_size(row, bytes_max)
            if plan.emits:
                said = causes(told, lambda place: replayed(indices[place]), loading=plan.loading)
                of_plan = [(*row, cause) for row, cause in zip(of_plan, said, strict=True)]  # noqa: PLW2901
            self._part(plan, buckets, of_plan)
        whole = len(indices) == len(changes)
        return [] if whole else [at for at, change in enumerate(changes) if change.op == Operation.FLOOR]

    def _part(self, plan: ViewPlan, buckets: Sequence[int], rows: Sequence[Row]) -> None:
        """Put rows into the sections of their buckets."""
        sections, identity = self.sharing if plan.shares else self.sections, plan.id
        for bucket, row in zip(buckets, rows, strict=True):
            try:
                section = sections[bucket][identity]
            except KeyError:
                section = sections.setdefault(bucket, {})[identity] = Section(plan)
            if not plan.folds:
                section.earlier.append(row)
            elif row[0] in section.latest:
                section.add(row)
            else:
                section.latest[row[0]] = row
        self.rows += len(rows)


def touched_by(gatherers: Iterable[Gatherer]) -> dict[int, set[str]]:
    """Return, by bucket, what the parts of a round have rows of, the rows behind changes of keys with them."""
    touched: dict[int, set[str]] = {}
    for gatherer in gatherers:
        leaving = () if gatherer.handover is None else (gatherer.handover.leaving,)
        for part in (gatherer, *leaving):
            for bucket, views in chain(part.told(shares=False).items(), part.told(shares=True).items()):
                touched.setdefault(bucket, set()).update(views)
    return touched


def _at(say: Callable[[int], T], places: Sequence[int]) -> Callable[[int], T]:
    return lambda index: say(places[index])


def _refuse_headless(changes: Sequence[Any]) -> None:
    for index, change in enumerate(changes):
        upsert = change.op in UPSERTS
        if (change.key is None and (upsert or change.op == DELETE)) or (upsert and change.after is None):
            raise PoisonRecord(
                "bad_contract", f"record {index} has no key or no row", hint="is another writer on the topic?"
            )
