"""Columns that change behind a schema block: there the record itself says what each of its values is."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from connectors.captured import OneRecord
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from streams.looked import Looker
from tests.unit.streams.changing import envelope, records_of
from tests.unit.streams.test_evolving import decoder_of, evolve

INT, LONG, DOUBLE, TEXT = ({"type": name} for name in ("int32", "int64", "double", "string"))
STAMP = {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}


def number(precision: int, scale: int) -> dict[str, Any]:
    """Return the field of a NUMERIC."""
    parameters = {"scale": str(scale), "connect.decimal.precision": str(precision)}
    return {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": parameters}


def unscaled(value: int) -> str:
    """Return a NUMERIC's digits as Debezium writes them."""
    return base64.b64encode(value.to_bytes(12, "big", signed=True)).decode()


def block(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an envelope whose rows have an id and these fields."""
    rows = [{**each, "optional": True, "field": name} for name, each in {"id": INT, **fields}.items()]
    row = {"type": "struct", "optional": True, "fields": rows}
    sides = [{**row, "field": "before"}, {**row, "field": "after"}]
    return {"type": "struct", "fields": sides, "optional": False, "name": "s.public.t.Envelope"}


def records(*rows: tuple[dict[str, Any], Mapping[str, Any]]) -> Any:
    """Return inserts of rows, each with the fields that its block states."""
    made = [
        (json.dumps({"id": n}), envelope({"id": n, **row}, lsn=n, schema=block(fields)))
        for n, (row, fields) in enumerate(rows, 1)
    ]
    return records_of([], extra=made)


def entry_of(columns: Mapping[str, Any], **more: Any) -> TableEntry:
    """Return the entry of a table with an id and these columns."""
    spec = {"table": "t", "topics": ["s"], "key": ["id"], "columns": {"id": "int", **columns}, **more}
    return TableEntry(spec=TableSpec.model_validate(spec))


def types_of(entry: TableEntry) -> dict[str, str]:
    """Return the columns but for the key."""
    return {name: str(column.type) for name, column in entry.spec.columns.items() if name != "id"}


def test_a_new_column_has_the_type_that_the_block_states_even_of_a_null() -> None:
    """The source says what it is before there is a value; several at once are one step."""
    fields = {"n": INT, "big": LONG, "price": number(12, 3), "at": STAMP, "note": TEXT}
    row = {"n": 1, "big": None, "price": unscaled(12_345), "at": 0, "note": None}
    entry, rows, parts = evolve(
        entry_of({"n": "int"}, unknown_columns="add"), records(({"n": 1}, {"n": INT}), (row, fields))
    )

    assert {"n": "int", "big": "long", "price": "decimal(12,3)", "at": "timestamp", "note": "string"} == types_of(entry)
    assert 2 == len(parts)
    assert {"n": 1, "big": None, "price": "12.345", "at": "1970-01-01T00:00:00.000000", "note": None} == {
        name: rows[1][name] for name in row
    }


def test_more_digits_at_the_same_scale_widen_a_decimal() -> None:
    """By as many as the values need."""
    fields = [{"price": number(precision, 2)} for precision in (6, 12, 12)]
    digits = [123_456, 12_345_678, 1]
    made = records(*[({"price": unscaled(each)}, field) for each, field in zip(digits, fields, strict=True)])
    entry, rows, _ = evolve(entry_of({"price": "decimal(6,2)"}), made)

    assert {"price": "decimal(8,2)"} == types_of(entry)
    assert ["1234.56", "123456.78", "0.01"] == [row["price"] for row in rows]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("int", INT, 5, "5"), (TEXT, "five", "five")),
        (("int", INT, 5, "5"), (DOUBLE, 5.5, "5.5")),
        (("decimal(6,2)", number(6, 2), unscaled(550), "5.50"), (TEXT, "five", "five")),
        (("decimal(6,2)", number(6, 2), unscaled(550), "5.50"), (number(9, 4), unscaled(55_005), "5.5005")),
        (("timestamp", STAMP, 0, "1970-01-01T00:00:00.000000"), (TEXT, "then", "then")),
        (("string", TEXT, "a", "a"), ({"type": "array", "items": TEXT}, ["a", None], '["a",null]')),
    ],
)
def test_a_column_that_becomes_a_text_has_one_text_for_each_value(
    before: tuple[str, Any, Any, str], after: tuple[Any, Any, str]
) -> None:
    """Rows of the old block that come late have the text that their type's form gives, and no base64 or number."""
    type_, old, value, text = before
    new, other, expected = after
    made = records(({"c": value}, {"c": old}), ({"c": other}, {"c": new}), ({"c": value}, {"c": old}))
    entry, rows, parts = evolve(entry_of({"c": type_}, type_changes="text"), made)

    assert {"c": "string"} == types_of(entry)
    assert [expected, text] == [rows[1]["c"], rows[2]["c"]]
    assert [] == [rejected for part in parts for rejected in part.rejected]


def test_the_rest_of_a_column_is_told_by_the_block() -> None:
    """What is now a text is none of a timestamp, whatever it looks like."""
    made = records(({"c": 0}, {"c": STAMP}), ({"c": "0"}, {"c": TEXT}), ({"c": None}, {"c": TEXT}))
    entry, rows, _ = evolve(entry_of({"c": "timestamp"}, type_changes="new_column"), made)

    assert {"c": "timestamp", "c__text": "string"} == types_of(entry)
    assert [(None, "0"), (None, None)] == [(row["c"], row["c__text"]) for row in rows[1:]]


def test_without_a_policy_another_type_goes_to_quarantine() -> None:
    """A block whose type cannot be read as the column's is refused for each of its records, as ever."""
    made = records(({"c": 1}, {"c": INT}), ({"c": "x"}, {"c": TEXT}))
    _, rows, parts = evolve(entry_of({"c": "int"}), made)

    assert 1 == len(rows)
    assert ["bad_schema"] == [rejected.error.reason for rejected in parts[0].rejected]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"c": {"type": "int", "encoding": "text_of(int)"}}, "of a string"),
        ({"c": {"type": "string", "encoding": "text_of(number)"}}, "is not a type"),
        ({"c": {"type": "string", "encoding": "text_of(int as nothing)"}}, "no encoding"),
        ({"c": {"type": "string", "encoding": "rest_of(nothing)"}}, "none of the table"),
        ({"c": {"type": "string", "encoding": "rest_of(id)"}}, "one of the key"),
    ],
)
def test_an_encoding_of_workers_that_cannot_be_is_refused(columns: dict[str, Any], says: str) -> None:
    """Before anything is read with it."""
    with pytest.raises(ConfigurationError, match=says):
        decoder_of(entry_of(columns))


def test_decode_shows_what_a_table_becomes_by_its_policies() -> None:
    """A given spec that adds columns, or makes texts of them, is followed; another shows what it refuses."""
    made = records(({"c": 1}, {"c": INT}), ({"c": "x", "d": 2}, {"c": TEXT, "d": LONG}))
    changes = {}
    for policy in ("widen", "text"):
        more: dict[str, Any] = {"type_changes": policy, "unknown_columns": "add" if policy == "text" else "ignore"}
        spec = entry_of({"c": "int"}, **more).spec
        looker = Looker({"t": spec}, LimitsConfig())
        each_record = zip(made.keys(), made.values(), strict=True)
        ones = [OneRecord("s", 0, n, key, value, ()) for n, (key, value) in enumerate(each_record)]
        found = [looked for one in ones for looked in looker.look(one)]
        changes[policy] = [None if each.change is None else json.loads(bytes(each.change))["after"] for each in found]

    assert {"widen": [{"id": 1, "c": 1}, None], "text": [{"id": 1, "c": 1}, {"id": 2, "c": "x", "d": "2"}]} == changes
