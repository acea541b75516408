"""The rows and keys of a table's records as plain values, of any format: what a decoder refused is looked at so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec

from connectors import wire
from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.formats.base import Records
from connectors.formats.event_decoder import EventFormat
from connectors.inference.avro import AvroSampler
from connectors.inference.base import Fields, Sampler
from connectors.inference.blocks import Blocks, read_key
from connectors.inference.debezium import DebeziumSampler
from connectors.inference.debezium_flat import FlatSampler
from connectors.inference.fitting import UNREADABLE
from schemas.config import LimitsConfig
from schemas.table import TableEntry

_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_SAMPLERS: Mapping[str, Callable[[], Sampler]] = {
    DebeziumSampler.format: DebeziumSampler,
    FlatSampler.format: FlatSampler,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the record `index`, or its key; numbers with a point are `Decimal`. `fields` are what is stated."""

    index: int
    values: Mapping[str, Any]
    fields: Fields | None
    dialect: str
    is_key: bool = False


def rows_of(
    entry: TableEntry, records: Records, limits: LimitsConfig, schemas: wire.Schemas | None = None
) -> Iterator[Row]:
    """Yield the rows and keys that the decoder of `entry` reads of records; none of what cannot be read at all.

    Raises:
        RegistryUnavailable: the registry does not answer for an id that is new.
    """
    format_ = format_of(entry.spec.format, schemas)
    if isinstance(format_, EventFormat):
        own = entry.spec.sent_as()
        for row in _of_events(format_, entry, records, limits):
            yield (
                replace(row, values={own.get(name, name): value for name, value in row.values.items()}) if own else row
            )
        return
    sampler = _SAMPLERS[entry.spec.format]() if schemas is None or entry.spec.format in _SAMPLERS else None
    yield from _of_samples(sampler or AvroSampler(schemas), records)  # type: ignore[arg-type]


def _of_events(format_: EventFormat, entry: TableEntry, records: Records, limits: LimitsConfig) -> Iterator[Row]:
    events = format_.unwrapper(entry, limits).unwrap(records)
    dialect, trusted = events.dialect or format_.dialect, entry.spec.before == "full"
    for place, (index, code) in enumerate(zip(events.indices, events.codes, strict=True)):
        befores = events.befores if trusted or code == "d" else ()
        for rows in (events.afters, befores):
            if (values := _read(rows, place)) is not None:
                yield Row(index, values, None, dialect)
        keys = (events.keys, [events.other_keys.get(place)]) if events.keys or events.other_keys else ()
        for raws, at in zip(keys, (place, 0), strict=False):
            if (values := _read(raws, at)) is not None:
                yield Row(index, values, None, dialect, is_key=True)
    if format_.keys_of_records:
        yield from _keys_of(records, dialect)


def _read(raws: Sequence[Any], place: int) -> dict[str, Any] | None:
    if place >= len(raws) or raws[place] is None:
        return None
    try:
        return _object(raws[place])
    except UNREADABLE:
        return None


def _keys_of(records: Records, dialect: str) -> Iterator[Row]:
    blocks = Blocks(lambda _schema: None)
    for index, one in enumerate(_each(records)):
        try:
            key, _ = read_key(blocks, one)
        except UNREADABLE:
            continue
        if key is not None:
            yield Row(index, key, None, dialect, is_key=True)


def _of_samples(sampler: Sampler, records: Records) -> Iterator[Row]:
    for index, one in enumerate(_each(records)):
        for sample in sampler.samples(one):
            for values in (sample.row, sample.before):
                if values is not None:
                    yield Row(index, values, sample.fields, sample.dialect)
            if sample.key is not None:
                yield Row(index, sample.key, sample.key_fields, sample.dialect, is_key=True)


def _each(records: Records) -> Iterator[OneRecord]:
    columns = zip(records.keys(), records.values(), records.offsets(), strict=True)
    for index, (key, value, offset) in enumerate(columns):
        headers = [(name, raw) for name, raw in records.headers(index) or ()]
        yield OneRecord(records.topic, records.partition, offset, key, value, headers)
