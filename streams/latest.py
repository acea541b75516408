"""The latest topics: rows of a table as they are now, on the compacted topic `headgate.latest.<table>`.

Promise: of one key the records stand in the order in which the ledger accepted them, so the last one is the row, and
compaction keeps it. That takes more than writing them in order: a relay that was frozen must not write what it had read
behind what its successor has written since. So they are written in transactions that only the owner of the bucket can
commit, as KIP-447 has it, with the offset of the bucket's partition of `headgate.relay`, which never moves. Without
transactions (`at_least_once`) a frozen worker may do so; the next change of the row mends it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import msgspec

from connectors.connect_rows import connect_value, key_schema, row_schema, with_schema
from connectors.contract_rows import DoesNotFit
from connectors.transport.chunk import Assignment, Headers, Run
from connectors.transport.producer import Advance, Outbox, Work
from schemas.change import HEADER_TABLE
from schemas.errors import TransactionAborted
from schemas.table import TableEntry
from schemas.topics import TopicNames
from schemas.types import parse_type
from sinks.redis.updates import About, LatestRow, LatestRows, json_of_text, parts_of_text

HEADER_POSITION = "headgate.position"
HEADER_TS = "headgate.ts"
HEADER_UNAVAILABLE = "headgate.unavailable"

_SCHEMAS_MAX = 100  # of one table: by which columns are not known

Record = tuple[bytes, bytes | None, Headers]
_Kept = tuple[int, str, Sequence[Record]]  # the records of one table's rows in a bucket, and their topic

_encode = msgspec.json.encode


class Writer(Protocol):
    """What it writes with: the transactional or the plain writer of the transport."""

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Leave."""

    def partitions_max(self) -> int | None:
        """Return how many output partitions a write may go to."""

    async def write(self, runs: Sequence[Run], work: Work) -> Any:
        """Write what `work` makes of those of `runs` that are still ours."""


class LatestTopics:
    """Writes rows to the latest topics; begins with the first one."""

    def __init__(
        self,
        names: TopicNames,
        tables: Mapping[str, TableEntry],
        *,
        writer: Writer,
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`catch_up` returns once `tables` are all that `headgate.tables` holds now."""
        self._names, self._tables = names, tables
        self._writer, self._catch_up = writer, catch_up
        self._started = False
        self.counts: Counter[str] = Counter()

    async def close(self) -> None:
        """Leave."""
        if self._started:
            await self._writer.close()

    async def write(
        self,
        owned: Sequence[Assignment],
        rows: Sequence[tuple[int, LatestRows]],
        records: Sequence[Sequence[Record]],
        partitions: Mapping[str, int],
    ) -> int:
        """Write the records of `rows`, of which the bucket stands beside each, and return once they are durable.

        In their order, in as many transactions as their partitions need. Returns how many were left out, since they
        are larger than a record may be: else they would stand in the way of all others.

        `owned` are the partitions of `headgate.relay` that their buckets are of. What is of a view that was replaced by
        one of other columns is left out: that one writes all rows anew.

        Raises:
            TransactionAborted: a partition was lost meanwhile, or a topic is at fault: from there nothing is written.
            SourceUnavailable: Kafka does not answer, nothing is known.
        """
        if not self._started:
            await self._writer.start()
            self._started = True
        if any(self._is_replaced(some.about) for _, some in rows):
            await self._catch_up()
        kept = [
            (bucket, self._names.latest(some.about.table), of_rows)
            for (bucket, some), of_rows in zip(rows, records, strict=True)
            if not self._is_replaced(some.about)
        ]
        count = sum(len(of_rows) for _, _, of_rows in kept)
        self.counts["latest_replaced"] += sum(map(len, records)) - count

        too_large = 0
        for some in _narrow(kept, partitions, self._writer.partitions_max()):
            too_large += await self._write(owned, some, partitions)
        self.counts["latest_rows"] += count - too_large
        return too_large

    async def _write(self, owned: Sequence[Assignment], kept: Sequence[_Kept], partitions: Mapping[str, int]) -> int:
        """Write some rows in one transaction, unless a partition of `owned` has left; return how many are too large."""
        left_out: list[int] = []  # of each attempt

        def work(outbox: Outbox, live: Sequence[Any]) -> list[Advance]:
            if len(live) < len(owned):
                raise _left()
            too_large = 0
            for bucket, topic, of_rows in kept:
                for key, value, headers in of_rows:
                    if len(key) + len(value or b"") > outbox.room(headers):
                        too_large += 1
                        continue
                    outbox.produce(topic, bucket % partitions[topic], key, value, headers)
            left_out.append(too_large)
            return [Advance(each, each.start) for each in live]

        # An assignment is lost as its runs are, and no run ever comes of a topic that is empty.
        await self._writer.write(cast("Sequence[Run]", owned), work)
        if not left_out:
            raise _left()
        return left_out[-1]

    def _is_replaced(self, about: About) -> bool:
        """Say whether the table has another version of the view; what is left of one that it has not is written."""
        entry = self._tables.get(about.table)
        versions = [view.version for view in entry.spec.features if view.view == about.view] if entry else []
        return bool(versions) and about.version not in versions


def _narrow(kept: Sequence[_Kept], partitions: Mapping[str, int], most: int | None) -> Iterator[list[_Kept]]:
    """Yield rows in their order, as many at once as go to `most` partitions; None allows all."""
    some: list[_Kept] = []
    places: set[tuple[str, int]] = set()
    for each in kept:
        bucket, topic, _ = each
        place = (topic, bucket % partitions[topic])
        if most is not None and place not in places and len(places) >= most:
            yield some
            some, places = [], set()
        some.append(each)
        places.add(place)
    if some:
        yield some


def _left() -> TransactionAborted:
    return TransactionAborted("a partition of the relay's topic has left", hint="its next owner writes what is left")


def records_of(latest: LatestRows) -> list[Record]:
    """Return key, value and headers of each row; the value is None where the row is gone.

    A row whose texts are not of its columns' types is left out: somebody else wrote it, and its neighbours are ours.
    """
    form = _form(latest.about_text)
    found: list[Record] = []
    for row in latest.rows:
        with suppress(DoesNotFit, msgspec.MsgspecError, ValueError):  # who asks sees how many are there
            found.append(form.record(row))
    return found


@functools.lru_cache(maxsize=1_000)
def _form(about_text: str) -> _Form:
    return _Form(msgspec.json.decode(about_text, type=About))


class _Form:
    """Makes the records of one view."""

    def __init__(self, about: About) -> None:
        assert about.latest is not None, "it is the view of a latest topic"
        self._table = about.table
        self._columns = about.columns
        self._key = about.entity
        self._types = {
            name: parse_type(text) for (name, _), text in zip(about.columns, about.latest.columns, strict=True)
        }
        self._key_types = {
            name: parse_type(text) for (name, _), text in zip(about.entity, about.latest.key, strict=True)
        }
        self._schemas: dict[frozenset[str], bytes] = {}  # by the columns that are not known
        self._with_schema = about.latest.schema
        self._key_schema = key_schema(self._key_types, f"{about.table}.Key")

    def record(self, row: LatestRow) -> Record:
        headers: Headers = [
            (HEADER_TABLE, self._table.encode()),
            (HEADER_POSITION, row.position.encode()),
            (HEADER_TS, row.ts.encode()),
        ]
        if row.unavailable:
            headers.append((HEADER_UNAVAILABLE, _encode(row.unavailable)))
        return self._key_of(row.key), None if row.texts is None else self._value_of(row, row.texts), headers

    def _key_of(self, text: str) -> bytes:
        """Return the key: texts, or the widest of its types, so that it is one key whatever the columns become."""
        parts = parts_of_text(len(self._key), text)
        if not self._with_schema:
            return _encode({name: part for (name, _), part in zip(self._key, parts, strict=True)})
        payload = {
            name: connect_value(_decoded(json_of_text(form, part)), self._key_types[name], name)
            for (name, form), part in zip(self._key, parts, strict=True)
        }
        return with_schema(self._key_schema, payload)

    def _value_of(self, row: LatestRow, texts: Sequence[Any]) -> bytes:
        values = {
            name: None if text is False else json_of_text(form, str(text))
            for (name, form), text in zip(self._columns, texts, strict=True)
            if text is not False or name in row.null
        }
        if not self._with_schema:
            return _encode(values)
        payload = {name: connect_value(_decoded(value), self._types[name], name) for name, value in values.items()}
        return with_schema(self._schema_without(frozenset(row.unavailable)), payload)

    def _schema_without(self, unavailable: frozenset[str]) -> bytes:
        """Return the schema of rows; of columns that are not known it says nothing, so that a sink leaves its own."""
        if unavailable not in self._schemas:
            if len(self._schemas) > _SCHEMAS_MAX:
                self._schemas.clear()
            known = {name: type_ for name, type_ in self._types.items() if name not in unavailable}
            self._schemas[unavailable] = row_schema(known, f"{self._table}.Value")
        return self._schemas[unavailable]


def _decoded(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
