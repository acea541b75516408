"""Samples of the formats that say their changes as events: their own unwrapper reads the rows, a line says the key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats import canal, cloudevents, dms, dynamodb, goldengate, maxwell, qlik, s3, sequin
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import WEAK_ORDER, Events, Unwrapper
from connectors.formats.schemablock import key_fields, row_fields
from connectors.inference.base import Fields, Sample, SampledRecord
from connectors.inference.blocks import Blocks, read_key
from connectors.inference.fitting import UNREADABLE
from connectors.inference.stated_types import of_canal, of_dms
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec

Document = dict[str, Any]
_EXACT_AT = slice(5, 6)  # in positions that say how exact they are: behind the epoch and `streamed`
_ROWS = frozenset("cur")
_SCHEMAS_KEPT = 256
_KEYS = ("id", "_id", "uuid", "guid")
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_row = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def _listed(name: str) -> Callable[[Document], Any]:
    return lambda document: document.get(name)


def _of_data(document: Document) -> Fields | None:
    data = document.get("data")
    schema = data.get("schema") if isinstance(data, dict) and "payload" in data else None
    return row_fields(schema) if isinstance(schema, dict) else None


def _of_dynamodb(document: Document) -> list[str]:
    change = document.get("dynamodb")
    keys = change.get("Keys") if isinstance(change, dict) else None
    return list(keys) if isinstance(keys, dict) else []


def _of_control(document: Document) -> Any:
    """Return the key that a record about a table's structure names, as AWS DMS writes it."""
    control = document.get("control")
    table = control.get("table-def") if isinstance(control, dict) else None
    return table.get("primary-key") if isinstance(table, dict) else None


@dataclass(frozen=True, slots=True)
class Told:
    """What a format's records tell beside the rows: the source's table, and the names of its key's columns.

    `columns` are those that the format has, where a spec may name no others. `bare_deletes` carry the key alone, not
    the row that is gone. `fields` are those of a schema beside the row.
    """

    format: EventFormat
    table: Callable[[Document], str | None]
    key: Callable[[Document], Any] | None = None
    columns: tuple[str, ...] = ("_",)
    bare_deletes: bool = False
    fields: Callable[[Document], Fields | None] | None = None
    types: Callable[[Document], dict[str, str] | None] | None = None


TOLD: dict[str, Told] = {
    told.format.name: told
    for told in (
        Told(cloudevents.FORMAT, cloudevents.table_of, fields=_of_data),
        Told(maxwell.FORMAT, maxwell.table_of, _listed("primary_key_columns")),
        Told(canal.FORMAT, canal.table_of, _listed("pkNames"), types=of_canal),
        Told(goldengate.FORMAT, goldengate.table_of, _listed("primary_keys")),
        Told(qlik.FORMAT, qlik.table_of),
        Told(sequin.FORMAT, sequin.table_of),
        Told(dms.FORMAT, dms.table_of, _of_control, bare_deletes=True, types=of_dms),
        Told(dynamodb.FORMAT, dynamodb.table_of, _of_dynamodb),
        Told(s3.FORMAT, s3.table_of, lambda _document: ["bucket", "key"], s3.COLUMNS),
    )
}


@dataclass(slots=True)
class _Known:
    """What was learned of a table: the key that a record named for all, and the types that one stated."""

    key: tuple[str, ...] | None = None
    types: dict[str, str] | None = None

    def of(
        self, told: Told, table: str, after: dict[str, Any] | None, before: dict[str, Any] | None
    ) -> tuple[str, ...] | None:
        """Return the key's columns; where none names them what a delete carries alone, or is called as keys are."""
        if told.bare_deletes and self.key is None and after is None and before:
            alone = tuple(name for name, value in before.items() if value is not None)
            if len(alone) < len(before) or len(alone) == 1:
                self.key = alone
        return self.key or _called_as_keys_are(table, after or before or {})


def _called_as_keys_are(table: str, row: dict[str, Any]) -> tuple[str, ...] | None:
    names = {name.lower(): name for name in row}
    short = table.rpartition(".")[2].lower()
    wanted = [*_KEYS, *(f"{one}{end}" for one in (short, short.removesuffix("s")) for end in ("_id", "id"))]
    return next(((names[name],) for name in wanted if name in names), None)


@dataclass(slots=True)
class EventSampler:
    """The sampler of one such format."""

    told: Told
    by_topic: bool = False
    _unwrapper: Unwrapper = field(init=False)
    _keys: Blocks = field(init=False)
    _known: dict[str, _Known] = field(default_factory=dict)
    _fields: dict[bytes, Fields | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = dict.fromkeys(self.told.columns, "string")
        spec = TableSpec.model_validate({"table": "t", "topics": ["t"], "format": self.format, "columns": columns})
        self._unwrapper = self.told.format.unwrapper(TableEntry(spec=spec), LimitsConfig())
        self._keys = Blocks(key_fields)

    @property
    def format(self) -> str:
        """The format's name."""
        return self.told.format.name

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return the changes of a record, each one; none of what cannot be read."""
        try:
            document = _decode(record.value or b"null")
            if not isinstance(document, dict):
                return ()
            table = self.told.table(document) or record.topic
            known = self._known.setdefault(table, _Known())
            known.key = self._key_of(document, record) or known.key
            if self.told.types is not None and (stated := self.told.types(document)) and stated != known.types:
                known.types = stated
            found = self._of_events(self._unwrapper.unwrap(record), table, known, record.topic)
            return self._stated(found, document, record) if self.told.fields else found
        except UNREADABLE:
            return ()

    def _stated(self, found: list[Sample], document: Document, record: SampledRecord) -> list[Sample]:
        """Return the samples with what schemas beside the row and in the key state of their columns."""
        assert self.told.fields is not None, "asked for where a format has them"
        fields = self.told.fields(document)
        signature = msgspec.json.encode(fields)
        fields = self._fields.setdefault(signature, fields) if len(self._fields) < _SCHEMAS_KEPT else fields
        key, stated = read_key(self._keys, record)
        return [msgspec.structs.replace(each, fields=fields, key=key, key_fields=stated) for each in found]

    def _key_of(self, document: Document, record: SampledRecord) -> tuple[str, ...] | None:
        if self.told.format.keys_of_records:
            key, _ = read_key(self._keys, record)
            return None if key is None else tuple(key)
        named = self.told.key(document) if self.told.key else None
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            return None
        return tuple(named)

    def _of_events(self, events: Events, table: str, known: _Known, topic: str) -> list[Sample]:
        found: list[Sample] = []
        nothing = [None] * len(events.codes)  # a column that says nothing is empty
        for code, after, before in zip(events.codes, events.afters or nothing, events.befores or nothing, strict=True):
            after_row = _object(after) if code in _ROWS else None
            before_row = _object(before) if code == "d" else None
            found.append(
                Sample(
                    table=table,
                    origin=topic,
                    op=code,
                    key_columns=known.of(self.told, table, after_row, before_row),
                    row=after_row,
                    before=before_row,
                    dialect=events.dialect or self.told.format.dialect,
                    connector=events.connector,
                    weak=events.connector if _is_weak(events, len(found)) else "",
                    types=known.types,
                )
            )
        return found


def _is_weak(events: Events, place: int) -> bool:
    """Tell whether a change has less order than its tool can say, or its tool says little of any."""
    if events.snapshots and events.snapshots[place]:
        return False
    if events.connector == "canal" or events.noted.get(place) == WEAK_ORDER:
        return True
    return events.connector in {"dms", "dynamodb"} and events.positions[place][_EXACT_AT] in {"0", "1"}


def _object(raw: Any) -> dict[str, Any] | None:
    return None if raw is None else _row(raw)
