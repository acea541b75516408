"""Debezium's MongoDB records: documents as extended JSON, keys of all types, updates that say only what changed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.formats.base import PartitionMemory, encode_row
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec
from streams.final_rows import FinalRows
from streams.looked import CHANGE, Looker

TOPIC = "shop.inventory.customers"
COLUMNS = {
    "_id": "string", "name": "string", "n": "long", "amount": "decimal(20,4)", "at": "timestamptz", "ok": "boolean",
    "tags": "list<string>", "address": "json", "raw": "binary", "ref": "uuid", "score": "double", "day": "date",
}  # fmt: skip
OID = '{"$oid": "596e275826f08b2730779e1f"}'


def spec(**changed: Any) -> TableSpec:
    """Return the spec of the collection."""
    told = {"table": "customers", "topics": [TOPIC], "format": "debezium-mongodb", "key": ["_id"], "columns": COLUMNS}
    return TableSpec.model_validate(told | changed)


def record(op: str, offset: int, identifier: str = OID, *, second: int = 100, order: int = 1, **said: Any) -> OneRecord:
    """Return a record as the connector writes it; documents of `said` may be given as dicts."""
    source = {
        "version": "3.0.0", "connector": "mongodb", "name": "shop", "ts_ms": second * 1_000, "db": "inventory",
        "collection": "customers", "ord": order, "snapshot": "true" if op == "r" else "false",
        "lsid": None, "txnNumber": None, "wallTime": None,
    }  # fmt: skip
    texts = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in said.items()}
    value = {"before": None, "after": None, "updateDescription": None, "op": op, "ts_ms": 1, "transaction": None}
    document = value | texts | {"source": source | said.get("source", {})}
    if "updateDescription" in said:
        document["updateDescription"] = said["updateDescription"]
    key = json.dumps({"id": identifier}).encode()
    return OneRecord(TOPIC, 0, offset, key, json.dumps(document).encode(), [])


def decode(one: OneRecord, **changed: Any) -> Decoded:
    """Return what a new decoder makes of one record."""
    decoder = format_of("debezium-mongodb").decoder(TableEntry(spec=spec(**changed)), LimitsConfig())
    return decoder.decode(one, PartitionMemory())


def row(decoded: Decoded) -> dict[str, Any]:
    """Return the row of the only change."""
    assert not decoded.rejected, decoded.rejected[0].error
    found: dict[str, Any] = json.loads(encode_row(decoded.batch.afters[0]))
    return found


def test_a_document_becomes_a_row_of_the_contract() -> None:
    """Canonical extended JSON, each type of MongoDB in the type that the spec says."""
    document = {
        "_id": {"$oid": "596e275826f08b2730779e1f"}, "name": "Anne", "n": {"$numberLong": "9007199254740993"},
        "amount": {"$numberDecimal": "12.5"}, "at": {"$date": 1709214306789}, "ok": True, "tags": ["a", None],
        "address": {"city": "Bonn", "at": {"$date": 0}}, "raw": {"$binary": "AAEC", "$type": "00"},
        "ref": {"$binary": {"base64": "toQNRwetNbOvKq5G7bRUWg==", "subType": "04"}}, "score": {"$numberDouble": "1.5"},
        "day": {"$date": "2024-02-29T00:00:00Z"},
    }  # fmt: skip

    assert row(decode(record("c", 1, after=document))) == {
        "_id": "596e275826f08b2730779e1f", "name": "Anne", "n": "9007199254740993", "amount": "12.5000",
        "at": "2024-02-29T13:45:06.789000Z", "ok": True, "tags": ["a", None],
        "address": '{"city": "Bonn", "at": {"$date": 0}}', "raw": "AAEC",
        "ref": "b6840d47-07ad-35b3-af2a-ae46edb4545a", "score": 1.5, "day": "2024-02-29",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identifier", "key"),
    [
        ("1234", "1234"),
        ('"1234"', "1234"),
        (OID, "596e275826f08b2730779e1f"),
        ('{"$binary": {"base64": "AAEC", "subType": "00"}}', "AAEC"),
        ('{"$numberLong": "9007199254740993"}', "9007199254740993"),
        ('{"a": 1, "b": "x"}', '{"a":1,"b":"x"}'),
        ('{"$date": 1709214306789}', "2024-02-29T13:45:06.789000Z"),
    ],
)
def test_identifiers_of_every_type_are_keys(identifier: str, key: str) -> None:
    """Of changes and of deletes, which have nothing but the key."""
    for op, said in (("c", {"after": f'{{"_id": {identifier}}}'}), ("d", {})):
        decoded = decode(record(op, 1, identifier, **said))
        assert not decoded.rejected
        assert json.loads(encode_row(decoded.batch.keys[0])) == {"_id": key}


def test_keys_that_differ_by_type_only_are_told_apart_in_a_column_of_json() -> None:
    """As text, 1 and "1" are one key: two documents would become one row."""
    columns = COLUMNS | {"_id": "json"}
    keys = [encode_row(decode(record("d", 1, text), columns=columns).batch.keys[0]) for text in ("1", '"1"')]

    assert keys == [b'{"_id":"1"}', b'{"_id":"\\"1\\""}']


def test_an_update_without_its_document_says_some_columns_and_nothing_of_the_others() -> None:
    """What was removed is null; the rest is unavailable, and keeps what is known of it."""
    said = {"updatedFields": '{"name": "Bea", "n": 7}', "removedFields": ["score"], "truncatedArrays": None}
    decoded = decode(record("u", 2, updateDescription=said))

    assert row(decoded) == {"_id": "596e275826f08b2730779e1f", "name": "Bea", "n": "7", "score": None}
    assert decoded.batch.unavailable[0] == ["amount", "at", "ok", "tags", "address", "raw", "ref", "day"]


@pytest.mark.parametrize(
    "said",
    [
        {"updatedFields": '{"address.city": "Ulm"}'},
        {"updatedFields": "{}", "removedFields": ["address.city"]},
        {"updatedFields": "{}", "truncatedArrays": [{"field": "tags", "size": 1}]},
    ],
)
def test_an_update_of_a_part_inside_of_a_field_is_refused(said: dict[str, Any]) -> None:
    """The field as it was known would be wrong from here on, and nobody would see it."""
    rejected = decode(record("u", 2, updateDescription=said)).rejected

    assert [one.error.reason for one in rejected] == ["partial_field"]  # type: ignore[attr-defined]


def test_numbers_are_compared_as_numbers_and_the_order_within_a_second_counts() -> None:
    """The second 9 is before the second 10, and order 9 before order 10."""
    places = [(9, 1), (9, 9), (9, 10), (10, 1)]
    found = [decode(record("c", 5, second=s, order=o, after={"_id": 1})).batch.positions[0] for s, o in places]

    assert found == sorted(found)
    assert len({len(one) for one in found}) == 1


def test_a_row_of_a_snapshot_loses_to_a_change_of_its_second() -> None:
    """And comes before every later one."""
    read = decode(record("r", 9, after={"_id": 1})).batch.positions[0]
    changed = decode(record("u", 1, after={"_id": 1})).batch.positions[0]

    assert read < changed


def test_side_records_are_told_by_name_and_others_refused() -> None:
    """A heartbeat is no document; a record of another connector is refused with what reads it."""
    heartbeat = OneRecord(TOPIC, 0, 1, b"{}", b'{"ts_ms": 1}', [])
    other = record("c", 2, after={"_id": 1}, source={"connector": "postgresql"})

    assert decode(heartbeat).skipped == {"heartbeat": 1}
    assert [one.error.reason for one in decode(other).rejected] == ["unknown_connector"]  # type: ignore[attr-defined]


def test_behind_a_schema_block_it_is_the_same() -> None:
    """Key and value."""
    bare = record("c", 1, after={"_id": {"$oid": "596e275826f08b2730779e1f"}, "name": "Anne"})
    key, value = (b'{"schema":{"type":"struct"},"payload":' + part + b"}" for part in (bare.key, bare.value))  # type: ignore[operator]
    decoded, plain = decode(OneRecord(TOPIC, 0, 1, key, value, [])), decode(bare)

    assert row(decoded) == row(plain)
    assert encode_row(decoded.batch.keys[0]) == encode_row(plain.batch.keys[0])


def test_any_order_and_any_repeat_comes_to_the_same_documents() -> None:
    """Deltas fill what is known, in whatever order they come."""
    records = [
        record("c", 1, second=1, after={"_id": 1, "name": "a", "n": 1, "score": 1.5}),
        record("u", 2, second=2, updateDescription={"updatedFields": '{"name": "b"}'}),
        record("u", 3, second=3, updateDescription={"updatedFields": '{"n": 3}', "removedFields": ["score"]}),
        record("u", 4, second=3, order=2, updateDescription={"updatedFields": '{"n": 4}'}),
    ]
    looked = [Looker({"customers": spec()}, LimitsConfig()).look(one)[0] for one in records]
    assert [one.kind for one in looked] == [CHANGE] * 4
    values = [bytes(one.change) for one in looked if one.change is not None]
    for seed in range(20):
        final, some = FinalRows(spec()), [*values, *values]
        random.Random(seed).shuffle(some)
        for value in some:
            final.apply(value)
        found = [document["row"] for document in final.documents()]
        assert [(one["name"], one["n"], one["score"]) for one in found] == [("b", "4", None)]
