"""Avro: what real records say, and that no bytes whatever raise anything but a Rejection or take memory."""

from __future__ import annotations

import json
import tracemalloc
from io import BytesIO
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_one
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.avro import AvroDecoder
from connectors.formats.avro_scan import scan
from connectors.formats.avro_schema import MANY, bounds, resolved
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from tests.unit.formats.captures import CapturedRun, records, registered

LIMITS = LimitsConfig()
CASE = "pg-avro-confluent"
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
WIDE = {"type": "record", "name": "Wide", "fields": [{"name": f"n{n}", "type": "null"} for n in range(1000)]}
ROW = {
    "type": "record",
    "name": "Row",
    "namespace": "a.b",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "more", "type": {"type": "map", "values": "double"}},
        {"name": "mood", "type": {"type": "enum", "name": "Mood", "symbols": ["sad", "ok"]}},
        {"name": "four", "type": {"type": "fixed", "name": "Four", "size": 4}},
        {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "mood", "type": "Mood"}]}},
    ],
}
VALUE = {
    "id": -5,
    "price": b"\x30\x39",
    "at": 9_223_372_036_854_775_807,
    "tags": ["a", None],
    "more": {"x": 0.5},
    "mood": "ok",
    "four": b"1234",
    "inner": {"mood": "sad"},
}


def decoder(schema: Any, *references: Any, **limits: int) -> AvroDecoder:
    """A decoder of a schema."""
    texts = [json.dumps(reference) for reference in references]
    return AvroDecoder(json.dumps(schema), texts, limits=LimitsConfig(**limits))


def written(schema: Any, value: Any) -> bytes:
    """A value as fastavro writes it."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def number(value: int) -> bytes:
    """A whole number as Avro writes it."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, "long", value)
    return stream.getvalue()


def refused(schema: Any, payload: bytes, **limits: int) -> str:
    """The reason for which a payload is refused."""
    with pytest.raises(Rejection) as caught:
        decoder(schema, **limits).decode(payload)
    return caught.value.reason


def test_every_captured_key_and_value_is_read() -> None:
    """The schemas of a real registry fit the records that were written with them, to the last byte."""
    decoders = {number: AvroDecoder(text, limits=LIMITS) for number, text in registered(CASE).items()}
    run = CapturedRun(records(CASE))
    framed = [each for each in run.keys() + run.values() if each is not None]

    values = [decoders[int.from_bytes(each[1:5], "big")].decode(each[5:]) for each in framed]

    assert 44 == len(values)
    assert 8 == sum("after" in value for value in values)


def test_values_are_plain_and_logical_types_are_left_raw() -> None:
    """A decimal is its bytes, and a time beyond Python's own is its number."""
    schema = json.loads(json.dumps(ROW))
    raw = json.loads(json.dumps(ROW).replace("logicalType", "ignored"))

    assert VALUE == decoder(schema).decode(written(raw, VALUE))


def test_a_schema_may_refer_to_others() -> None:
    """Names of references are known, in the order in which they need each other."""
    inner = {"type": "record", "name": "a.Inner", "fields": [{"name": "n", "type": "int"}]}
    middle = {"type": "record", "name": "a.Middle", "fields": [{"name": "inner", "type": "Inner"}]}
    outer = {"type": "record", "name": "b.Outer", "fields": [{"name": "middle", "type": ["null", "a.Middle"]}]}

    assert {"middle": {"inner": {"n": 3}}} == decoder(outer, inner, middle).decode(b"\x02\x06")


@pytest.mark.parametrize(
    ("schema", "payload", "reason"),
    [
        ({"type": "array", "items": "null"}, number(50_000_000) + b"\0", "too_many_values"),
        ({"type": "array", "items": "null"}, number(-50_000_000) + b"\0\0", "too_many_values"),
        ({"type": "array", "items": WIDE}, number(5_000) + b"\0", "too_many_values"),
        ({"type": "array", "items": ["null", "int"]}, number(3_000_000) + bytes(3_000_001), "too_many_values"),
        ({"type": "map", "values": "null"}, number(400_000) + bytes(400_001), "too_many_values"),
        (NODE, b"\x02" * 4_000_000, "too_deep"),
    ],
)
def test_a_bomb_is_refused_before_memory_grows(schema: Any, payload: bytes, reason: str) -> None:
    """Few bytes that stand for many values are counted, not read."""
    tracemalloc.start()
    found = refused(schema, payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reason == found
    assert peak < 12 * 2**20


@pytest.mark.parametrize(
    ("schema", "payload", "reason"),
    [
        ("string", b"\x06ab", "bad_avro"),
        ("string", number(2**62) + b"a", "bad_avro"),
        ("bytes", number(-3) + b"abcd", "bad_avro"),
        ("string", b"\x02\xff", "not_utf8"),
        ("int", b"\x02\x02", "bad_avro"),
        ("int", b"", "bad_avro"),
        ("double", b"1234567", "bad_avro"),
        (["null", "int"], b"\x06\x02", "bad_avro"),
        (NODE, b"\x02\x00\x00", "bad_avro"),
        ({"type": "array", "items": "null"}, b"\x02", "bad_avro"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "bad_avro"),
    ],
)
def test_what_does_not_fit_is_refused(schema: Any, payload: bytes, reason: str) -> None:
    """Bytes too few, bytes left over, an index of no branch, a text that is none."""
    assert reason == refused(schema, payload)


def test_a_value_of_few_items_of_no_size_is_read() -> None:
    """Only the number of values counts, not the kind of the schema."""
    assert [None] * 900 == decoder({"type": "array", "items": "null"}).decode(number(900) + b"\0")
    assert {"next": {"next": None}} == decoder(NODE).decode(b"\x02\x00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '"nothing"',
        '{"type": "record", "name": "R"}',
        '{"type": "record", "name": "R", "fields": [{"name": "a"}]}',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}',
        '{"type": "fixed", "name": "F"}',
        '{"type": "enum", "name": "E", "symbols": "A"}',
        '{"type": "array"}',
        "[]",
        "7",
        'syntax = "proto3";',
        json.dumps(WIDE | {"name": 7}),
    ],
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    """A registry may hold anything; of an empty union no value can be read."""
    with pytest.raises(Rejection) as caught:
        AvroDecoder(text, limits=LIMITS).decode(b"\0")

    assert caught.value.reason in {"bad_registered_schema", "bad_avro"}


def test_a_schema_that_nests_deeper_than_records_may_is_refused() -> None:
    """`limits.record_depth_max` holds for Avro as it does for JSON."""
    schema: Any = "int"
    for _ in range(20):
        schema = {"type": "array", "items": schema}

    with pytest.raises(Rejection, match="bad_registered_schema"):
        decoder(schema, record_depth_max=10)


PLAIN = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
KINDS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        inner.map(lambda values: {"type": "map", "values": values}),
        inner.map(lambda branch: ["null", branch] if isinstance(branch, dict) else branch),
    ),
    max_leaves=4,
)
SCHEMAS = st.lists(KINDS, min_size=1, max_size=4).map(
    lambda types: {
        "type": "record",
        "name": "R",
        "fields": [{"name": f"f{n}", "type": kind} for n, kind in enumerate(types)],
    }
)


def count(value: Any) -> int:
    """How many values a value is made of, keys of maps not counted."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inside))


@given(schema=SCHEMAS, payload=st.binary(max_size=60))
def test_whatever_the_bytes_are_a_value_or_a_rejection_comes_of_them(schema: Any, payload: bytes) -> None:
    """And the bounds that are worked out of the schema hold for the value."""
    try:
        value = decoder(schema, record_values_max=1000).decode(payload)
    except Rejection:
        return

    assert count(value) <= bounds(resolved(json.dumps(schema))).values(len(payload))


@given(schema=SCHEMAS, data=st.data())
def test_the_scanner_takes_what_the_reader_takes(schema: Any, data: st.DataObject) -> None:
    """What fastavro writes is scanned to its end, and refused with a byte more or less."""
    payload = written(schema, generate_one(schema) if data.draw(st.booleans()) else _empty(schema))
    tree = resolved(json.dumps(schema))

    scan(tree, payload, values_max=MANY, depth_max=100)
    with pytest.raises(Rejection):
        scan(tree, payload + b"\0", values_max=MANY, depth_max=100)
    if payload:
        with pytest.raises(Rejection):
            scan(tree, payload[:-1], values_max=MANY, depth_max=100)


def _empty(schema: Any) -> Any:
    """The least value of a schema."""
    kind = schema if isinstance(schema, str) else schema["type"] if isinstance(schema, dict) else "null"
    if kind == "record":
        return {field["name"]: _empty(field["type"]) for field in schema["fields"]}
    least = {"boolean": False, "float": 0.0, "double": 0.0, "bytes": b"", "string": "", "array": [], "map": {}}
    return None if kind == "null" else least.get(kind, 0)
