"""What decoding costs on one thread: µs per event of each part, beside `orjson.loads` of the same values. Run it.

The events are PostgreSQL's without schema block: twelve columns of the ordinary types, about 870 bytes.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from connectors.formats import FORMATS, PartitionMemory
from connectors.formats.changes import find_stop, gather
from connectors.formats.debezium_json import DebeziumDecoder
from connectors.formats.part import (
    Part,
    check_keys_unique,
    check_rows,
    convert_rows,
    find_unavailable,
    read_keys,
    read_times,
)
from connectors.formats.positions import positions
from schemas.batch import Batch, Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec

RECORDS = 2_000
ROUNDS = 25
SPEC = TableSpec.model_validate(
    {
        "table": "customers",
        "topics": ["capa.public.customers"],
        "key": ["id"],
        "columns": {
            "id": "int",
            "account": "long",
            "name": "string",
            "balance": "decimal(12,2)",
            "updated": "timestamptz",
            "seen": "timestamp",
            "born": "date",
            "active": "boolean",
            "score": "double",
            "uid": "uuid",
            "document": "json",
            "note": "string",
        },
    }
)


class Events:
    """A run of made-up events that fits `Records`."""

    topic, partition = "capa.public.customers", 0

    def __init__(self, count: int) -> None:
        """Make `count` events, an insert in ten, the rest updates."""
        self._values: list[bytes | None] = [event(i) for i in range(count)]
        self._keys: list[bytes | None] = [b'{"id":%d}' % i for i in range(count)]

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return self._values

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return self._keys

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return list(range(len(self._values)))

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]]:
        """Return no headers."""
        return ()


def event(number: int) -> bytes:
    """Return one event as the connector 3.7 writes it."""
    row = {
        "id": number,
        "account": 9_000_000_000 + number,
        "name": f"Patient Number {number}",
        "balance": base64.b64encode((number * 3777 % 100_000_000).to_bytes(5, "big")).decode(),
        "updated": f"2024-02-29T13:{number % 60:02d}:06.{number % 1_000_000:06d}Z",
        "seen": 1_709_214_306_789_123 + number * 1_000_003,
        "born": 19_782 - number % 9_999,
        "active": number % 2 == 0,
        "score": number * 0.37,
        "uid": str(uuid.UUID(int=number * 7919**8)),
        "document": json.dumps({"ward": number % 7, "tags": ["a", "b"]}),
        "note": f"admitted from station {number % 31}, no allergies are known, seen by two doctors",
    }
    commit, lsn = 26_692_408 + number // 5, 26_692_508 + number
    source = {
        "version": "3.7.0.Final",
        "connector": "postgresql",
        "name": "capa",
        "ts_ms": 1_795_219_391_939,
        "snapshot": "false",
        "db": "capa",
        "sequence": f'["{commit}","{lsn}"]',
        "ts_us": 1_795_219_391_939_186 + number,
        "ts_ns": 1_795_219_391_939_186_000 + number * 1_000,
        "schema": "public",
        "table": "customers",
        "txId": 743 + number // 5,
        "lsn": lsn,
        "xmin": None,
        "origin": None,
        "origin_lsn": None,
    }
    times = {"ts_ms": 1_795_219_392_737, "ts_us": 1_795_219_392_737_517, "ts_ns": 1_795_219_392_737_517_382}
    op = "c" if number % 10 == 0 else "u"
    return orjson.dumps({"before": None, "after": row, "source": source, "transaction": None, "op": op, **times})


def best(work: Callable[[], Any]) -> float:
    """Return µs per event of the fastest round."""
    fastest = min(_timed(work) for _ in range(ROUNDS))
    return fastest / RECORDS * 1e6


def _timed(work: Callable[[], Any]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _unique(part: Part) -> None:
    check_rows(part)
    check_keys_unique(part, depth_max=100)


def _batch(part: Part) -> None:
    find_stop([part], PartitionMemory(), Decoded(Batch("t")))
    gather([part], RECORDS, Batch("t"), list(range(RECORDS)))


def _position(part: Part) -> None:
    part.positions, part.snapshots, _ = positions(part.codes, part.sources, 0)


def parts_of(decoder: DebeziumDecoder, events: Events) -> dict[str, float]:
    """Return µs per event of each step of a decode, in its order; each step works on what the one before left."""
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        values, raw_keys = events.values(), events.keys()
        held: dict[str, Any] = {}

        def read(held: dict[str, Any] = held, values: list[bytes | None] = values) -> None:
            held["reading"] = decoder._reader.read(values)  # noqa: SLF001 - the parts are measured apart

        def make(held: dict[str, Any] = held, values: list[bytes | None] = values) -> None:
            ((layout, indices),) = held["reading"].members.items()
            held["part"] = decoder._part(layout, indices, held["reading"], values)  # noqa: SLF001

        steps: list[tuple[str, Callable[[Part], Any]]] = [
            ("keys named twice", _unique),
            ("unavailable", find_unavailable),
            ("types", convert_rows),
            ("keys", lambda part: read_keys(part, decoder._key_readers["postgresql"], ["id"], raw_keys)),  # noqa: SLF001, B023
            ("positions", _position),
            ("commit times", read_times),
            ("headers", lambda part: decoder._key_changes(part, events)),  # noqa: SLF001
            ("batch", _batch),
        ]
        spent.setdefault("msgspec, checks of bytes", []).append(_timed(read))
        spent.setdefault("columns of the envelope", []).append(_timed(make))
        for name, step in steps:
            part = held["part"]
            spent.setdefault(name, []).append(_timed(lambda step=step, part=part: step(part)))  # type: ignore[misc]
    return {name: min(times) / RECORDS * 1e6 for name, times in spent.items()}


def main() -> None:
    """Print the table."""
    events = Events(RECORDS)
    values = [value for value in events.values() if value is not None]
    decoder = FORMATS["debezium-json"].decoder(TableEntry(spec=SPEC), LimitsConfig())
    assert isinstance(decoder, DebeziumDecoder)
    batch = decoder.decode(events, PartitionMemory()).batch
    assert len(batch) == RECORDS, "every event is a change"
    encode = msgspec.json.Encoder().encode
    loads = best(lambda: [orjson.loads(value) for value in values])
    whole = best(lambda: decoder.decode(events, PartitionMemory()))
    rows = best(lambda: [encode(row) for row in batch.afters])
    print(f"{len(values[0])} bytes an event, {RECORDS} a run, best of {ROUNDS} rounds; µs per event")
    print(f"{'orjson.loads':28s}{loads:6.2f}")
    print(f"{'decode':28s}{whole:6.2f}  ({whole / loads:.2f} of orjson.loads)")
    for name, micros in parts_of(decoder, events).items():
        print(f"  {name:26s}{micros:6.2f}")
    print(f"{'encode the row afterwards':28s}{rows:6.2f}")


if __name__ == "__main__":
    main()
