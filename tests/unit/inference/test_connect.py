"""From schemas of Kafka Connect to columns; and what is proposed where the blocks of a topic change."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats.reasons import Rejection
from connectors.inference import Evidence, new_samples
from connectors.inference.connect import column_of, spec_of_fields, way_of
from schemas.table import Column
from tests.unit.formats.made import compact, envelope

DECIMAL = "org.apache.kafka.connect.data.Decimal"
DIGITS = "connect.decimal.precision"


def field(type_: str, name: str | None = None, **parameters: str) -> dict[str, Any]:
    """Return a field of a schema."""
    return {"type": type_, "name": name, "parameters": parameters} if name else {"type": type_}


def array(items: dict[str, Any]) -> dict[str, Any]:
    """Return a field that holds lists."""
    return {"type": "array", "items": items}


@pytest.mark.parametrize(
    ("stated", "type_", "encoding"),
    [
        (field("int8"), "int", None),
        (field("int64"), "long", None),
        (field("float"), "float", None),
        (field("double"), "double", None),
        (field("boolean"), "boolean", None),
        (field("string"), "string", None),
        (field("bytes"), "binary", None),
        (field("struct"), "json", "struct"),
        (field("map"), "json", "map"),
        (field("struct", "io.debezium.data.geometry.Point"), "json", "struct"),
        (field("struct", "io.debezium.data.VariableScaleDecimal"), "string", "data.VariableScaleDecimal"),
        (field("bytes", DECIMAL, scale="2", **{DIGITS: "10"}), "decimal(10,2)", None),
        (field("bytes", DECIMAL, scale="0", **{DIGITS: "38"}), "decimal(38,0)", None),
        (field("bytes", DECIMAL, scale="2"), "string", "connect.Decimal(2)"),
        (field("bytes", DECIMAL, scale="30", **{DIGITS: "65"}), "string", "connect.Decimal(30)"),
        (field("bytes", DECIMAL, scale="-2", **{DIGITS: "5"}), "string", "connect.Decimal(-2)"),
        (field("bytes", DECIMAL, scale="9", **{DIGITS: "5"}), "string", "connect.Decimal(9)"),
        (field("bytes", "io.debezium.data.Bits", length="5"), "binary", "data.Bits"),
        (field("int32", "io.debezium.time.Date"), "date", None),
        (field("int64", "io.debezium.time.MicroTimestamp"), "timestamp", None),
        (field("int64", "io.debezium.time.Timestamp"), "timestamp", "time.Timestamp"),
        (field("int64", "io.debezium.time.MicroDuration"), "long", "time.MicroDuration"),
        (field("int32", "io.debezium.time.Year"), "int", "time.Year"),
        (field("string", "io.debezium.time.ZonedTimestamp"), "timestamptz", None),
        (field("string", "io.debezium.time.IsoTimestamp"), "timestamp", "time.IsoTimestamp"),
        (field("string", "io.debezium.time.Interval"), "string", "time.Interval"),
        (field("string", "io.debezium.data.Uuid"), "uuid", None),
        (field("string", "io.debezium.data.Enum", allowed="a,b"), "string", "data.Enum"),
        (field("string", "somebody.Elses"), "string", None),
        (array(field("int32")), "list<int>", None),
        (array(array(field("string"))), "list<list<string>>", None),
        (array(field("bytes", DECIMAL, scale="2", **{DIGITS: "5"})), "list<decimal(5,2)>", None),
    ],
)
def test_a_field_states_a_column(stated: dict[str, Any], type_: str, encoding: str | None) -> None:
    """Exactly; an encoding that is the default is left out."""
    assert Column.model_validate({"type": type_, "encoding": encoding}) == column_of(way_of(stated))


def test_a_default_of_one_dialect_is_written_where_it_is_not_that_of_all() -> None:
    """MySQL's timestamps are milliseconds unless it is said."""
    micros = way_of(field("int64", "io.debezium.time.MicroTimestamp"))

    assert column_of(micros).encoding is None
    assert "time.MicroTimestamp" == column_of(micros, ["postgresql", "mysql"]).encoding


def test_a_type_that_connect_does_not_have_is_refused() -> None:
    """As it is when a record with it is decoded."""
    with pytest.raises(Rejection, match="bad_schema"):
        way_of(field("int128"))


def test_a_schema_is_a_spec() -> None:
    """The names of its fields are the columns."""
    fields = {"id": field("int64"), "at": field("int32", "io.debezium.time.Date")}
    spec = spec_of_fields(fields, table="visits", topics=["t"], key=["id"])

    assert (["id"], {"id": "long", "at": "date"}) == (
        spec.key,
        {name: str(column.type) for name, column in spec.columns.items()},
    )


def evidence(*stated: tuple[dict[str, Any] | None, Any]) -> Evidence:
    """Return what is proposed of column `c`, stated and valued like this, record by record."""
    samples = new_samples()
    for at, (kind, value) in enumerate(stated):
        payload = compact(envelope("c", {"id": at, "c": value}))
        row = {
            "type": "struct",
            "field": "after",
            "fields": [{"type": "int32", "field": "id"}, {**(kind or {}), "field": "c"}],
        }
        block = b'{"schema":' + compact({"type": "struct", "fields": [row]}) + b',"payload":' + payload + b"}"
        samples.add(OneRecord("t", 0, at, compact({"id": at}), payload if kind is None else block, ()))
    (proposal,) = samples.tables()
    return proposal.columns["c"]


DATE = field("int32", "io.debezium.time.Date")


@pytest.mark.parametrize(
    ("stated", "type_", "encoding"),
    [
        ([(field("int32"), 1), (field("int64"), 2)], "long", None),
        ([(field("int64"), 1), (field("int32"), 2)], "long", None),
        ([(field("int32"), 1), (field("string"), "a")], "string", "any"),
        ([(field("string"), "a"), (field("boolean"), True)], "string", "any"),
        ([(field("int32"), 1), (DATE, 2)], "long", None),
        ([(DATE, 1), (field("string"), "a")], "string", "any"),
        ([(DATE, 1), (field("int64", "io.debezium.time.MicroTimestamp"), 2)], "long", "time.MicroTimestamp"),
        ([(array(field("int32")), [1]), (array(field("int64")), [2])], "list<long>", None),
        ([(array(field("int32")), [1]), (field("string"), "a")], "json", "struct"),
        ([(field("struct"), {"a": 1}), (field("int32"), 1)], "json", "struct"),
        ([(field("bytes", DECIMAL, scale="2", **{DIGITS: "6"}), "AeI="),
          (field("bytes", DECIMAL, scale="3", **{DIGITS: "6"}), "AeI=")], "decimal(7,3)", None),
        ([(field("bytes", DECIMAL, scale="30", **{DIGITS: "38"}), "AeI="),
          (field("bytes", DECIMAL, scale="0", **{DIGITS: "38"}), "AeI=")], "string", "connect.Decimal(0)"),
        ([(field("bytes", DECIMAL, scale="2", **{DIGITS: "6"}), "AeI="), (field("string"), "a")], "string", "any"),
        ([(field("string", "io.debezium.data.Enum", allowed="a"), "a"),
          (field("string", "io.debezium.data.Enum", allowed="a,b"), "b")], "string", "data.Enum"),
        ([(field("int32"), 1), (None, 2)], "int", None),
        ([(field("int32"), 1), (None, 2**40)], "long", None),
        ([(None, 1), (field("int32"), 2)], "long", None),
        ([(DATE, 2146033979)], "long", "time.Date"),
        ([(field("bytes", DECIMAL, scale="2", **{DIGITS: "6"}), 1.25)], "decimal(6,2)", "number"),
        ([(field("string", "io.debezium.time.ZonedTimestamp"), "infinity")], "string", "time.ZonedTimestamp"),
    ],
)  # fmt: skip
def test_blocks_that_differ_come_to_one_type(stated: list[Any], type_: str, encoding: str | None) -> None:
    """The narrowest that all of them are read as; also where a value has no form in the type that is stated."""
    found = evidence(*stated)

    assert (type_, encoding) == (found.type, found.encoding)
