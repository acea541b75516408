"""Types that a schema block names: vectors, geometry, bits, enums, structured temporals, and arrays kept as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.formats.made import after, compact, decode, envelope, reasons, with_source

DEBEZIUM = "io.debezium."
POINT = {"x": 1.0, "y": 2.5, "wkb": "AQEAAAA=", "srid": None}
BOX = {"wkb": "AQMAAAA=", "srid": 4326, "extensions": {"type": "BOX", "closed": "true"}}
SPARSE = {"dimensions": 5, "vector": [[1, 0.5], [3, 1.5]]}
DATE = {"year": 2024, "month": 2, "day": 29, "specialValue": None}


def blocked(field: dict[str, Any], value: Any, *, envelope_: dict[str, Any] | None = None) -> bytes:
    """Return a record whose schema block describes column v."""
    fields = [{"type": "int32", "optional": False, "field": "id"}, {"optional": True, "field": "v", **field}]
    schema = {"type": "struct", "fields": [{"type": "struct", "fields": fields, "optional": True, "field": "after"}]}
    made = (envelope_ or envelope()) | {"after": {"id": 1, "v": value}}
    return compact({"schema": schema, "payload": made})


def listed(items: str, name: str | None = None) -> dict[str, Any]:
    """Return the field of an array."""
    return {"type": "array", "items": {"type": items, "optional": True}} | ({} if name is None else {"name": name})


def struct(name: str) -> dict[str, Any]:
    """Return the field of a struct; what it holds is not looked at."""
    return {"type": "struct", "name": DEBEZIUM + name}


@pytest.mark.parametrize(
    ("type_", "field", "value", "expected"),
    [
        ("list<float>", listed("float", DEBEZIUM + "data.FloatVector"), [1.5, -2.5], [1.5, -2.5]),
        ("list<double>", listed("double", DEBEZIUM + "data.DoubleVector"), [1.5, 1e300], [1.5, 1e300]),
        ("json", struct("data.SparseDoubleVector"), SPARSE, compact(SPARSE).decode()),
        ("json", struct("data.geometry.Point"), POINT, compact(POINT).decode()),
        ("json", struct("data.geometry.Geometry"), BOX, compact(BOX).decode()),
        ("string", struct("data.geometry.Geography"), BOX, compact(BOX).decode()),
        ("date", struct("time.StructuredDate"), DATE, "2024-02-29"),
        ("json", struct("time.StructuredDate"), DATE, compact(DATE).decode()),
        ("list<int>", listed("int32"), [1, None], [1, None]),
        ("json", listed("int32"), [1, None], "[1,null]"),
        ("string", listed("string"), ["a", None], '["a",null]'),
        ("string", {"type": "bytes", "name": DEBEZIUM + "data.Bits", "parameters": {"length": "5"}}, "BQ==", "00101"),
        ("string", {"type": "bytes", "name": DEBEZIUM + "data.Bits"}, "BQ==", "101"),
        ("binary", {"type": "bytes", "name": DEBEZIUM + "data.Bits", "parameters": {"length": "5"}}, "BQ==", "BQ=="),
        ("string", {"type": "string", "name": DEBEZIUM + "data.Tsvector"}, "'a':1", "'a':1"),
        ("json", {"type": "map"}, {"a": None}, '{"a":null}'),
        ("int", {"type": "int8"}, -128, -128),
    ],
)
def test_a_value_is_read_as_its_schema_says(type_: str, field: dict[str, Any], value: Any, expected: Any) -> None:
    """The spec has a type and no encoding."""
    decoded = decode(blocked(field, value), blocked(field, None), columns={"id": "int", "v": type_})

    assert [] == reasons(decoded)
    assert [expected, None] == [after(decoded, 0)["v"], after(decoded, 1)["v"]]


@pytest.mark.parametrize(("connector", "expected"), [("mariadb", "b,c"), ("postgresql", "b\\,c")])
def test_only_the_labels_of_mysql_lose_their_escapes(connector: str, expected: str) -> None:
    """PostgreSQL's connector writes labels as they are."""
    field = {"type": "string", "name": DEBEZIUM + "data.Enum", "parameters": {"allowed": "a,b\\,c"}}
    sent = with_source(connector=connector, file="binlog.000001", pos=4, row=0)
    decoded = decode(blocked(field, "b\\,c", envelope_=sent), columns={"id": "int", "v": "string"})

    assert [] == reasons(decoded)
    assert expected == after(decoded)["v"]
