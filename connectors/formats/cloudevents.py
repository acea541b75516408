"""Debezium's changes as CloudEvents in JSON: what `source` says elsewhere stands in attributes, as text.

Positions are those of the same connector's envelopes, so both forms of one change have one position. The columns have
Debezium's encodings; a schema block in `data` is passed over, and the spec says what it would.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.base import PartitionMemory, Records, origin_offsets
from connectors.formats.debezium_json import NEW_KEY, OLD_KEY
from connectors.formats.envelope import DIALECTS, SOURCES
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.images import Image, given
from connectors.formats.inspection import side_record
from connectors.formats.positions import is_initial, positions, reads_anew, transactions
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.table import TableEntry

_PREFIX = "iodebezium"
_OPERATIONS = ("c", "u", "d", "r", "t")
_NAMES = ("op", "name", "db", "schema", "table")
_SOURCE_FIELDS = sorted({name for source in SOURCES.values() for name in source.__struct_fields__})


class Images(msgspec.Struct, gc=False):
    """A row before and after."""

    before: Image = UNSET
    after: Image = UNSET


class Data(Images, gc=False):
    """The images, or what holds them behind a schema block."""

    payload: Images | UnsetType | None = UNSET


def attribute(field: str) -> str:
    """Return the name of the attribute that holds a field of `source`: attributes have no underscores."""
    return _PREFIX + field.replace("_", "")


_CloudEvent = msgspec.defstruct(
    "_CloudEvent",
    [
        ("op", Literal["c", "u", "d", "r", "t"]),
        ("data", Data | UnsetType | None, UNSET),
        *((name, str | UnsetType | None, UNSET) for name in _NAMES[1:]),
        *((name, Any, UNSET) for name in _SOURCE_FIELDS),
    ],
    rename={name: attribute(name) for name in (*_NAMES, *_SOURCE_FIELDS)},
    gc=False,
)


class CloudEvents:
    """Reads the records of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table."""
        self._epoch, self._trusted = entry.epoch, entry.spec.before == "full"
        self._envelopes: Envelopes[Any] = Envelopes(_CloudEvent, limits, _judge)

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events()
        found = _of_one_connector(self._envelopes.read(records.values(), events), events)
        if not found:
            return events
        first, sources = found[0][1], [source for _, _, source in found]
        events.indices = [index for index, _, _ in found]
        events.codes = [event.op for _, event, _ in found]
        events.dialect = DIALECTS[first.connector]
        events.connector, events.source_name = first.connector, first.name or ""
        events.source_table = _full_table(first.schema, first.db, first.table)
        offsets = origin_offsets(records)
        own = [offsets[index] for index in events.indices]
        events.positions, events.snapshots, faults = positions(events.codes, sources, own, self._epoch)
        events.rejected |= {events.indices[place]: fault for place, fault in faults.items()}
        events.transactions = transactions(sources)
        events.ts = [_micros(source, index, events) for index, _, source in found]
        self._add_images(found, records, events)
        _find_initial(sources, events)
        _find_other_keys(records, events)
        return events

    def _add_images(self, found: list[tuple[int, Any, Any]], records: Records, events: Events) -> None:
        """Add the rows; that before a delete only where it is trusted, or there is no other key."""
        keys = records.keys()
        for index, event, _ in found:
            images = event.data or Data()
            images = images.payload or images
            needed = self._trusted or (event.op == "d" and keys[index] is None)
            events.afters.append(None if event.op == "d" else given(images.after))
            events.befores.append(given(images.before) if needed else None)


def _of_one_connector(found: list[tuple[int, Any]], events: Events) -> list[tuple[int, Any, Any]]:
    """Return the events that come from the connector of the first, each with its source; the others are refused."""
    kept: list[tuple[int, Any, Any]] = []
    for index, event in found:
        known = SOURCES.get(event.connector) if isinstance(event.connector, str) else None
        if known is None or (kept and type(kept[0][2]) is not known):
            events.rejected[index] = Rejection("unknown_connector", "iodebeziumconnector is not one that is known")
            continue
        try:
            fields = {name: value for name in known.__struct_fields__ if (value := getattr(event, name)) is not UNSET}
            source = msgspec.convert(fields, known, strict=False)
        except msgspec.ValidationError:
            events.rejected[index] = Rejection("no_source", "an attribute of the source is not what Debezium writes")
            continue
        kept.append((index, event, source))
    return kept


def _micros(source: Any, index: int, events: Events) -> int:
    if source.ts_us is not None:
        return int(source.ts_us)
    if source.ts_ms is None:
        events.rejected[index] = Rejection("bad_time", "neither iodebeziumtsus nor iodebeziumtsms")
        return 0
    return int(source.ts_ms) * 1_000


def _find_initial(sources: list[Any], events: Events) -> None:
    """Note the rows of snapshots that read a source from its beginning; the connector's rule tells if it did before."""

    def anew(place: int, seen: PartitionMemory) -> bool:
        return reads_anew(events.positions[place], sources[place], seen)

    events.initial = {
        place
        for place, snapshot in enumerate(events.snapshots)
        if snapshot and events.indices[place] not in events.rejected and is_initial(sources[place])
    }
    events.reads_anew = anew


def _find_other_keys(records: Records, events: Events) -> None:
    """Note the other key of changes of keys, which stands in a header of the insert and of the delete."""
    for place, (index, code) in enumerate(zip(events.indices, events.codes, strict=True)):
        if code not in "cd":
            continue
        wanted = NEW_KEY if code == "d" else OLD_KEY
        for name, raw in records.headers(index) or ():
            if name == wanted and raw is not None:
                events.other_keys[place] = bytes(raw)


def _full_table(schema: Any, database: Any, table: Any) -> str:
    return ".".join(filter(None, (schema or database, table)))


def _judge(document: Any) -> str:
    if not isinstance(document, dict):
        raise Rejection("not_a_change", "not one of Debezium's CloudEvents")
    if not looks_like(document):
        if skipped := side_record(document):
            return skipped
        if "specversion" in document:
            raise Rejection("no_op", "no iodebeziumop: set extension.attributes.enable=true in the converter")
        raise Rejection("not_a_change", "not one of Debezium's CloudEvents")
    if document[attribute("op")] == "m":
        return "message"
    if document[attribute("op")] not in _OPERATIONS:
        raise Rejection("unknown_op", "iodebeziumop is none of c, u, d, r, t, m")
    if isinstance(document.get("data"), str):
        raise Rejection("not_a_change", "`data` is no JSON: set data.serializer.type=json in the converter")
    raise Rejection("not_a_change", "an attribute or `data` has another type than Debezium writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of Debezium's CloudEvents."""
    return "specversion" in document and attribute("op") in document


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to, with its schema, or its database where there are no schemas."""
    schema, database, table = (document.get(attribute(name)) for name in ("schema", "db", "table"))
    return _full_table(schema, database, table) if isinstance(table, str) else None


FORMAT = EventFormat("cloudevents", CloudEvents, dialect="postgresql", keys_of_records=True, placeholder=True)
