"""Source formats: each turns the records of a partition into typed changes; a new one is a module and a line below."""

from __future__ import annotations

import difflib

from connectors import wire
from connectors.formats.base import Asking, Decoder, Format, PartitionMemory, Records, encode_row
from connectors.formats.canal import FORMAT as CANAL
from connectors.formats.cloudevents import FORMAT as CLOUDEVENTS
from connectors.formats.debezium_avro import DebeziumAvro
from connectors.formats.debezium_flat import DebeziumFlat
from connectors.formats.debezium_json import DebeziumJson
from connectors.formats.dms import FORMAT as DMS
from connectors.formats.dynamodb import FORMAT as DYNAMODB
from connectors.formats.goldengate import FORMAT as GOLDENGATE
from connectors.formats.mapped_json import FORMAT as JSON
from connectors.formats.maxwell import FORMAT as MAXWELL
from connectors.formats.mongodb import DEBEZIUM_MONGODB
from connectors.formats.qlik import FORMAT as QLIK
from connectors.formats.reasons import REASONS, Reason
from connectors.formats.s3 import FORMAT as S3
from connectors.formats.sequin import FORMAT as SEQUIN
from schemas.errors import ConfigurationError

FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        DebeziumJson(),
        DebeziumAvro(),
        DebeziumFlat(),
        DEBEZIUM_MONGODB,
        CLOUDEVENTS,
        MAXWELL,
        CANAL,
        GOLDENGATE,
        QLIK,
        SEQUIN,
        DMS,
        DYNAMODB,
        S3,
        JSON,
    )
}


def format_of(name: str, schemas: wire.Schemas | None = None) -> Format:
    """Return the format that a spec calls `name`; `schemas` is the registry, for those that ask one.

    Raises:
        ConfigurationError: there is none; the nearest name is in the hint.
    """
    if name in FORMATS:
        known = FORMATS[name]
        return known.asking(schemas) if schemas is not None and isinstance(known, Asking) else known
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(FORMATS))}"
    raise ConfigurationError(f"{name!r} is no format", hint=hint)


__all__ = [
    "FORMATS",
    "REASONS",
    "Asking",
    "Decoder",
    "Format",
    "PartitionMemory",
    "Reason",
    "Records",
    "encode_row",
    "format_of",
]
