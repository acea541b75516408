"""Records of each format that are good by themselves, for fuzz.py to spoil: captured ones where there are any.

`SEEDS` has a function per format that yields its tables; each table gets settings of its own by chance.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from connectors import wire
from connectors.formats.reasons import Rejection
from schemas.table import TableSpec
from tests.bench.other_events import mongodb_events, mongodb_spec
from tests.unit.formats import avro_made, envelopes
from tests.unit.formats.captures import (
    FOLDER,
    configuration,
    is_envelope_json,
    oracle,
    registered,
    runs,
    spec_of,
    topic_of,
)
from tests.unit.formats.event_cases import cases
from tests.unit.formats.made import envelope

MADE_RECORDS = 60
AVRO, AVRO_TWIN, AVRO_TABLE = "pg-avro-confluent", "pg-avro-twin-json", "public.customers"
FLAT = ".ExtractNewRecordState"

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Record:
    """One record as Kafka has it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


@dataclass(slots=True)
class Table:
    """A table: its spec, records of it that are good by themselves, and the registry of those that name schemas."""

    name: str
    spec: TableSpec
    records: list[Record] = field(default_factory=list)
    schemas: wire.Schemas | None = None


def _varied(spec: TableSpec, chance: random.Random) -> TableSpec:
    """Return the spec with settings by chance that change what becomes of odd values."""
    document = spec.model_dump(mode="json")
    for name, column in document["columns"].items():
        if name not in spec.key:
            column["unrepresentable"] = chance.choice(["null", "quarantine"])
    settings = {"before": chance.choice(["none", "full"]), "unknown_columns": chance.choice(["ignore", "quarantine"])}
    return TableSpec.model_validate(document | settings)


def _captured(case: str, table: str) -> list[Record]:
    return [
        Record(key, value, part.headers(index))
        for part in runs(case, topic_of(case, table))
        for index, (key, value) in enumerate(zip(part.keys(), part.values(), strict=True))
    ]


def _of_connector(*, flat: bool) -> Callable[[random.Random], Iterator[Table]]:
    """Return the tables that Debezium captured as JSON: envelopes, or rows that its transformation made of them."""

    def tables(chance: random.Random) -> Iterator[Table]:
        for case in sorted(path.name for path in FOLDER.iterdir() if (path / "connector.json").exists()):
            settings = configuration(case)
            if not is_envelope_json(case) or any(value.endswith(FLAT) for value in settings.values()) != flat:
                continue
            for table in oracle(case):
                if records := _captured(case, table):
                    yield Table(f"{case} {table}", _varied(spec_of(case, table), chance), records)

    return tables


def _cases(format_name: str) -> Callable[[random.Random], Iterator[Table]]:
    """Return the cases of event_cases.py of a format."""

    def tables(chance: random.Random) -> Iterator[Table]:
        for case in cases().values():
            if case.spec.format == format_name:
                records = [Record(record.key, record.value, record.headers) for record in case.records]
                yield Table(case.name, _varied(case.spec, chance), records)

    return tables


def _envelopes(format_name: str) -> Callable[[random.Random], Iterator[Table]]:
    """Return the records of envelopes.py of a format: those of one exactness of order a table, else it would stop."""

    def tables(chance: random.Random) -> Iterator[Table]:
        spec = envelopes.spec_of(format_name)
        ranks: dict[str, list[Record]] = {}
        for shown in envelopes.records(format_name):
            value = envelopes.value_of(shown)
            positions = envelopes.decode(spec, [value]).batch.positions
            ranks.setdefault(positions[0][4:6] if positions else "", []).append(Record(None, value))
        unplaced = ranks.pop("", [])
        for rank, records in ranks.items():
            yield Table(f"{format_name} {rank}", _varied(spec, chance), records + unplaced)

    return tables


def mongodb_tables(chance: random.Random) -> Iterator[Table]:
    """Yield made documents: created, replaced, changed in part, deleted."""
    topic = "made.public.results"
    made = [(key, json.loads(value)) for key, value, _ in mongodb_events(MADE_RECORDS, topic)]
    columns = {"tags": "list<string>", "address": "json", "raw": "binary", "city": "string"}
    spec = mongodb_spec("results", topic).model_dump(mode="json")
    spec |= {"columns": spec["columns"] | columns, "features": [], "rules": []}
    spec["options"] = {"paths": {"city": "$.home.city"}}
    records = list(_changed(made, chance))
    yield Table("made documents", _varied(TableSpec.model_validate(spec), chance), records)


def _changed(made: Iterable[tuple[bytes, Any]], chance: random.Random) -> Iterator[Record]:
    more = {"tags": ["a", None], "address": {"city": "Bonn"}, "raw": {"$binary": {"base64": "AAEC", "subType": "00"}}}
    for key, document in made:
        kind = chance.choice(["whole", "part", "delete", "whole", "inside"])
        if kind == "inside":
            before = json.loads(document["after"]) | more | {"home": {"city": "Ulm", "list": [1, {"a": 2}]}}
            said = {
                "updatedFields": json.dumps({"home.city": "Bonn", "home.list.1.a": 3, "tags.3": "d"}),
                "removedFields": ["address.city"], "truncatedArrays": [{"field": "tags", "size": 1}],
            }  # fmt: skip
            document |= {"op": "u", "after": None, "before": json.dumps(before), "updateDescription": said}
        elif kind == "whole":
            document["after"] = json.dumps(json.loads(document["after"]) | more)
        elif kind == "part":
            said = {"updatedFields": json.dumps({"note": "b", "amount": {"$numberDecimal": "1.5"}})}
            document |= {"op": "u", "after": None, "updateDescription": said | {"removedFields": ["code"]}}
        else:
            document |= {"op": "d", "after": None}
        yield Record(key, json.dumps(document).encode())


def avro_tables(chance: random.Random) -> Iterator[Table]:
    """Yield the captured table, and rows of all types of Avro that were made."""
    spec = spec_of(AVRO_TWIN, AVRO_TABLE).model_dump(mode="json")
    columns = {name.replace("-", "_"): column for name, column in spec["columns"].items()}
    told = TableSpec.model_validate(spec | {"columns": columns, "format": "debezium-avro"})
    known = avro_made.Known(registered(AVRO))
    yield Table(f"{AVRO} {AVRO_TABLE}", _varied(told, chance), _captured(AVRO, AVRO_TABLE), known)
    rows: list[dict[str, Any]] = [
        {"id": number, "d": chance.choice([0.5, float("nan"), None]), "m": chance.choice([{"a": "b:"}, {}, None])}
        for number in range(MADE_RECORDS)
    ]
    made = [Record(*avro_made.record(row)) for row in rows]
    yield Table("made rows", _varied(avro_made.made_spec(), chance), made, avro_made.Known(avro_made.KNOWN))
    for name, (framing, frame) in FRAMES.items():
        some = [_reframed(record, frame) for record in made]
        yield Table(f"made rows, {name}", _varied(avro_made.made_spec(), chance), some, _AnyId(framing))
    yield Table("made rows, JSON Schema", _varied(avro_made.made_spec(), chance), list(_of_json_schema()), _AnyId())


class _AnyId:
    """A registry that knows the made schemas by every kind of id: 1 and 2 as Avro, 3 as JSON Schema."""

    def __init__(self, framing: wire.Framing | None = None) -> None:
        self.framing = framing or wire.Framing()
        self._known: dict[int, wire.Registered] = {3: wire.Registered("JSON", "{}")}
        self._known |= {number: wire.Registered("AVRO", str(text)) for number, text in avro_made.KNOWN.items()}

    def schema(self, schema_id: wire.SchemaId, /) -> wire.Registered:
        """Return one, or deny it."""
        value = schema_id.value
        found = self._known.get(value if isinstance(value, int) else UUID(value).int)
        if found is None:
            raise Rejection("unknown_schema", f"no {schema_id}")
        return found


def _headed(side: str, number: int, payload: bytes) -> tuple[bytes, Sequence[Header]]:
    return payload, [(f"__{side}_schema_id", b"\0" + number.to_bytes(4, "big"))]


Frame = Callable[[str, int, bytes], tuple[bytes, Sequence[Header]]]
FRAMES: dict[str, tuple[wire.Framing, Frame]] = {
    "ids of 8 bytes": (wire.Framing(id_size=8), lambda _, number, one: (b"\0" + number.to_bytes(8, "big") + one, ())),
    "GUIDs": (wire.Framing(), lambda _, number, one: (b"\1" + UUID(int=number).bytes + one, ())),
    "Glue": (wire.Framing(), lambda _, number, one: (b"\3\0" + UUID(int=number).bytes + one, ())),
    "Glue, zlib": (
        wire.Framing(inflated_bytes_max=100_000),
        lambda _, number, one: (b"\3\5" + UUID(int=number).bytes + zlib.compress(one), ()),
    ),
    "headers": (wire.Framing(ids_in="either"), _headed),
}


def _reframed(record: Record, frame: Frame) -> Record:
    """Return a record of 4 bytes behind a 0 in another frame."""
    assert record.key is not None, "made rows have keys"
    assert record.value is not None, "and values"
    key, of_key = frame("key", int.from_bytes(record.key[1:5], "big"), record.key[5:])
    value, of_value = frame("value", int.from_bytes(record.value[1:5], "big"), record.value[5:])
    return Record(key, value, [*of_key, *of_value])


def _of_json_schema() -> Iterator[Record]:
    row = {"id": 1, "f": 0.5, "d": 1.5, "b": "AP8=", "n": "MDk=", "m": "{}", "t": ["x:", None]}
    head = b"\0" + (3).to_bytes(4, "big")
    for number in range(MADE_RECORDS):
        value = json.dumps(envelope(after=row | {"id": number})).encode()
        yield Record(head + json.dumps({"id": number}).encode(), head + value)


SEEDS: dict[str, Callable[[random.Random], Iterator[Table]]] = {
    "debezium-json": _of_connector(flat=False),
    "debezium-flat": _of_connector(flat=True),
    "debezium-avro": avro_tables,
    "debezium-mongodb": mongodb_tables,
    **{name: _cases(name) for name in ("cloudevents", "maxwell", "canal", "goldengate", "qlik", "sequin")},
    **{name: _envelopes(name) for name in ("dms", "dynamodb", "s3", "json")},
}
