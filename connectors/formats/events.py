"""Changes that stand in an envelope of another tool than Debezium: what a format says of them, as parallel columns.

A format of this kind says where in its records the rows, the operations and the positions are, and no more; typing
the rows, finding their keys and putting it all together is the same for all of them (event_decoder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from connectors.formats.base import PartitionMemory, Records
from connectors.formats.inspection import inspect
from connectors.formats.reasons import Rejection
from connectors.formats.twins import Twins
from schemas.config import LimitsConfig
from schemas.errors import PoisonRecord

RawRow = bytes | msgspec.Raw | None
T = TypeVar("T")
WEAK_ORDER = "weak_order"  # noted of a change that is ordered by time and offset, where its tool could say its place


@dataclass(slots=True)
class Events:
    """What the records of a run say; a place is an index into the columns, which have one length or are empty.

    `indices` are those of the records, rising; a record of several changes stands there so often, in their order.
    `codes` are Debezium's words for operations: c, u, d, r, t. Rows are JSON objects: `afters` that of an insert,
    update or snapshot row, `befores` what was there before, at least the key's columns of a delete. `ts` are commit
    times in microseconds since 1970. Where `keys` (objects of exactly the key's columns) has none for a place, it is
    taken from the rows. `other_keys` hold, by place, the new key of a delete or the old key of an insert, where the key
    was changed. `initial` are the places of rows of a load that reads its source from the beginning; `reads_anew` tells
    which of them contradict what was seen before, None: each that comes after changes. `dialect` is that of the records
    where it is not always that of the format. Where `times` (commit times as the contract has them) is not empty, `ts`
    is not read. `noted` names, by place, what is worth a count although the change goes through. The first `ranked`
    digits of a position say how exact its order is: a change that has less of it than one before it would lose to that,
    so it stops the table.
    """

    indices: list[int] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    afters: list[RawRow] = field(default_factory=list)
    befores: list[RawRow] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    other_keys: dict[int, bytes] = field(default_factory=dict)
    snapshots: list[bool] = field(default_factory=list)
    initial: set[int] = field(default_factory=set)
    transactions: list[str | None] = field(default_factory=list)
    unavailable: dict[int, list[str]] = field(default_factory=dict)
    noted: dict[int, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    rejected: dict[int, Rejection] = field(default_factory=dict)
    reads_anew: Callable[[int, PartitionMemory], bool] | None = None
    dialect: str = ""
    ranked: int = 0
    connector: str = ""
    source_name: str = ""
    source_table: str = ""

    def add(
        self,
        index: int,
        code: str,
        position: str,
        ts: int,
        *,
        after: RawRow = None,
        before: RawRow = None,
        snapshot: bool = False,
        transaction: str | None = None,
    ) -> int:
        """Add one change of the record `index`, and return its place; for formats that go record by record."""
        self.indices.append(index)
        self.codes.append(code)
        self.positions.append(position)
        self.ts.append(ts)
        self.afters.append(after)
        self.befores.append(before)
        self.snapshots.append(snapshot)
        self.transactions.append(transaction)
        return len(self.indices) - 1

    def name_key(self, key: bytes) -> None:
        """Say the key of the change that was added last, an object of exactly the key's columns."""
        self.keys += [None] * (len(self.indices) - 1 - len(self.keys))
        self.keys.append(key)


class Unwrapper(Protocol):
    """Reads the envelopes of one table's records; it never raises for a record."""

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold; what holds none is in `skipped` or `rejected`, by its index."""


class Envelopes(Generic[T]):
    """Reads envelopes of one type; what does not fit is looked at in full, and skipped by name or refused.

    No envelope comes out that names a key twice, but for what is raw in it: that is for whoever reads it.
    """

    def __init__(self, type_: type[T], limits: LimitsConfig, judge: Callable[[Any], str]) -> None:
        """`judge` gets the document of a record that `type_` does not take.

        It returns the name of what is skipped (`heartbeat`, …) or raises a Rejection.
        """
        self._decode = msgspec.json.Decoder(type_).decode
        self._limits, self._judge = limits, judge
        self._twins = Twins(type_, depth_max=limits.record_depth_max)

    def read(self, values: Sequence[bytes | None], events: Events) -> list[tuple[int, T]]:
        """Return index and envelope of each record that is one; the others are noted in `events`."""
        found, twins = self._twins.apart(values, self._read(values, events))
        events.rejected |= twins
        return found

    def _read(self, values: Sequence[bytes | None], events: Events) -> list[tuple[int, T]]:
        decode, largest = self._decode, self._limits.record_bytes_max
        if None not in values and max(map(len, values), default=0) <= largest and all(map(bytes.isascii, values)):  # type: ignore[arg-type]
            return self._read_ordinary(values, events)
        found: list[tuple[int, T]] = []
        for index, value in enumerate(values):
            try:
                if value is None or len(value) > largest:
                    self._note(index, value, events)
                    continue
                if not value.isascii():
                    value.decode()  # C does not look into what it passes over
                found.append((index, decode(value)))
            except Exception:  # noqa: BLE001 - whatever is wrong with this record: the full look says
                self._note(index, value, events)
        return found

    def _read_ordinary(self, values: Sequence[Any], events: Events) -> list[tuple[int, T]]:
        """Return the same of values that are all there, small enough, and of ASCII."""
        entries: list[Any] = []
        rest = iter(values)
        while True:
            try:
                entries.extend(map(self._decode, rest))
            except Exception:  # noqa: BLE001 - as above; `rest` stands behind the record at fault
                self._note(len(entries), values[len(entries)], events)
                entries.append(None)
                continue
            found = enumerate(entries)
            return [(index, entry) for index, entry in found if entry is not None] if None in entries else list(found)

    def each(self, values: Sequence[bytes | None], events: Events, take: Callable[[int, T, Events], None]) -> None:
        """Give each envelope to `take`, which adds its changes; a record that it refuses is noted as refused."""
        for index, envelope in self.read(values, events):
            try:
                take(index, envelope, events)
            except Rejection as fault:
                events.rejected[index] = fault
            except PoisonRecord as exc:  # of schemas/position.py
                events.rejected[index] = Rejection(exc.reason, exc.message)

    def _note(self, index: int, value: bytes | None, events: Events) -> None:
        if value is None:
            events.skipped[index] = "tombstone"
            return
        try:
            if len(value) > self._limits.record_bytes_max:
                raise Rejection("too_large", f"{len(value)} bytes, above {self._limits.record_bytes_max}")  # noqa: TRY301
            events.skipped[index] = self._judge(inspect(value, depth_max=self._limits.record_depth_max))
        except Rejection as fault:
            events.rejected[index] = fault
