"""Specs proposed from records: pure, without I/O. A format takes part by a module and a line below."""

from __future__ import annotations

import functools
from collections.abc import Callable

from connectors import wire
from connectors.inference.avro import AvroSampler
from connectors.inference.base import Sample, SampledRecord, Sampler
from connectors.inference.choice import Sure
from connectors.inference.debezium import DebeziumSampler
from connectors.inference.debezium_flat import FlatSampler
from connectors.inference.definitions import Definitions
from connectors.inference.events import TOLD, EventSampler
from connectors.inference.mongodb import MongodbSampler
from connectors.inference.proposal import Evidence, Proposal
from connectors.inference.samples import SampleLimits, Samples

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "debezium-json": DebeziumSampler,
    "debezium-flat": FlatSampler,
    "debezium-mongodb": MongodbSampler,
    **{name: functools.partial(EventSampler, told) for name, told in TOLD.items()},
}


def new_samples(
    format: str | None = None,  # noqa: A002 - what a spec calls it
    *,
    limits: SampleLimits | None = None,
    schemas: wire.Schemas | None = None,
    definitions: Definitions | None = None,
) -> Samples:
    """Return samples of every format that is known; `format` is that of all topics, None to recognise it.

    `schemas` is the registry for formats that need one: without it they propose nothing. `definitions` are what
    schema-change topics say of tables.
    """
    samplers = {name: made() for name, made in SAMPLERS.items()}
    if schemas is not None:
        samplers[AvroSampler.format] = AvroSampler(schemas)
    return Samples(samplers, format=format, limits=limits, definitions=definitions)


__all__ = [
    "SAMPLERS",
    "Definitions",
    "Evidence",
    "Proposal",
    "Sample",
    "SampleLimits",
    "SampledRecord",
    "Sampler",
    "Samples",
    "Sure",
    "new_samples",
]
