"""A format of each family, over the rows of the bench: how its records are made, and the spec that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.table import TableSpec
from tests.bench.dms_events import dms_events, dms_spec
from tests.bench.events import Make, bench_spec, events
from tests.bench.other_events import maxwell_events, maxwell_spec, mongodb_events, mongodb_spec
from tests.bench.schema_events import AvroEvents, avro_spec, block_events, block_spec


@dataclass(frozen=True, slots=True)
class Family:
    """One family by the name of its row; `topic` is where its records are."""

    name: str
    topic: str
    spec: Callable[[str, str], TableSpec]
    make: Make


JSON = Family("json", "bench.public.results", bench_spec, events)
FAMILIES = {
    family.name: family
    for family in (
        Family("block", "block.public.results", block_spec, block_events),
        Family("avro", "avro.public.results", avro_spec, AvroEvents()),
        Family("dms", "dms.public.results", dms_spec, dms_events),
        Family("mongodb", "mongodb.public.results", mongodb_spec, mongodb_events),
        Family("maxwell", "maxwell.public.results", maxwell_spec, maxwell_events),
    )
}
