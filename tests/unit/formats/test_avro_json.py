"""Avro as JsonConverter's JSON: value by value, and whole records against the same records with a schema block."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats import encode_row
from connectors.formats.avro_json import shape_of
from connectors.formats.avro_schema import resolved
from connectors.formats.connect_schema import avro_of_connect
from tests.unit.formats.avro_made import (
    KEY,
    KNOWN,
    MADE,
    ROW_FIELDS,
    Known,
    decoded,
    framed,
    made_spec,
    record,
    schema_of,
)
from tests.unit.formats.made import MadeRun, compact, envelope


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ("float", 0.10000000149011612, 0.1),
        ("float", 3.4028234663852886e38, 3.4028235e38),
        ("float", 16777216.0, 16777216.0),
        ("float", -0.0, -0.0),
        ("double", 0.1, 0.1),
        (["null", "double"], None, None),
        ({"type": "array", "items": ["null", "double"]}, [None, math.inf], [None, "Infinity"]),
        ({"type": "map", "values": "float"}, {"a": math.nan}, {"a": "NaN"}),
    ],
)
def test_values_become_what_json_converter_writes(schema: Any, value: Any, expected: Any) -> None:
    """Floats of 32 bits by their shortest digits, what is no number as a text."""
    shape = shape_of(resolved(json.dumps(schema)))

    assert shape is not None
    assert expected == shape(value)


def test_a_map_whose_keys_are_no_texts_becomes_pairs() -> None:
    """As JsonConverter writes it."""
    keys, values = {"type": "int32", "optional": False}, {"type": "double", "optional": False}
    schema = avro_of_connect({"type": "map", "keys": keys, "values": values, "optional": False})
    shape = shape_of(resolved(json.dumps(schema)))

    assert shape is not None
    assert [[3, "NaN"]] == shape([{"key": 3, "value": math.nan}])
    assert shape_of(resolved('{"type": "record", "name": "R", "fields": [{"name": "a", "type": "bytes"}]}')) is None


ROWS = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**31), 2**31 - 1),
        "f": st.none() | st.floats(width=32),
        "d": st.none() | st.floats(),
        "b": st.none() | st.binary(max_size=6),
        "n": st.none() | st.integers(-(10**9), 10**9).map(lambda n: n.to_bytes(5, "big", signed=True)),
        "m": st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=2),
        "t": st.none() | st.lists(st.none() | st.text(max_size=4), max_size=3),
    }
)


def in_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JsonConverter writes it."""

    def value(found: Any) -> Any:
        if isinstance(found, bytes):
            return base64.b64encode(found).decode()
        if isinstance(found, float) and not math.isfinite(found):
            return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"
        return found

    return {name: value(found) for name, found in row.items()}


def comparable(row: Any) -> Any:
    """A row with the float of 32 bits as these hold it: the digits of its text may be fewer."""
    if row is None:
        return None
    read = json.loads(encode_row(row))
    return read | {"f": struct.pack("f", read["f"]) if isinstance(read["f"], float | int) else read["f"]}


@given(st.lists(st.tuples(ROWS, st.sampled_from("cru"), ROWS | st.none()), min_size=1, max_size=4))
def test_avro_says_what_json_with_a_schema_block_says(changes: list[Any]) -> None:
    """Whatever the rows are, changes and rejections of both are equal."""
    schema, avro, block = schema_of(ROW_FIELDS), [], []
    for after, op, before in changes:
        key = {"id": after["id"]}
        avro.append((framed(1, KEY, key), framed(2, MADE, envelope(op, after=after, before=before))))
        payload = envelope(op, after=in_json(after), before=before and in_json(before))
        block.append((compact(key), compact({"schema": schema, "payload": payload})))

    found = decoded(made_spec(before="full"), MadeRun(avro), Known(KNOWN))
    expected = decoded(made_spec(before="full", format="debezium-json"), MadeRun(block))

    assert [(bad.index, str(bad.error)) for bad in expected.rejected] == [
        (bad.index, str(bad.error)) for bad in found.rejected
    ]
    assert expected.batch.positions == found.batch.positions
    assert list(map(encode_row, expected.batch.keys)) == list(map(encode_row, found.batch.keys))
    for name in ("afters", "befores"):
        rows = zip(getattr(expected.batch, name), getattr(found.batch, name), strict=True)
        assert all(comparable(one) == comparable(other) for one, other in rows)


RECORD = record()


@given(st.data())
def test_whatever_is_broken_each_record_is_in_exactly_one_place(data: st.DataObject) -> None:
    """Bytes changed, cut off or added, in keys, values and keys of headers: nothing raises, and neighbours are read."""
    broken = [_broken(data, raw or b"") for raw in (*RECORD, RECORD[0])]
    run = MadeRun([RECORD, (broken[0], broken[1]), RECORD], {1: [("__debezium.oldkey", broken[2])]})

    found = decoded(made_spec(before="full"), run, Known(KNOWN))

    places = [offset - 100 for offset in found.batch.offsets] + [bad.index for bad in found.rejected]
    if found.stop is None:
        assert 3 == len(places) + sum(found.skipped.values())
        assert {0, 2} <= {offset - 100 for offset in found.batch.offsets}


def _broken(data: st.DataObject, raw: bytes) -> bytes:
    """Bytes with some of them changed."""
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(raw)))
        raw = raw[:at] + data.draw(st.binary(max_size=2)) + raw[at + data.draw(st.integers(0, 3)) :]
    return raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
