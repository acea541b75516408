"""The format debezium-avro: what it says is what its twin in JSON says, and what cannot be read is told apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.formats import PartitionMemory, encode_row, format_of
from connectors.formats.reasons import REASONS
from connectors.registry import Registry
from connectors.wire import Registered
from schemas.batch import Decoded
from schemas.config import LimitsConfig, RegistryConfig
from schemas.errors import ConfigurationError, RegistryUnavailable
from schemas.table import TableEntry, TableSpec
from tests.services.registry import SchemaRegistry
from tests.unit.formats.avro_made import KEY, KNOWN, MADE, Known, decoded, framed, made_spec, record
from tests.unit.formats.captures import CapturedRun, oracle, records, registered, runs, spec_of, topic_of
from tests.unit.formats.likeness import differences
from tests.unit.formats.made import MadeRun, compact, envelope

AVRO, TWIN, TABLE = "pg-avro-confluent", "pg-avro-twin-json", "public.customers"


def captured_spec(case: str, **changes: Any) -> TableSpec:
    """The spec of the captured table; the Avro connector was told to adjust names."""
    spec = spec_of(TWIN, TABLE).model_dump(mode="json")
    columns = {name.replace("-", "_") if case == AVRO else name: column for name, column in spec["columns"].items()}
    name = "debezium-avro" if case == AVRO else "debezium-json"
    return TableSpec.model_validate(spec | {"columns": columns, "format": name} | changes)


def said(found: Decoded) -> list[tuple[Any, ...]]:
    """What changes say, without what differs from one capture of the same statements to another."""
    batch = found.batch
    texts = [
        tuple(
            None if row is None else json.loads(encode_row(row).decode().replace("odd-name", "odd_name"))
            for row in rows
        )
        for rows in zip(batch.keys, batch.old_keys, batch.new_keys, batch.befores, batch.afters, strict=True)
    ]
    return [
        (*rows, *rest) for rows, *rest in zip(texts, batch.operations, batch.snapshots, batch.unavailable, strict=True)
    ]


@pytest.mark.parametrize("before", ["full", "none"])
def test_every_change_is_that_of_the_twin_in_json(before: str) -> None:
    """Keys, old and new keys, rows, operations, snapshots: the same statements, the same changes."""
    (avro,), (twin,) = runs(AVRO, topic_of(AVRO, TABLE)), runs(TWIN, topic_of(TWIN, TABLE))
    found = decoded(captured_spec(AVRO, before=before), avro, Known(registered(AVRO)))
    expected = decoded(captured_spec(TWIN, before=before), twin)

    assert [] == found.rejected
    assert expected.skipped == found.skipped
    assert 7 < len(said(found)) < 10
    assert said(expected) == said(found)
    assert "postgresql" == found.batch.connector
    assert TABLE == found.batch.source_table


def test_the_rows_are_those_of_the_database() -> None:
    """Value by value, by the oracle of the capture."""
    known = oracle(AVRO)[TABLE]
    (run,) = runs(AVRO, topic_of(AVRO, TABLE))
    batch = decoded(captured_spec(AVRO), run, Known(registered(AVRO))).batch
    rows = {
        json.loads(encode_row(key))["id"]: None if after is None else json.loads(encode_row(after))
        for key, after in zip(batch.keys, batch.afters, strict=True)
    }
    ended = {key: row for key, row in rows.items() if row is not None}

    assert {int(row["id"]) for row in known["rows"]} == ended.keys()
    for row in known["rows"]:
        for name, sql_type in known["columns"].items():
            if name not in {"extra", "iv"}:  # the one was never sent for older rows, the other is written otherwise
                got = ended[int(row["id"])].get(name.replace("-", "_"))
                assert not differences(sql_type, got, row[name]), name


def test_records_of_side_topics_are_skipped_by_name() -> None:
    """Transactions and logical messages are no changes of rows, in Avro as in JSON."""
    others = [record for record in records(AVRO) if not record["topic"].endswith("customers")]
    found = [
        decoded(captured_spec(AVRO, key=[]), CapturedRun([record]), Known(registered(AVRO))).skipped
        for record in others
    ]

    assert {"transaction", "message"} == {name for skipped in found for name in skipped}


def rows_of(found: Decoded) -> list[Any]:
    """The rows of what was decoded."""
    return [json.loads(encode_row(row)) for row in found.batch.afters]


def test_values_take_the_contracts_form() -> None:
    """Bytes, decimals, maps, lists with nulls, floats with the digits that were meant."""
    found = decoded(made_spec(), MadeRun([record(), record({"id": 2, "f": None, "n": None, "t": []})]), Known(KNOWN))

    assert [] == found.rejected
    assert {"id": 1, "f": 0.1, "d": -0.5, "b": "AP8=", "n": "123.45", "t": ["x:", None]} == {
        name: value for name, value in rows_of(found)[0].items() if name != "m"
    }
    assert {"a": None} == json.loads(rows_of(found)[0]["m"])
    assert [None, None, []] == [rows_of(found)[1][name] for name in ("f", "n", "t")]


@pytest.mark.parametrize(("value", "expected"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_float_that_is_no_number_is_not_turned_into_null(value: float, expected: str) -> None:
    """JSON has no word for it; JsonConverter writes a text, and so do we."""
    found = decoded(made_spec(), MadeRun([record({"f": value, "d": value})]), Known(KNOWN))

    assert [expected, expected] == [rows_of(found)[0][name] for name in ("f", "d")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "bad_framing"),
        (b'{"op":"c"}', "bad_framing"),
        (b"\0\0\0", "bad_framing"),
        (b"\0\0\0\0\x63rest", "unknown_schema"),
        (b"\0\0\0\0\x02", "bad_avro"),
        (b"\0\0\0\0\x03rest", "bad_registered_schema"),
        (b"\0\0\0\0\x04rest", "bad_registered_schema"),
        (b"\0\0\0\0\x01\x02", "no_op"),
        (b"\0\0\0\0\x05\x02a", "not_a_change"),
        (b"\0\0\0\0\x06broken", "broken_json"),
        (b'\0\0\0\0\x06{"schema":{"avro":99},"payload":{}}', "not_a_change"),
    ],
)
def test_what_cannot_be_read_goes_to_quarantine_and_its_neighbours_do_not(bad: bytes, reason: str) -> None:
    """One record, one reason with a hint; each record in exactly one place."""
    known = Known(
        {**KNOWN, 3: Registered("PROTOBUF", 'syntax = "proto3";'), 4: "{", 5: '"string"', 6: Registered("JSON", "{}")}
    )
    found = decoded(made_spec(), MadeRun([record(), (record()[0], bad), (record()[0], None), record()]), known)

    assert [(1, {"no_op": "not_a_change"}.get(reason, reason))] == [
        (rejected.index, {"no_op": "not_a_change"}.get(rejected.error.reason, rejected.error.reason))  # type: ignore[attr-defined]
        for rejected in found.rejected
    ]
    assert REASONS[found.rejected[0].error.reason].hint == found.rejected[0].error.hint != ""  # type: ignore[attr-defined]
    assert {"tombstone": 1} == found.skipped
    assert [100, 103] == found.batch.offsets


def test_a_key_that_cannot_be_read_is_told_as_such() -> None:
    """Its value alone would do, but the key is what names the row."""
    found = decoded(made_spec(), MadeRun([(b"\0\0\0\0\x63\x02", record()[1]), record()]), Known(KNOWN))

    assert ["unknown_schema"] == [rejected.error.reason for rejected in found.rejected]  # type: ignore[attr-defined]
    assert [101] == found.batch.offsets


def test_keys_and_keys_in_headers_may_be_json_or_framed() -> None:
    """The key, the value and the headers of a topic have a converter each."""
    moved = framed(2, MADE, envelope("d", after=None))
    headers = {0: [("__debezium.newkey", b'{"id":9}')], 1: [("__debezium.newkey", framed(1, KEY, {"id": 8}))]}
    broken = {2: [("__debezium.newkey", b"\0\0\0\0\x63\x02")]}
    run = MadeRun([(b'{"id":1}', moved), (record()[0], moved), (record()[0], moved)], headers | broken)

    found = decoded(made_spec(), run, Known(KNOWN))

    assert [{"id": 9}, {"id": 8}] == [json.loads(encode_row(key)) for key in found.batch.new_keys]
    assert [(2, "unknown_schema")] == [(bad.index, bad.error.reason) for bad in found.rejected]  # type: ignore[attr-defined]


def test_a_json_schema_behind_the_same_frame_is_read_as_json() -> None:
    """The payload is JSON; its encodings are those of the spec."""
    columns = {"id": "int", "n": "decimal(8,2)"}
    value = b"\0\0\0\0\x07" + compact(envelope(after={"id": 1, "n": "MDk="}))
    known = Known({7: Registered("JSON", "{}")})

    found = decoded(made_spec(columns=columns), MadeRun([(b'\0\0\0\0\x07{"id":1}', value)]), known)

    assert [{"id": 1, "n": "123.45"}] == rows_of(found)


def test_the_limit_in_bytes_is_that_of_what_came() -> None:
    """JSON of it may be longer: at the limit it goes through."""
    blob = record({"b": bytes(3_000)})
    size = len(blob[1] or b"")

    assert [] == decoded(made_spec(), MadeRun([blob]), Known(KNOWN), record_bytes_max=size).rejected
    (bad,) = decoded(made_spec(), MadeRun([blob]), Known(KNOWN), record_bytes_max=size - 1).rejected
    assert "too_large" == bad.error.reason  # type: ignore[attr-defined]


def test_a_registry_that_is_away_says_nothing_of_the_records() -> None:
    """Decoding raises, so that the stage waits; the same decoder goes on when it is back."""
    known = Known(KNOWN)
    decoder = format_of("debezium-avro", known).decoder(TableEntry(spec=made_spec()), LimitsConfig())
    run, memory = MadeRun([record()]), PartitionMemory()
    known.away = True
    with pytest.raises(RegistryUnavailable):
        decoder.decode(run, memory)
    known.away = False

    assert 1 == len(decoder.decode(run, memory).batch)
    known.away = True
    assert 1 == len(decoder.decode(run, memory).batch)


def test_a_table_of_this_format_needs_a_registry() -> None:
    """It is said when the spec is checked, with what to write."""
    with pytest.raises(ConfigurationError, match=r"registry: \{urls"):
        format_of("debezium-avro").decoder(TableEntry(spec=made_spec()), LimitsConfig())


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    """A registry that has the captured schemas."""
    with SchemaRegistry() as running:
        for number, text in registered(AVRO).items():
            running.register(f"s{number}", text, number=number)
        yield running


def test_the_capture_is_read_by_a_real_registry(server: SchemaRegistry) -> None:
    """Three ids, each asked for once; killed and back in between."""
    registry = Registry(RegistryConfig(urls=[server.url], timeout_seconds=2))
    spec = captured_spec(AVRO)
    decoder = format_of(spec.format, registry).decoder(TableEntry(spec=spec), LimitsConfig())
    (run,) = runs(AVRO, topic_of(AVRO, TABLE))
    server.kill()
    with pytest.raises(RegistryUnavailable):
        decoder.decode(run, PartitionMemory())
    server.start()

    found = decoder.decode(run, PartitionMemory())

    assert said(decoded(spec, run, Known(registered(AVRO)))) == said(found)
    assert sorted(f"/schemas/ids/{number}" for number in (1, 2, 5)) == sorted(asked.path for asked in server.asked)
