"""Samples of Debezium's envelopes as Avro: read as the decoder reads them, as JSON with the fields of their schema."""

from __future__ import annotations

from collections.abc import Sequence

from connectors import wire
from connectors.captured import OneRecord
from connectors.formats.connect_schema import fields_of_envelope, fields_of_struct
from connectors.formats.debezium_avro import Texts
from connectors.inference.base import Sample, SampledRecord
from connectors.inference.blocks import Blocks
from connectors.inference.debezium import DebeziumSampler
from schemas.config import LimitsConfig


class AvroSampler(DebeziumSampler):
    """The sampler of `debezium-avro`."""

    format = "debezium-avro"
    by_topic = True

    def __init__(self, schemas: wire.Schemas) -> None:
        """Know no schema yet; `schemas` is the registry."""
        super().__init__()
        limits = LimitsConfig()
        self._value_texts = Texts(schemas, limits, "value", fields_of_envelope)
        self._key_texts = Texts(schemas, limits, "key", fields_of_struct)
        self._values, self._keys = Blocks(self._value_texts.fields), Blocks(self._key_texts.fields)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the change in an envelope; none of any other record.

        Raises:
            RegistryUnavailable: the registry does not answer for an id that is new.
        """
        (value,), _ = self._value_texts.read([record.value], record.headers)
        (key,), _ = self._key_texts.read([record.key], record.headers)
        return super().samples(OneRecord(record.topic, 0, 0, key or None, value or None, ()))
