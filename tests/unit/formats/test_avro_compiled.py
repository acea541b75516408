"""Compiled readers of Avro: they make of bytes what fastavro makes of them, or refuse what it should have refused."""

from __future__ import annotations

import json
import math
from io import BytesIO
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_one
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.avro import AvroDecoder
from connectors.formats.avro_compiled import DoesNotFit, compiled
from connectors.formats.avro_schema import bare, resolved
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from tests.unit.formats.test_avro import NODE, number, written

LONGS = st.integers(-(2**63), 2**63 - 1)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> Any:
    """Draw a schema of all kinds that are compiled, each named type under a name of its own."""
    names = iter(range(1_000))

    def of(left: int) -> Any:
        kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "enum", "fixed"]
        kind = draw(st.sampled_from([*kinds, "array", "record", "union"] if left else kinds))
        match kind:
            case "enum":
                return {"type": "enum", "name": f"E{next(names)}", "symbols": ["A", "B", "C"]}
            case "fixed":
                return {"type": "fixed", "name": f"F{next(names)}", "size": draw(st.integers(0, 3))}
            case "array":
                return {"type": "array", "items": of(left - 1)}
            case "record":
                return record(left - 1)
            case "union":
                return ["null", inner] if not isinstance(inner := of(0), list) and inner != "null" else "int"
        return kind

    def record(left: int) -> Any:
        fields = [{"name": f"f'\"{{}}\\{n}" if n else "a", "type": of(left)} for n in range(draw(st.integers(0, 4)))]
        named = [{**each, "name": f"f{n}"} for n, each in enumerate(fields)]
        return {"type": "record", "name": f"R{next(names)}", "fields": named}

    return record(depth)


def by_fastavro(schema: Any, payload: bytes) -> tuple[Any, int]:
    """Return what fastavro makes of bytes, and where it ends."""
    stream = BytesIO(payload)
    return fastavro.schemaless_reader(
        stream, fastavro.parse_schema(bare(resolved(json.dumps(schema)))), None
    ), stream.tell()


def comparable(value: Any) -> Any:
    """Return a value in which not-a-numbers are alike."""
    match value:
        case float() if math.isnan(value):
            return "nan"
        case dict():
            return {name: comparable(each) for name, each in value.items()}
        case list():
            return [comparable(each) for each in value]
    return value


@given(schema=schemas(), count=st.integers(1, 3))
def test_what_fastavro_writes_is_read_as_it_reads_it(schema: Any, count: int) -> None:
    """To the last byte, and whatever stands behind it."""
    read = compiled(resolved(json.dumps(schema)))
    assert read is not None
    for _ in range(count):
        payload = written(schema, generate_one(schema))
        value, end = read(payload + b"\x7f")

        assert len(payload) == end
        assert comparable(by_fastavro(schema, payload)[0]) == comparable(value)


@given(schema=schemas(), payload=st.binary(max_size=60))
def test_of_any_bytes_comes_what_fastavro_makes_of_them_or_nothing(schema: Any, payload: bytes) -> None:
    """It may refuse more: an index below zero, a boolean that is none, a number of more than 64 bits."""
    try:
        value = AvroDecoder(json.dumps(schema), limits=LimitsConfig(record_values_max=1_000)).decode(payload)
    except Rejection:
        return

    expected, end = by_fastavro(schema, payload)
    assert len(payload) == end
    assert comparable(expected) == comparable(value)


@given(LONGS)
def test_whole_numbers_of_64_bits_are_read(value: int) -> None:
    """Of one byte up to ten."""
    read = compiled(resolved('"long"'))
    assert read is not None
    payload = number(value)

    assert (value, len(payload)) == read(payload)
    assert (value, len(payload)) == read(payload + b"\xff")


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ("long", b"\xff" * 9 + b"\x02"),
        ("long", b"\x80" * 10),
        (["null", "int"], b"\x01\x02"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01"),
        ("string", b"\x01a"),
        ("bytes", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("boolean", b"\x02"),
    ],
)
def test_what_is_no_value_is_refused(schema: Any, payload: bytes) -> None:
    """More than 64 bits, branches and symbols below zero, lengths below zero, a boolean of neither."""
    read = compiled(resolved(json.dumps(schema)))
    assert read is not None
    with pytest.raises(DoesNotFit):
        read(payload)


def test_names_of_fields_are_data() -> None:
    """Whatever a registry holds, nothing of it is run."""
    name = 'a\': exit(), \'{b}\\n\n"""'
    read = compiled(resolved(json.dumps({"type": "record", "name": "R", "fields": [{"name": name, "type": "int"}]})))

    assert read is not None
    assert ({name: 1}, 1) == read(b"\x02")


def test_fields_that_nobody_reads_are_left_out() -> None:
    """What stands behind them is found all the same."""
    kinds = ["null", "boolean", "int", "long", "string", "bytes", ["null", "string"], ["long", "null"]]
    fields = [{"name": f"f{n}", "type": kind} for n, kind in enumerate(kinds)]
    schema = {"type": "record", "name": "R", "fields": [*fields, {"name": "last", "type": "int"}]}
    root = resolved(json.dumps(schema))
    values = [None, True, -(2**31), 2**62, "text", b"bytes", "more", None]
    payload = written(schema, {**{f"f{n}": value for n, value in enumerate(values)}, "last": 7})
    read = compiled(root, root.fields[:-1])

    assert read is not None
    assert ({"last": 7}, len(payload)) == read(payload)


@pytest.mark.parametrize("schema", [NODE, {"type": "map", "values": "int"}])
def test_what_is_not_compiled_is_left_to_fastavro(schema: Any) -> None:
    """Maps, and types that contain themselves."""
    assert compiled(resolved(json.dumps(schema))) is None
    assert AvroDecoder(json.dumps(schema), limits=LimitsConfig()).decode(b"\0") in ({"next": None}, {})
