"""A change in Avro is typed as the same change in JSON is; what is none is refused, and a registry is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given

from connectors.contract_wire import ChangeWriter
from headgate.client import ConfigurationError, RegistryUnavailable, changes, registry
from headgate.client.avro import AvroReader
from headgate.client.decoding import EventDecoder
from headgate.client.errors import ContractMismatch
from headgate.client.events import Change, Event, Floor, Tombstone
from headgate.client.registry import Registry
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.contract import Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from tests.services.registry import SchemaRegistry
from tests.unit.client.test_decoding import CANARY, Stored
from tests.unit.contract_reader import test_avro_wire as wire
from tests.unit.contracts.made import ROW, contract, typed

KEY = {"c_long": ROW["c_long"]}
SERVED = replace(contract(before="full"), format="avro")


@pytest.fixture(scope="module")
def server() -> Iterator[SchemaRegistry]:
    """A registry, which all tests of this page share; those that kill it have one of their own."""
    with SchemaRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def of_any_rows(server: SchemaRegistry) -> tuple[ChangeWriter, EventDecoder, EventDecoder]:
    """What writes changes of every kind, and what reads them in Avro, and in JSON."""
    return writer(server, wire.CONTRACT), decoder(server, wire.CONTRACT), EventDecoder(wire.CONTRACT)


def writer(server: SchemaRegistry, of: Contract = SERVED) -> ChangeWriter:
    """Return what writes changes as NORMALIZE does, its schemas registered."""
    ids = [
        server.register(f"{of.table}-{at}", json.dumps(schema)).number
        for at, schema in enumerate((avro_value_schema(of), avro_key_schema(of)))
    ]
    return ChangeWriter(of, *ids)


def decoder(server: SchemaRegistry, of: Contract = SERVED) -> EventDecoder:
    """Return the decoder of a subscriber that has named the registry."""
    return EventDecoder(of, AvroReader(Registry({"urls": [server.url], "timeout_seconds": 2.0})))


def both(server: SchemaRegistry, change: dict[str, Any], *, written_by: Contract = SERVED) -> tuple[Event, Event]:
    """Return a change as it is typed from JSON and from Avro."""
    text = json.dumps(change).encode()
    _, value = writer(server, written_by).record(None, text)
    read, headers = decoder(server), [(HEADER_SCHEMA_VERSION, b"3")]
    assert value.startswith(b"\0")
    return read.decode(Stored(text, its_headers=list(headers))), read.decode(Stored(value, its_headers=list(headers)))


def shown(event: Event) -> str:
    """Return an event as text, values with their types: NaN is the same as NaN there."""
    return json.dumps(msgspec.structs.asdict(event), default=repr, sort_keys=True)


@given(wire.changes())
def test_a_change_says_the_same_in_both_forms(
    of_any_rows: tuple[ChangeWriter, EventDecoder, EventDecoder], change: dict[str, Any]
) -> None:
    """Of every type and year, with the five kinds of nothing in its row."""
    write, from_avro, from_json = of_any_rows
    text = msgspec.json.encode(change)
    expected = from_json.decode(Stored(text))

    found = from_avro.decode(Stored(write.record(None, text)[1]))

    assert shown(expected) == shown(found)
    assert isinstance(found, Floor if change["op"] == "floor" else Change)


@pytest.mark.parametrize(
    "change",
    [
        typed(),
        typed(op="insert", old_key=KEY),
        typed(before=dict(ROW)),
        typed(op="delete", after=None, new_key=KEY),
        typed(after={**dict.fromkeys(ROW), **KEY}),
        typed(after=KEY, unavailable=["c_string"]),
        typed(source={"origin": ["s", 1, 2, 3, 1], "first_origin": ["t", 0, 0, 9], "rows": 2}),
        typed(source={"snapshot": True, "previous": None, "tx": None}),
        typed(op="floor", key=None, after=None, position="0002"),
    ],
    ids=["update", "insert", "before", "delete", "nulls", "unavailable", "several", "snapshot", "floor"],
)
def test_each_kind_of_change_is_the_same_typed(server: SchemaRegistry, change: dict[str, Any]) -> None:
    """With all that stands around its rows."""
    of_json, of_avro = both(server, change)

    assert of_json == of_avro


def test_older_and_newer_versions_of_columns_are_the_same_typed(server: SchemaRegistry) -> None:
    """A column that was narrower, one that the contract does not know yet, and names that Avro does not take."""
    types = {name: str(type_) for name, type_ in SERVED.columns.items()} | {"c_long": "int", "odd name": "date"}
    other = contract(types, output={"format": "avro"})
    change = typed(key={"c_long": 5}, after={**ROW, "c_long": 5, "odd name": "+10000-01-01"})

    of_json, of_avro = both(server, change, written_by=other)

    assert of_json == of_avro
    assert isinstance(of_avro, Change)
    assert (5, "+10000-01-01") == ((of_avro.after or {})["c_long"], (of_avro.after or {})["odd name"])


def test_a_tombstone_has_the_key_that_its_avro_says(server: SchemaRegistry) -> None:
    """Of a topic that somebody compacted."""
    key, _ = writer(server).record(b"{}", json.dumps(typed()).encode())

    assert Tombstone(key={"c_long": 2**63 - 1}, partition=2, offset=4711) == decoder(server).decode(Stored(None, key))


def test_a_schema_is_asked_for_once(server: SchemaRegistry) -> None:
    """Whatever the number of changes is."""
    value, read = writer(server).record(None, json.dumps(typed()).encode())[1], decoder(server)
    before = len(server.asked)
    for _ in range(3):
        read.decode(Stored(value))

    assert 1 == len(server.asked) - before


def test_avro_without_a_registry_says_what_is_missing(server: SchemaRegistry) -> None:
    """Of a contract in Avro before anything is asked of Kafka; of one in JSON at the first value that is Avro."""
    with pytest.raises(ConfigurationError, match="changes of t are Avro") as caught:
        changes(SERVED, bootstrap="127.0.0.1:9")
    assert "registry=" in caught.value.hint

    value = writer(server).record(None, json.dumps(typed()).encode())[1]
    with pytest.raises(ContractMismatch, match="it is Avro, and no schema registry was named") as told:
        EventDecoder(contract()).decode(Stored(value))
    assert "registry=" in told.value.hint


def test_a_value_that_is_cut_off_or_longer_is_refused(server: SchemaRegistry) -> None:
    """Wherever it ends; the error says where it stands, and no piece of it."""
    change = typed(after={**ROW, "c_string": CANARY}, position=CANARY)
    value, read = writer(server).record(None, json.dumps(change).encode())[1], decoder(server)
    broken = [*(value[:end] for end in range(1, len(value))), value + b"\0"]

    for each in broken:
        with pytest.raises(ContractMismatch) as caught:
            read.decode(Stored(each))
        assert "partition 2 offset 4711" in str(caught.value)
        assert CANARY not in str(caught.value)
        assert caught.value.__cause__ is None


def test_an_id_that_the_registry_denies_is_said_of_the_record(server: SchemaRegistry) -> None:
    """With where to look: it may be another registry than the writer's."""
    with pytest.raises(ContractMismatch, match="has no schema of its id, 4321") as caught:
        decoder(server).decode(Stored(b"\0" + (4321).to_bytes(4, "big") + CANARY.encode()))

    assert "registry=" in caught.value.hint
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("JSON", "{}"),
        ("AVRO", "no json"),
        ("AVRO", "[" * 100_000),
        ("AVRO", '"string"'),
        ("AVRO", '{"type": "record", "name": "Change", "fields": []}'),
        ("AVRO", '{"type": "record", "name": "Change", "fields": [{"name": "op"}]}'),
        ("AVRO", json.dumps(avro_key_schema(SERVED))),
        ("AVRO", json.dumps(avro_value_schema(SERVED)).replace('"decimal(12,2)"', '"interval"')),
        ("AVRO", json.dumps(avro_value_schema(SERVED)).replace("headgate.type", "other.type")),
    ],
    ids=["of JSON", "no JSON", "deep", "text", "empty", "half", "of keys", "of a later release", "of another"],
)
def test_a_value_of_another_schema_is_refused(server: SchemaRegistry, kind: str, text: str) -> None:
    """Whatever a registry has under the id of a value."""
    number = server.register(f"other-{kind}-{text[:99]}", text, kind=kind).number
    value = writer(server).record(None, json.dumps(typed()).encode())[1]

    for payload in (b"", value[5:]):
        with pytest.raises(ContractMismatch):
            decoder(server).decode(Stored(b"\0" + number.to_bytes(4, "big") + payload))


def test_values_that_a_column_cannot_have_are_refused(server: SchemaRegistry) -> None:
    """A time of day that is none, which another writer left there."""
    of = contract({"id": "long", "at": "time"}, ["id"], output={"format": "avro"})
    schema: Any = avro_value_schema(of)
    number = server.register("times", json.dumps(schema)).number
    origin = {"topic": "s", "generation": 0, "partition": 0, "offset": 1, "row": 0}
    source = {"connector": "c", "name": "n", "table": "t", "snapshot": False, "origin": origin, "rows": 1}
    change = {"op": "insert", "position": "1", "ts": 0, "source": source, "after": {"id": 1, "at": 86_400_000_000}}
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(wire_schema(schema)), change)

    with pytest.raises(ContractMismatch):
        decoder(server, of).decode(Stored(b"\0" + number.to_bytes(4, "big") + stream.getvalue()))


def wire_schema(schema: Any) -> Any:
    """Return a schema with its times as plain numbers, so that any can be written."""
    return json.loads(json.dumps(schema).replace('"logicalType"', '"nothing"'))


def test_a_registry_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of the record: who asks again once it is back is given the change."""
    monkeypatch.setattr(registry, "PAUSES_SECONDS", (0.0,))
    with SchemaRegistry() as own:
        value, read = writer(own).record(None, json.dumps(typed()).encode())[1], decoder(own)
        own.kill()
        with pytest.raises(RegistryUnavailable, match="does not answer") as caught:
            read.decode(Stored(value))
        own.start()

        assert isinstance(read.decode(Stored(value)), Change)

    assert own.url in str(caught.value)
    assert isinstance(read.decode(Stored(value)), Change), "what is known needs no registry"
