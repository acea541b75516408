"""What decoding, encoding and reading the contract cost on one thread: µs per event, beside `orjson.loads` of the same.

The events are those of `make bench`. Run it: python -m tests.bench.bench_decode
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from connectors.contract import ContractReader
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
from schemas.table import TableEntry
from sinks.lake.rows import ROWS_READ, lake_rows
from sinks.topics import encode_changes
from tests.bench.dms_events import dms_events, dms_spec
from tests.bench.events import Make, bench_spec, events

RECORDS = 2_000
ROUNDS = 25
TOPIC = "bench.public.results"
SPEC = bench_spec("results", TOPIC)


class Events:
    """A run of the bench's events that fits `Records`."""

    topic, partition = TOPIC, 0

    def __init__(self, count: int, make: Make = events) -> None:
        """Make `count` events."""
        made = list(make(count, TOPIC))
        self._values: list[bytes | None] = [value for _, value, _ in made]
        self._keys: list[bytes | None] = [key for key, _, _ in made]

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return self._values

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return self._keys

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return list(range(len(self._values)))

    def time_ms(self, _index: int, /) -> int:
        """Return that there is no time."""
        return -1

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]]:
        """Return no headers."""
        return ()


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
    find_stop(SPEC, [part], PartitionMemory(), Decoded(Batch("t")))
    gather([part], RECORDS, Batch("t"), list(range(RECORDS)))


def _position(part: Part) -> None:
    part.positions, part.snapshots, _ = positions(part.codes, part.sources, list(range(RECORDS)), 0)


def parts_of(decoder: DebeziumDecoder, run: Events) -> dict[str, float]:
    """Return µs per event of each step of a decode, in its order; each step works on what the one before left."""
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        values, raw_keys = run.values(), run.keys()
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
            ("headers", lambda part: decoder._key_changes(part, run)),  # noqa: SLF001
            ("batch", _batch),
        ]
        spent.setdefault("msgspec, checks of bytes", []).append(_timed(read))
        spent.setdefault("columns of the envelope", []).append(_timed(make))
        for name, step in steps:
            part = held["part"]
            spent.setdefault(name, []).append(_timed(lambda step=step, part=part: step(part)))  # type: ignore[misc]
    return {name: min(times) / RECORDS * 1e6 for name, times in spent.items()}


def reading(values: list[bytes]) -> dict[str, float]:
    """Return µs per value of what LAKE and ALERTS do with values of the contract."""
    lake = ContractReader(SPEC, rows=ROWS_READ)
    alerts = ContractReader(
        SPEC, rows=frozenset({"after"}), columns=["amount", "attempt", "score"], fields=["op", "ts", "snapshot"]
    )
    changes, now = lake.read(values), datetime.now(UTC)
    return {
        "orjson.loads": best(lambda: [orjson.loads(value) for value in values]),
        "all columns, as LAKE": best(lambda: lake.read(values)),
        "three, as ALERTS": best(lambda: alerts.read(values)),
        "rows of the lake": best(lambda: lake_rows(SPEC, changes, values, ingested=now)),
    }


def dms() -> dict[str, float]:
    """Return µs per event of the same rows as AWS DMS writes them."""
    run = Events(RECORDS, dms_events)
    decoder = FORMATS["dms"].decoder(TableEntry(spec=dms_spec("results", TOPIC)), LimitsConfig())
    batch = decoder.decode(run, PartitionMemory()).batch
    assert len(batch) == RECORDS, "every event is a change"
    return {
        "orjson.loads": best(lambda: [orjson.loads(value or b"") for value in run.values()]),
        "decode": best(lambda: decoder.decode(run, PartitionMemory())),
        "encode_changes": best(lambda: encode_changes(batch, (TOPIC, 0, 0), None, bytes_max=1_000_000)),
    }


def main() -> None:
    """Print the table."""
    run = Events(RECORDS)
    values = [value for value in run.values() if value is not None]
    decoder = FORMATS["debezium-json"].decoder(TableEntry(spec=SPEC), LimitsConfig())
    assert isinstance(decoder, DebeziumDecoder)
    batch = decoder.decode(run, PartitionMemory()).batch
    assert len(batch) == RECORDS, "every event is a change"
    loads = best(lambda: [orjson.loads(value) for value in values])
    whole = best(lambda: decoder.decode(run, PartitionMemory()))
    written = best(lambda: encode_changes(batch, (TOPIC, 0, 0), None, bytes_max=1_000_000))
    print(f"{len(values[0])} bytes an event, {RECORDS} a run, best of {ROUNDS} rounds; µs per event")
    print(f"{'orjson.loads':28s}{loads:6.2f}")
    print(f"{'decode':28s}{whole:6.2f}  ({whole / loads:.2f} of orjson.loads)")
    for name, micros in parts_of(decoder, run).items():
        print(f"  {name:26s}{micros:6.2f}")
    print(f"{'encode_changes':28s}{written:6.2f}  ({written / loads:.2f} of orjson.loads)")
    print("the same rows as AWS DMS writes them")
    for name, micros in dms().items():
        print(f"  {name:26s}{micros:6.2f}")
    records, _, _ = encode_changes(batch, (TOPIC, 0, 0), None, bytes_max=1_000_000)
    contract = [value for _, value in records]
    print(f"reading the contract, {len(contract[0])} bytes a value")
    for name, micros in reading(contract).items():
        print(f"  {name:26s}{micros:6.2f}")


if __name__ == "__main__":
    main()
