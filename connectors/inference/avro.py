"""Samples of Debezium's envelopes as Avro: read as the decoder reads them, as JSON with the fields of their schema."""

from __future__ import annotations

from collections.abc import Sequence

from connectors import wire
from connectors.formats.connect_schema import fields_of_envelope, fields_of_struct
from connectors.formats.debezium_avro import Texts
from connectors.formats.inspection import is_block
from connectors.inference.base import Fields, Sample, SampledRecord
from connectors.inference.debezium import objects, sample_of
from connectors.inference.events import One
from connectors.inference.fitting import UNREADABLE
from schemas.config import LimitsConfig


class AvroSampler:
    """The sampler of `debezium-avro`; `schemas` is the registry."""

    format = "debezium-avro"
    by_topic = True

    def __init__(self, schemas: wire.Schemas) -> None:
        """Know no schema yet."""
        limits = LimitsConfig()
        self._values = Texts(schemas, limits, "value", fields_of_envelope)
        self._keys = Texts(schemas, limits, "key", fields_of_struct)

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the change in an envelope; none of any other record.

        Raises:
            RegistryUnavailable: the registry does not answer for an id that is new.
        """
        one = One(record)
        (value,), _ = self._values.read([record.value], one.headers)
        (key,), _ = self._keys.read([record.key], one.headers)
        try:
            payload, fields = _parted(value, self._values)
            if payload is None:
                return ()
            key_payload, key_fields = _parted(key, self._keys)
            return sample_of(record.topic, payload, fields, key_payload, key_fields)
        except UNREADABLE:
            return ()


def _parted(text: bytes | None, texts: Texts) -> tuple[bytes | None, Fields | None]:
    """Return a payload, and the fields of the schema that its word names."""
    if not text:
        return None, None
    found = objects(text)
    if not is_block(found):
        return text, None
    payload = text[text.index(b',"payload":') + len(b',"payload":') : -1]
    return payload, texts.fields(found["schema"])
