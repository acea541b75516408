"""Connect's schemas as Avro's and back: nothing is lost, and real schemas are what their twins in JSON say."""

from __future__ import annotations

import base64
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.avro_schema import Type, resolved
from connectors.formats.connect_schema import (
    avro_of_connect,
    connect_of_avro,
    fields_of_envelope,
    fields_of_struct,
    sanitised,
)
from connectors.formats.reasons import Rejection
from connectors.formats.schemablock import encoding_of, key_fields, row_fields
from tests.unit.formats.captures import CapturedRun, records, registered

AVRO, TWIN = "pg-avro-confluent", "pg-avro-twin-json"
TEXT = {"type": "string", "optional": False}


def tree(schema: Any) -> Type:
    """The tree of a schema."""
    return resolved(json.dumps(schema))


def there_and_back(schema: dict[str, Any]) -> dict[str, Any]:
    """What comes of a schema by way of Avro's."""
    return connect_of_avro(tree(avro_of_connect(schema)))


def twin(side: str) -> Any:
    """The schema block of the first record of the twin in JSON."""
    run = CapturedRun([record for record in records(TWIN) if record["topic"].endswith("customers")])
    first = (run.values() if side == "value" else run.keys())[0]
    assert first is not None
    return json.loads(first)["schema"]


def adjusted(document: Any) -> Any:
    """A schema block with names adjusted as the Avro connector was told to."""
    text = json.dumps(document)
    prefix = document["name"].partition(".")[0]
    return json.loads(text.replace(f'"{prefix}.', '"capavro.').replace("odd-name", "odd_name"))


def without_docs(document: Any) -> Any:
    """A document without docs, which one converter keeps and another does not."""
    if isinstance(document, list):
        return [without_docs(each) for each in document]
    if isinstance(document, dict):
        return {key: without_docs(each) for key, each in document.items() if key not in {"doc", "connect.doc"}}
    return document


def test_the_rows_of_a_real_envelope_are_those_of_its_twin() -> None:
    """Names, types, versions, parameters, defaults: field by field what JsonConverter wrote in its schema block."""
    expected = row_fields(adjusted(twin("value")))
    found = fields_of_envelope(resolved(registered(AVRO)[2]))

    assert expected is not None
    assert found is not None
    assert without_docs(expected) == without_docs(found)
    assert {name: encoding_of(field) for name, field in expected.items()} == {
        name: encoding_of(field) for name, field in found.items()
    }
    assert ("connect.Decimal", 2) == encoding_of(found["balance"])
    assert ("data.VariableScaleDecimal", None) == encoding_of(found["big"])


def test_a_real_key_is_that_of_its_twin() -> None:
    """A struct of a column."""
    found = fields_of_struct(resolved(registered(AVRO)[1]))

    assert key_fields(adjusted(twin("key"))) == found


def test_a_real_schema_is_written_as_its_converter_wrote_it() -> None:
    """From the block of JsonConverter to what stands in the registry, but for the order and docs."""
    meant = avro_of_connect(adjusted(twin("value")))
    stands = json.loads(registered(AVRO)[2])

    assert _plainly(stands, "") == _plainly(meant, "")


def _plainly(document: Any, space: str) -> Any:
    """A schema with full names, and without docs: converters write namespaces apart."""
    if isinstance(document, list):
        return [_plainly(each, space) for each in document]
    if isinstance(document, str):
        return document if "." in document or not document[:1].isupper() else f"{space}.{document}"
    if not isinstance(document, dict):
        return document
    kept = {key: each for key, each in document.items() if key not in {"doc", "connect.doc", "namespace"}}
    if kept.get("type") == "record":
        name = kept["name"]
        inside = document.get("namespace") or (name.rpartition(".")[0] if "." in name else space)
        fields = [{**each, "type": _plainly(each["type"], inside)} for each in kept["fields"]]
        return {**kept, "name": f"{inside}.{name.rpartition('.')[2]}", "fields": fields}
    return {key: _plainly(each, space) if key in {"type", "items", "values"} else each for key, each in kept.items()}


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
PLAIN = {
    "int8": st.integers(-128, 127),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=5).map(lambda raw: base64.b64encode(raw).decode()),
}
SEMANTIC = {
    "int32": ["io.debezium.time.Date", "org.apache.kafka.connect.data.Date", "org.apache.kafka.connect.data.Time"],
    "int64": ["io.debezium.time.MicroTimestamp", "org.apache.kafka.connect.data.Timestamp"],
    "string": ["io.debezium.data.Json", "io.debezium.data.Enum"],
    "bytes": ["org.apache.kafka.connect.data.Decimal", "io.debezium.data.Bits"],
}


@st.composite
def plain(draw: Any) -> tuple[dict[str, Any], Any]:
    """A schema of one value, and a strategy of its values in the form of a schema block."""
    physical = draw(st.sampled_from(sorted(PLAIN)))
    schema: dict[str, Any] = {"type": physical, "optional": draw(st.booleans())}
    if physical in SEMANTIC and draw(st.booleans()):
        schema |= {"name": draw(st.sampled_from(SEMANTIC[physical])), "version": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        schema["parameters"] = {"scale": str(draw(st.integers(-3, 40))), "connect.decimal.precision": "38"}
    if draw(st.booleans()):
        schema["doc"] = draw(st.text(max_size=5))
    return schema, PLAIN[physical]


def holders(inner: Any) -> Any:
    """Arrays, maps and structs of schemas, with the values of each."""

    @st.composite
    def holder(draw: Any) -> tuple[dict[str, Any], Any]:
        schema, values = draw(inner)
        optional = {"optional": draw(st.booleans())}
        kind = draw(st.sampled_from(["array", "map", "pairs", "struct"]))
        if kind == "array":
            return {"type": "array", "items": schema, **optional}, st.lists(values, max_size=2)
        if kind == "map":
            made = {"type": "map", "keys": TEXT, "values": schema, **optional}
            return made, st.dictionaries(st.text(max_size=3), values, max_size=2)
        if kind == "pairs":
            keys, of_keys = draw(plain())
            if keys.keys() == TEXT.keys() and keys["type"] == "string":
                keys["optional"] = True  # else it were a map of texts
            made = {"type": "map", "keys": keys, "values": schema, **optional}
            return made, st.lists(st.tuples(of_keys, values).map(list), max_size=2)
        parts = {name: draw(inner) for name in draw(st.sets(NAMES, min_size=1, max_size=3))}
        fields = [{**part, "field": name} for name, (part, _) in parts.items()]
        named = {"name": f"a.b.{draw(st.sampled_from(['One', 'Two']))}"} if draw(st.booleans()) else {}
        made = {"type": "struct", "fields": fields, **named, **optional}
        return made, st.fixed_dictionaries({name: of for name, (_, of) in parts.items()})

    return holder()


SCHEMAS = st.recursive(plain(), holders, max_leaves=5)


@given(found=SCHEMAS, data=st.data())
def test_nothing_is_lost_on_the_way_through_avro(found: tuple[dict[str, Any], Any], data: st.DataObject) -> None:
    """Types, names, versions, parameters, optional, defaults of every type; and fastavro reads the schema too."""
    schema, values = found
    if data.draw(st.booleans()):
        schema = {**schema, "default": data.draw(values)}
    row = {"type": "struct", "name": "x.Row", "optional": False, "fields": [{**schema, "field": "c"}]}

    avro = avro_of_connect(row)

    assert row == connect_of_avro(tree(avro))
    fastavro.parse_schema(json.loads(json.dumps(avro)))


@pytest.mark.parametrize(("scale", "expected"), [("38", True), ("39", False), ("-1", False)])
def test_a_decimal_that_avro_does_not_have_is_bytes_with_its_parameters(scale: str, expected: bool) -> None:
    """Oracle's NUMBER(2,5) has more digits behind the point than digits; Connect does not mind."""
    name, parameters = "org.apache.kafka.connect.data.Decimal", {"scale": scale, "connect.decimal.precision": "38"}
    schema = {"type": "bytes", "optional": False, "name": name, "version": 1, "parameters": parameters}
    avro = avro_of_connect(schema)

    fastavro.parse_schema(json.loads(json.dumps(avro)))
    assert expected == ("logicalType" in avro)
    assert schema == connect_of_avro(tree(avro))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("odd-name", "odd_name"),
        ("2nd", "_2nd"),
        ("a.b-c.D", "a.b_c.D"),
        ("Straße mit", "Stra_e_mit"),
        ("", "_"),
        ("ok_1", "ok_1"),
    ],
)
def test_names_become_what_avro_allows(name: str, expected: str) -> None:
    """As Debezium adjusts them."""
    assert expected == sanitised(name)


def test_a_field_whose_name_avro_does_not_allow_is_adjusted() -> None:
    """With its defaults; what it was called is not remembered, for no converter does."""
    field = {"type": "int32", "optional": False, "field": "odd-name"}
    inner = {"type": "struct", "optional": True, "fields": [field], "default": {"odd-name": 3}, "field": "in-ner"}

    back = there_and_back({"type": "struct", "optional": False, "name": "a.R", "fields": [inner]})

    assert {"odd_name": 3} == back["fields"][0]["default"]
    assert "odd_name" == back["fields"][0]["fields"][0]["field"]
    assert "in_ner" == back["fields"][0]["field"]


def test_two_structs_of_one_name_that_differ_are_kept_apart() -> None:
    """The second gets a number in Avro, and keeps its name in Connect."""
    one = {"type": "struct", "name": "a.S", "optional": False, "fields": [{**TEXT, "field": "x"}]}
    two = {"type": "struct", "name": "a.S", "optional": False, "fields": [{**TEXT, "field": "y"}]}
    fields = [{**one, "field": "p"}, {**two, "field": "q"}, {**one, "field": "r"}]
    row = {"type": "struct", "name": "a.R", "optional": False, "fields": fields}

    avro = avro_of_connect(row)

    assert ["a.S", "a.S2"] == [avro["fields"][0]["type"]["name"], avro["fields"][1]["type"]["name"]]
    assert "a.S" == avro["fields"][2]["type"]
    assert row == connect_of_avro(tree(avro))


@pytest.mark.parametrize(
    ("avro", "expected"),
    [
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, ("connect.Decimal", 2)),
        ({"type": "fixed", "name": "F", "size": 8, "logicalType": "decimal", "precision": 9}, ("connect.Decimal", 0)),
        ({"type": "long", "logicalType": "timestamp-micros"}, ("time.MicroTimestamp", None)),
        ({"type": "long", "logicalType": "timestamp-millis"}, ("connect.Timestamp", None)),
        ({"type": "int", "logicalType": "date"}, ("connect.Date", None)),
        ({"type": "string", "logicalType": "uuid"}, ("data.Uuid", None)),
        ({"type": "long", "logicalType": "what"}, ("int", None)),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, ("string", None)),
        ({"type": "fixed", "name": "F", "size": 8}, ("base64", None)),
    ],
)
def test_schemas_that_no_converter_wrote_are_understood(avro: Any, expected: tuple[str, int | None]) -> None:
    """Avro's own logical types, enums and fixed have encodings too."""
    assert expected == encoding_of(connect_of_avro(tree(avro)))


@pytest.mark.parametrize(
    "avro",
    [
        "null",
        ["int", "string"],
        ["null"],
        {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]},
        {"type": "bytes", "connect.default": 7},
        {"type": "array", "items": "int", "connect.default": 7},
    ],
)
def test_what_connect_does_not_have_is_refused(avro: Any) -> None:
    """Rows have no such types."""
    with pytest.raises(Rejection, match="bad_registered_schema"):
        connect_of_avro(tree(avro))


def test_a_schema_that_grows_when_written_out_is_refused() -> None:
    """Thirty types, each of two of the next, are a thousand million."""
    inner: Any = {"type": "record", "name": "R30", "fields": []}
    for number in range(29, -1, -1):
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": f"R{number + 1}"}]
        inner = {"type": "record", "name": f"R{number}", "fields": fields}

    with pytest.raises(Rejection, match="bad_registered_schema"):
        connect_of_avro(tree(inner))


def test_what_is_no_envelope_has_no_rows() -> None:
    """Such as a key, or a text."""
    assert fields_of_envelope(resolved(registered(AVRO)[1])) is None
    assert fields_of_envelope(tree("string")) is None
    assert {} == fields_of_struct(tree("string"))
    with pytest.raises(ValueError, match="no type of Kafka Connect"):
        avro_of_connect({"type": "int128"})
