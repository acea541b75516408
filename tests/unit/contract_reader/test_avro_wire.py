"""Changes as Avro and back: what comes back says what the JSON said, and what is neither is refused by its index."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract_wire import ChangeReader, ChangeWriter
from connectors.formats.reasons import Rejection
from connectors.wire import Framing, IdKind, Registered, SchemaId
from schemas.config import LimitsConfig
from schemas.contract import Contract
from schemas.contract_avro import avro_key_schema, avro_value_schema
from schemas.errors import PoisonRecord
from schemas.types import parse_type

TYPES = {
    "id": "long", "odd name": "string", "small": "int", "money": "decimal(38,10)", "ratio": "double", "single": "float",
    "yes": "boolean", "day": "date", "clock": "time", "local": "timestamp", "moment": "timestamptz",
    "document": "json", "which": "uuid", "raw": "binary", "tags": "list<decimal(12,2)>", "deep": "list<list<long>>",
}  # fmt: skip
CONTRACT = Contract("a.b", "headgate.changes.a.b", ("id", "odd name"), {n: parse_type(t) for n, t in TYPES.items()})
DAYS = st.sampled_from(["2024-02-29", "-0043-03-15", "+10000-01-01", "0001-01-01", "1969-12-31"])
CLOCKS = st.sampled_from(["00:00:00.000000", "13:45:06.789123", "23:59:59.999999"])
MOMENTS = st.builds("{}T{}".format, DAYS, CLOCKS)
LONGS = st.integers(-(2**63), 2**63 - 1).map(str)
MONEY = st.integers(-(10**38) + 1, 10**38 - 1).map(
    lambda n: f"{'-' if n < 0 else ''}{abs(n) // 10**10}.{abs(n) % 10**10:010d}"
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-(2**31), 2**31 - 1),
    "money": MONEY,
    "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    "single": st.sampled_from([0.1, -2.5, "NaN"]),
    "yes": st.booleans(),
    "day": DAYS,
    "clock": CLOCKS,
    "local": MOMENTS,
    "moment": MOMENTS.map("{}Z".format),
    "document": st.just('{"a": 1}'),
    "which": st.just("7f1c2d3e-0000-4000-8000-000000000001"),
    "raw": st.sampled_from(["", "AAE=", "/w=="]),
    "tags": st.lists(st.none() | st.sampled_from(["1.50", "-0.01"]), max_size=3),
    "deep": st.lists(st.none() | st.lists(st.none() | LONGS, max_size=2), max_size=2),
}
KEYS = st.fixed_dictionaries({"id": LONGS, "odd name": st.text(max_size=5)})


class Schemas:
    """A registry that knows the schema of 7, and nothing else."""

    framing = Framing()

    def schema(self, schema_id: SchemaId) -> Registered:
        """Return it."""
        if schema_id != SchemaId(IdKind.NUMBER, 7):
            raise Rejection("unknown_schema", "it has none")
        return Registered("AVRO", json.dumps(avro_value_schema(CONTRACT)))


WRITER, READER = ChangeWriter(CONTRACT, 7, 8), ChangeReader(Schemas(), LimitsConfig())


@st.composite
def rows(draw: st.DrawFn, key: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Draw a row of a key, some of its columns null, absent or unavailable; return it with those unavailable."""
    row, unavailable = dict(key), []
    for name, values in VALUES.items():
        match draw(st.sampled_from("vvvnau")):
            case "v":
                row[name] = draw(values)
            case "n":
                row[name] = None
            case "u":
                unavailable.append(name)
    return row, unavailable


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a change of the contract."""
    op = draw(st.sampled_from(["insert", "update", "delete", "snapshot", "floor"]))
    key = draw(KEYS)
    after, unavailable = draw(rows(key)) if op not in {"delete", "floor"} else (None, [])
    source: dict[str, Any] = {
        "connector": "postgresql", "name": "clinic", "table": "public.t", "tx": draw(st.none() | st.just("7")),
        "snapshot": draw(st.booleans()), "origin": ["t", 0, 3, 4711], "first_origin": None, "previous": None,
    }  # fmt: skip
    if draw(st.booleans()):
        source |= {"origin": ["t", 1, 3, 4711, 2], "first_origin": ["u", 0, 0, 5], "previous": 4711, "rows": 3}
    return {
        "op": op, "key": None if op == "floor" else key, "old_key": draw(st.none() | KEYS), "new_key": None,
        "before": draw(st.none() | KEYS.map(lambda k: {**dict.fromkeys(TYPES), **k})), "after": after,
        "position": "0001", "ts": "2026-11-20T19:45:57.123456Z", "unavailable": unavailable, "source": source,
    }  # fmt: skip


def written(change: dict[str, Any]) -> tuple[bytes | None, bytes]:
    """Return key and value of a change as Avro."""
    key = None if change["key"] is None else msgspec.json.encode(change["key"])
    return WRITER.record(key, msgspec.json.encode(change))


@given(changes())
def test_what_comes_back_is_the_change(change: dict[str, Any]) -> None:
    """Of every year, of 38 digits, and with the five kinds of nothing in its row."""
    key, value = written(change)
    (again,) = READER.as_json([value])

    assert change == json.loads(again)
    assert b"\x00\x00\x00\x00\x07" == value[:5]
    assert (key is None) == (change["key"] is None)
    assert key is None or key[:5] == b"\x00\x00\x00\x00\x08"


def test_both_forms_are_read_side_by_side() -> None:
    """A topic has JSON first where a table was changed to Avro; what is JSON is not touched."""
    change = _plain()
    json_value, avro_value = msgspec.json.encode(change), written(change)[1]

    found = READER.as_json([json_value, avro_value])

    assert found[0] is json_value
    assert change == json.loads(found[1])
    only_json = [json_value, json_value]
    assert READER.as_json(only_json) is only_json


def test_without_a_registry_all_is_taken_for_json() -> None:
    """Its reader then says what is wrong with it."""
    values = [written(_plain())[1]]

    assert values is ChangeReader(None, LimitsConfig()).as_json(values)


@pytest.mark.parametrize(
    "broken",
    [
        b"\x00",
        b"\x00\x00\x00\x00\x07",
        b"\x00\x00\x00\x00\x07\xff\xff\xff",
        b"\x00\x00\x00\x00\x09" + b"x" * 40,
    ],
)
def test_what_is_no_change_is_named_by_its_index(broken: bytes) -> None:
    """Cut off, of another schema, or of an id that nobody knows; the error repeats no value."""
    with pytest.raises(PoisonRecord, match="record 1 is no change in Avro") as caught:
        READER.as_json([written(_plain())[1], broken])

    assert "xxxx" not in str(caught.value)


def test_any_part_of_a_change_is_refused_or_read() -> None:
    """Nothing else is ever raised."""
    value = written(_plain())[1]
    for end in range(5, len(value)):
        with pytest.raises(PoisonRecord):
            READER.as_json([value[:end]])


def test_a_table_without_a_key_has_changes_without_one() -> None:
    """And no schema of keys."""
    contract = Contract("t", "x", (), {"a": parse_type("int")})
    change = _plain() | {"key": None, "after": {"a": 5}, "unavailable": []}

    key, value = ChangeWriter(contract, 7, None).record(None, msgspec.json.encode(change))

    assert key is None
    assert avro_key_schema(contract) is None
    assert value[:5] == b"\x00\x00\x00\x00\x07"


def _plain() -> dict[str, Any]:
    source = {
        "connector": "postgresql", "name": "clinic", "table": "public.t", "tx": None, "snapshot": False,
        "origin": ["t", 0, 3, 4711], "first_origin": None, "previous": 4709,
    }  # fmt: skip
    return {
        "op": "update", "key": {"id": "5", "odd name": "ö"}, "old_key": None, "new_key": None, "before": None,
        "after": {"id": "5", "odd name": "ö", "small": 3}, "position": "0001", "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": [], "source": source,
    }  # fmt: skip
