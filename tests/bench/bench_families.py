"""What decoding the same rows costs by format, on one thread in alternate rounds: µs per record, beside debezium-json.

python -m tests.bench.bench_families
python -m tests.bench.bench_families --rounds 40 --only mongodb,maxwell --profile
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

import orjson

from connectors.formats import PartitionMemory, format_of
from connectors.formats.reasons import Rejection
from connectors.wire import Framing, Registered, SchemaId
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.bench.bench_decode import RECORDS, TOPIC, Events
from tests.bench.events import bench_spec, events
from tests.bench.families import FAMILIES, Family
from tests.bench.schema_events import AvroEvents
from tests.bench.yardstick import passing_block

PLAIN = Family("plain", TOPIC, bench_spec, events)
PROFILE_LINES = 30


class _Schemas:
    """The schemas of the bench, known without a registry."""

    framing = Framing()

    def __init__(self, topic: str) -> None:
        self._texts = dict(enumerate(AvroEvents.schemas(topic), 1))

    def schema(self, schema_id: SchemaId, /) -> Registered:
        """Return one of the two."""
        if schema_id.value not in self._texts:
            raise Rejection("unknown_schema", f"no {schema_id}")
        return Registered("AVRO", self._texts[int(schema_id.value)])


def work_of(family: Family) -> Callable[[], Any]:
    """Return what decodes a run of a family; each record of it becomes a change."""
    run = Events(RECORDS, family.make)
    spec = family.spec("results", TOPIC)
    decoder = format_of(spec.format, _Schemas(TOPIC)).decoder(TableEntry(spec=spec), LimitsConfig())
    decoded = decoder.decode(run, PartitionMemory())
    assert len(decoded.batch) == RECORDS, f"{family.name}: {[each.error.message for each in decoded.rejected[:3]]}"
    return lambda: decoder.decode(run, PartitionMemory())


def _loads(family: Family) -> Callable[[], Any]:
    values = Events(RECORDS, family.make).values()
    return lambda: [orjson.loads(value or b"") for value in values]


def _passing(family: Family) -> Callable[[], Any]:
    values = Events(RECORDS, family.make).values()
    return lambda: [passing_block(value or b"") for value in values]


def _timed(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--profile", action="store_true", help="print where the time of each format goes")
    options = parser.parse_args()
    families = [FAMILIES[name] for name in options.only.split(",")]
    works = {"orjson.loads": _loads(PLAIN), "debezium-json": work_of(PLAIN)}
    if FAMILIES["block"] in families:
        works["msgspec that passes the block"] = _passing(FAMILIES["block"])
    works |= {family.name: work_of(family) for family in families}
    fastest = dict.fromkeys(works, float("inf"))
    for _ in range(options.rounds):
        for name, work in works.items():
            fastest[name] = min(fastest[name], _timed(work))
    plain = fastest["debezium-json"]
    for name, seconds in fastest.items():
        print(f"{name:32s}{seconds / RECORDS * 1e6:8.2f} µs  {seconds / plain:6.2f} of debezium-json")
    for family in families if options.profile else ():
        profile = cProfile.Profile(time.thread_time)
        profile.runcall(works[family.name])
        print(f"\n{family.name}")
        pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILE_LINES)


if __name__ == "__main__":
    main()
