"""Specs proposed from records: pure, without I/O. A format takes part by a module and a line below."""

from __future__ import annotations

from collections.abc import Callable

from connectors.inference.base import Sample, SampledRecord, Sampler
from connectors.inference.choice import Sure
from connectors.inference.debezium import DebeziumSampler
from connectors.inference.proposal import Evidence, Proposal
from connectors.inference.samples import SampleLimits, Samples

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "debezium-json": DebeziumSampler,
}


def new_samples(format: str | None = None, *, limits: SampleLimits | None = None) -> Samples:  # noqa: A002
    """Return samples of every format that is known; `format` is that of all topics, None to recognise it."""
    return Samples({name: made() for name, made in SAMPLERS.items()}, format=format, limits=limits)


__all__ = [
    "SAMPLERS",
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
