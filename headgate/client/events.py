"""What a subscriber is given: changes, floors and tombstones; and what a gap is."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec


class Origin(NamedTuple):
    """Where a change was read, its identity; `row` is which change of its record it is, from 0 on."""

    topic: str
    generation: int
    partition: int
    offset: int
    row: int = 0

    @property
    def stream(self) -> tuple[str, int, int]:
        """What the subscriber's rule keeps apart: topic, generation and partition."""
        return self.topic, self.generation, self.partition


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one row. docs/contract.md says what each field means; here values have their types.

    `int` and `long` are int, `decimal` is Decimal, `date` date, `time` time, `timestamp` a datetime without a zone,
    `timestamptz` one in UTC, `uuid` UUID, `binary` bytes, `json` the text of the document. Dates and times of years
    that Python's types do not have, before 1 and after 9999, stay text. A column that the contract does not know, for
    its table got it later, has the form that JSON has for it.

    A column named in `unavailable` was not sent by the source and is in no row; one that is in neither was absent.
    `partition` and `offset` are where the record stands on the output topic, `schema_version` is the version of the
    table's columns that it was written by. `rows` is how many changes its source record made.
    """

    op: str
    key: dict[str, Any] | None
    old_key: dict[str, Any] | None
    new_key: dict[str, Any] | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    position: str
    ts: datetime
    unavailable: tuple[str, ...]
    connector: str
    source_name: str
    source_table: str
    tx: str | None
    snapshot: bool
    origin: Origin
    first_origin: Origin | None
    previous: int | None
    rows: int
    replay: bool
    schema_version: int | None
    partition: int
    offset: int


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """Rows below `position` are dead: drop what you have of them, and every change below it that still comes.

    It comes in every partition, perhaps again; keep the highest one. Positions compare as text.
    """

    position: str
    ts: datetime
    origin: Origin
    partition: int
    offset: int


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """A record without a value: of a compacted topic, that the key's row is gone. A topic of changes has none."""

    key: dict[str, Any] | None
    partition: int
    offset: int


Event = Change | Floor | Tombstone


class Gap(NamedTuple):
    """What is missing: of an origin stream, what lies between the highest that was seen and the change before `next`.

    `previous` is what `next` names as the origin offset before it: None where nobody knows, as behind records that the
    source topic lost.
    """

    highest: Origin
    previous: int | None
    next: Origin

    def __str__(self) -> str:
        """Say it in one line, with positions and no values."""
        topic, generation, partition = self.next.stream
        where = f"{topic} partition {partition}" + (f" generation {generation}" if generation else "")
        before = "an unknown one" if self.previous is None else f"offset {self.previous}"
        return f"{where}: behind offset {self.highest.offset} comes {self.next.offset}, before which was {before}"
