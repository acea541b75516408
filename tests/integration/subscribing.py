"""An output topic with repeats, a gap, floors and an aborted transaction in it; and what a subscriber must be given.

Its changes are JSON, or become Avro after the first few of each partition, as those of a table that was changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from confluent_kafka import Producer

from connectors.contract_wire import ChangeWriter
from schemas.change import HEADER_SCHEMA_VERSION, HEADER_TABLE
from schemas.contract import Contract, Format, contract_of
from schemas.contract_avro import avro_key_schema, avro_value_schema
from tests.services.registry import SchemaRegistry
from tests.unit.lake.changes import change, record, spec_of

PARTITIONS = 2
HEADERS: list[tuple[str, str | bytes | None]] = [
    (HEADER_TABLE, b"patients"), (HEADER_SCHEMA_VERSION, b"1"), ("ce_type", b"headgate.change"),
]  # fmt: skip
JSON_FIRST = 6  # so that a repeat of a change in JSON is Avro
COUNTS = (1, 1, 2, 1, 3, 1, 1, 2, 1, 1)  # of the changes of each source record


Written = Callable[[dict[str, Any]], tuple[bytes | None, bytes]]  # key and value of a change


def contract(topic: str, form: Format = "json") -> Contract:
    """Return the contract of the table `patients`, on this topic."""
    return contract_of(spec_of(output={"format": form}), topic=topic)


def as_json(value: dict[str, Any]) -> tuple[bytes | None, bytes]:
    """Return key and value of a change in JSON."""
    return json.dumps(value["key"]).encode(), json.dumps(value).encode()


def as_avro(registry: SchemaRegistry, topic: str) -> Written:
    """Return what writes changes in Avro, as NORMALIZE does; their schemas are registered."""
    made = contract(topic, "avro")
    schemas = {"value": avro_value_schema(made), "key": avro_key_schema(made)}
    ids = {side: registry.register(f"{topic}-{side}", json.dumps(schema)).number for side, schema in schemas.items()}
    writer = ChangeWriter(made, ids["value"], ids["key"])

    def written(value: dict[str, Any]) -> tuple[bytes | None, bytes]:
        key, data = as_json(value)
        return writer.record(None if value["key"] is None else key, data)

    return written


def becoming(written: Written, *, first: int) -> Written:
    """Return what writes the `first` changes in JSON, and those behind them otherwise."""
    forms = chain(repeat(as_json, first), repeat(written))

    def write_next(value: dict[str, Any]) -> tuple[bytes | None, bytes]:
        return next(forms)(value)

    return write_next


def position(partition: int, offset: int, row: int = 0) -> str:
    """Return the position of a change: each change of these tests has its own."""
    return f"{partition:05d}{offset:030d}{row:010d}"


def records(partition: int, counts: Sequence[int], *, first: int = 0) -> list[list[dict[str, Any]]]:
    """Return source records of so many changes each, at each second offset from `first` on."""
    found: list[list[dict[str, Any]]] = []
    before = first - 2 if first else None
    for number, count in enumerate(counts):
        offset = first + 2 * number
        made = record(offset, count, before=before, partition=partition)
        found.append([{**one, "position": position(partition, offset, row)} for row, one in enumerate(made)])
        before = offset
    return found


def floor(partition: int, offset: int) -> dict[str, Any]:
    """Return a floor, which was read at an offset of its own."""
    place = {"origin": ["clinic.public.patients", 0, partition, offset], "previous": None}
    return change(offset, 0, op="floor", key=None, after=None, position=position(partition, offset), source=place)


def planted(partition: int, *, lost: int | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what stands in a partition, and the positions of what a subscriber is given of it, in order.

    Every stretch is sent again, and at last all of it; the source record `lost` is missing. The last change is fresh.
    """
    groups = [each for number, each in enumerate(records(partition, [*COUNTS, 1])) if number != lost]
    stands: list[dict[str, Any]] = []
    for at, group in enumerate(groups[:-1]):
        stands += group
        if at % 3 == 2:
            stands += [one for again in groups[at - 2 : at + 1] for one in again]
    end = 2 * len(COUNTS)
    stands += [floor(partition, end - 1), *(one for group in groups[:-1] for one in group), *groups[-1]]
    given = [one["position"] for group in groups[:-1] for one in group]
    return stands, [*given, position(partition, end - 1), position(partition, end)]


def write(
    bootstrap: str, topic: str, values: Iterable[tuple[int, dict[str, Any] | None]], *, written: Written = as_json
) -> None:
    """Write values, each to its partition, and return once all are there."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for partition, value in values:
        _produce(producer, topic, partition, value, written)
    assert producer.flush(60) == 0, "every record was delivered"


def write_aborted(bootstrap: str, topic: str, partition: int, value: dict[str, Any]) -> None:
    """Write a value in a transaction that is aborted: nobody may be given it."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-aborted"})
    producer.init_transactions(30)
    producer.begin_transaction()
    _produce(producer, topic, partition, value, as_json)
    producer.flush(30)
    producer.abort_transaction(30)
    # The next of its name is told to begin once the marker of the abort stands in the log, and not before.
    Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-aborted"}).init_transactions(30)


def _produce(producer: Producer, topic: str, partition: int, value: dict[str, Any] | None, written: Written) -> None:
    key, data = (b"null", None) if value is None else written(value)
    producer.produce(topic, data, key, partition, headers=HEADERS)
    producer.poll(0)


def plant(bootstrap: str, topic: str, avro: Written | None = None) -> dict[int, list[str]]:
    """Fill a topic; return what a subscriber is given of each partition, in order. In 1 a change is missing.

    With `avro` the first changes of each partition are JSON, and the others are what it writes.
    """
    given: dict[int, list[str]] = {}
    write_aborted(bootstrap, topic, 0, {**change(0, 0), "position": "9" * 45})
    for partition, lost in ((0, None), (1, 5)):
        stands, given[partition] = planted(partition, lost=lost)
        form = as_json if avro is None else becoming(avro, first=JSON_FIRST)
        write(bootstrap, topic, ((partition, value) for value in stands), written=form)
    return given


def by_partition(positions: Iterable[str]) -> dict[int, list[str]]:
    """Return positions by the partition that they are of, in their order."""
    found: dict[int, list[str]] = {number: [] for number in range(PARTITIONS)}
    for each in positions:
        found[int(each[:5])].append(each)
    return found
