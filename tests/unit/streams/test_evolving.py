"""A decoder that stops where the table's spec may be bettered, and what it says that the spec needs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import encode_row, format_of
from connectors.formats.base import PartitionMemory
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.errors import TableStopped
from schemas.evolution import Evolved, Found, in_force, joined
from schemas.table import COLUMNS_MAX, TableEntry, TableSpec
from streams.apart import Once, Picked
from streams.evolving import EvolvingDecoder, TableEvolves, evolving
from tests.unit.formats.avro_made import Known, decoded
from tests.unit.formats.captures import registered, runs, topic_of
from tests.unit.formats.test_debezium_avro import AVRO, TABLE, captured_spec
from tests.unit.streams.changing import envelope, records_of

COLUMNS = {
    "id": "int", "visits": "int", "amount": {"type": "decimal(6,2)", "encoding": "number"}, "ratio": "float",
    "at": "timestamp", "name": "string", "tags": "list<int>", "born": "date",
}  # fmt: skip
POLICIES = ("widen", "text", "new_column", "quarantine", "pause")


def entry_of(**more: Any) -> TableEntry:
    """Return the entry of a table with columns of many types."""
    spec = {"table": "t", "topics": ["s"], "key": ["id"], "columns": COLUMNS, **more}
    return TableEntry(spec=TableSpec.model_validate(spec))


def decoder_of(entry: TableEntry, schemas: Any = None) -> Any:
    """Return the decoder of a table as NORMALIZE has it; `schemas` is the registry."""
    limits = LimitsConfig()
    return evolving(format_of(entry.spec.format, schemas).decoder(entry, limits), entry, limits, schemas)


def evolve(
    entry: TableEntry, records: Any, schemas: Any = None
) -> tuple[TableEntry, list[dict[str, Any]], list[Decoded]]:
    """Decode all records, with as many specs as that takes; return the last one, the rows and what was decoded."""
    rows: list[dict[str, Any]] = []
    parts: list[Decoded] = []
    registered, revision, start = entry, 0, 0
    columns: dict[str, list[Found]] = {}
    memory, count = PartitionMemory(), len(records.values())
    while True:
        decoded = decoder_of(entry, schemas).decode(Picked(records, range(start, count), records.topic), memory)
        rows += [json.loads(encode_row(row)) for row in decoded.batch.afters if row is not None]
        parts.append(decoded)
        if not isinstance(decoded.stop, TableEvolves):
            return entry, rows, parts
        assert decoded.stop_index is not None
        revision, start = revision + 1, start + decoded.stop_index
        assert revision < 50, "it would go on for ever"
        columns = joined(columns, {name: [found] for name, found in decoded.stop.columns.items()})
        entry = in_force(registered, [Evolved(table="t", slot="w", revision=revision, columns=columns)])


def types_of(entry: TableEntry) -> dict[str, str]:
    """Return the columns that are not as the spec has them."""
    before = entry_of().spec.columns
    return {name: str(column.type) for name, column in entry.spec.columns.items() if column != before.get(name)}


ROW = {"id": 1, "visits": 2, "amount": 3.25, "ratio": 0.5, "at": 0, "name": "a", "tags": [1], "born": 1}
WIDER = {
    "visits": (2**40, "long", str(2**40)),
    "amount": (123456.75, "decimal(8,2)", "123456.75"),
    "ratio": (1e300, "double", 1e300),
    "tags": ([1, 2**40], "list<long>", ["1", str(2**40)]),
}


@pytest.mark.parametrize("column", WIDER)
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "quarantine"])
def test_a_value_that_a_promotion_holds_widens_its_column(column: str, policy: str) -> None:
    """Whatever the policy is for what no promotion holds; the records before it are as the old spec says."""
    value, type_, form = WIDER[column]
    records = records_of([ROW, {**ROW, "id": 2, column: value}, {**ROW, "id": 3}])
    entry, rows, parts = evolve(entry_of(type_changes=policy), records)

    assert {column: type_} == types_of(entry)
    assert [1, 2, 3] == [row["id"] for row in rows]
    assert form == rows[1][column]
    assert [] == [rejected for part in parts for rejected in part.rejected]
    assert entry.schema_version == 2


def test_a_key_is_widened_too() -> None:
    """Also where the delete of a row alone says it."""
    gone = envelope({**ROW, "id": 2**40}, op="d")
    entry, rows, parts = evolve(entry_of(), records_of([ROW], extra=[(json.dumps({"id": 2**40}), gone)]))

    assert {"id": "long"} == types_of(entry)
    assert ["insert"] == parts[0].batch.operations
    assert ["delete"] == parts[1].batch.operations
    assert {"id": str(2**40)} == json.loads(encode_row(parts[1].batch.keys[0]))
    assert len(rows) == 1


STRANGE: dict[str, tuple[Any, str]] = {
    "visits": ("many", "many"),
    "amount": ("a lot", "a lot"),
    "ratio": ({"a": [1, None]}, '{"a":[1,null]}'),
    "at": ("yesterday", "yesterday"),
    "name": (17, "17"),
    "tags": ([[1]], "[[1]]"),
    "born": ([1.50], "[1.5]"),
}
KNOWN = {
    "visits": "2", "amount": "3.25", "ratio": "0.5", "at": "1970-01-01T00:00:00.000000", "name": "a", "tags": "[1]",
    "born": "1970-01-02",
}  # fmt: skip


@pytest.mark.parametrize("column", STRANGE)
def test_as_text_a_column_takes_whatever_comes(column: str) -> None:
    """A value that its type holds has the text of its form, so that rows of before and after compare."""
    value, text = STRANGE[column]
    entry, rows, parts = evolve(entry_of(type_changes="text"), records_of([ROW, {**ROW, column: value}, ROW]))

    assert {column: "string"} == types_of(entry)
    assert [text, KNOWN[column]] == [row[column] for row in rows[1:]]
    assert [] == [rejected for part in parts for rejected in part.rejected]


def block(**types: str) -> dict[str, Any]:
    """Return a schema block of rows with columns of these types, each of which may be null."""
    fields = [{"field": name, "type": type_, "optional": name != "id"} for name, type_ in types.items()]
    row = {"type": "struct", "name": "s.public.t.Value", "optional": True, "fields": fields}
    rows = [{**row, "field": name} for name in ("before", "after")]
    return {"type": "struct", "name": "s.public.t.Envelope", "optional": False, "fields": rows}


@pytest.mark.parametrize("op", ["c", "d"])
@pytest.mark.parametrize(("policy", "becomes"), [("text", {"visits": "string"}), ("pause", {})])
def test_a_null_says_by_its_schema_block_what_its_column_has_become(
    policy: str, becomes: dict[str, str], op: str
) -> None:
    """Also that of a delete, which has no value but its key's: neither goes to quarantine."""
    columns = {"id": "int", "visits": "int"}
    text = envelope({"id": 2, "visits": None}, op=op, schema=block(id="int32", visits="string"))
    number = envelope({"id": 1, "visits": 3}, schema=block(id="int32", visits="int32"))
    records = records_of([], extra=[('{"id":1}', number), ('{"id":2}', text)])
    entry, _, parts = evolve(entry_of(columns=columns, type_changes=policy), records)

    assert becomes == {name: "string" for name in columns if str(entry.spec.columns[name].type) == "string"}
    assert [] == [rejected for part in parts for rejected in part.rejected]
    assert (policy == "pause") == isinstance(parts[-1].stop, TableStopped)


@pytest.mark.parametrize("column", [name for name in STRANGE if name != "name"])
def test_in_a_new_column_is_what_the_type_does_not_hold(column: str) -> None:
    """Of the two columns one is null: a row says the value once."""
    value, text = STRANGE[column]
    entry, rows, _ = evolve(entry_of(type_changes="new_column"), records_of([ROW, {**ROW, column: value}, ROW]))

    assert {f"{column}__text": "string"} == types_of(entry)
    assert [(None, text), (rows[0][column], None)] == [(row[column], row[f"{column}__text"]) for row in rows[1:]]


def test_a_text_has_no_column_beside_it() -> None:
    """What a string column does not take by its encoding is a text like any other."""
    entry, rows, _ = evolve(entry_of(type_changes="new_column"), records_of([{**ROW, "name": 17}]))

    assert {"name": "string"} == types_of(entry)
    assert "17" == rows[0]["name"]


@pytest.mark.parametrize("policy", ["widen", "quarantine"])
def test_what_no_promotion_holds_goes_to_quarantine(policy: str) -> None:
    """As ever, and the table goes on."""
    entry, rows, parts = evolve(entry_of(type_changes=policy), records_of([ROW, {**ROW, "visits": "many"}, ROW]))

    assert {} == types_of(entry)
    assert [1] == [rejected.index for rejected in parts[0].rejected]
    assert len(rows) == 2


def test_quarantine_evolves_nothing() -> None:
    """Not even what a promotion would hold."""
    entry, _, parts = evolve(entry_of(type_changes="quarantine"), records_of([{**ROW, "visits": 2**40}]))

    assert {} == types_of(entry)
    assert 1 == len(parts[0].rejected)


def test_pause_stops_the_table_at_the_record() -> None:
    """What lies before it is out; somebody has to say what the column is."""
    _, rows, parts = evolve(entry_of(type_changes="pause"), records_of([ROW, {**ROW, "visits": "many"}, ROW]))

    assert 1 == len(rows)
    assert 1 == parts[-1].stop_index
    assert isinstance(parts[-1].stop, TableStopped)
    assert "type_changed" == parts[-1].stop.reason
    assert "visits" in parts[-1].stop.message
    assert "many" not in str(parts[-1].stop)


def test_a_new_column_comes_with_the_type_of_its_values() -> None:
    """All new ones of the records at hand at once; before, the rows do not have them."""
    new = {"note": "b", "count": 5, "flag": True, "more": {"x": 1}}
    entry, rows, parts = evolve(
        entry_of(unknown_columns="add"), records_of([ROW, {**ROW, **new}, {**ROW, "late": 1.5}])
    )

    assert {"note": "string", "count": "long", "flag": "boolean", "more": "json", "late": "double"} == types_of(entry)
    assert 2 == len(parts)
    assert {"note": "b", "count": "5", "flag": True, "more": '{"x":1}'} == {name: rows[1][name] for name in new}
    assert not new.keys() & rows[0].keys()
    assert entry.schema_version == 2


def test_a_null_alone_makes_no_column() -> None:
    """It says no type; the first value does, whatever was read before."""
    rows_ = [{**ROW, "note": None}, {**ROW, "note": None}, {**ROW, "note": 7}, {**ROW, "note": None}]
    entry, rows, parts = evolve(entry_of(unknown_columns="add"), records_of(rows_))

    assert {"note": "long"} == types_of(entry)
    assert 2 == parts[0].stop_index
    assert ["7", None] == [row["note"] for row in rows[2:]]
    assert all("note" not in row for row in rows[:2])


@pytest.mark.parametrize("name", ["_hg_mine", 'a"b', "n" * 300])
def test_what_cannot_be_a_column_is_passed_over(name: str) -> None:
    """Names of ours, names that no decoder finds, endless names: as with `ignore`."""
    entry, rows, _ = evolve(entry_of(unknown_columns="add"), records_of([{**ROW, name: 1}]))

    assert {} == types_of(entry)
    assert 1 == len(rows)


def test_a_table_has_no_more_columns_than_a_spec_may() -> None:
    """The record that would bring one more goes to quarantine, and says which column it was."""
    full = {**COLUMNS, **{f"c{n}": "int" for n in range(COLUMNS_MAX - len(COLUMNS) - 1)}}
    entry, _, parts = evolve(
        entry_of(unknown_columns="add", columns=full), records_of([{**ROW, "a": 1}, {**ROW, "b": 1}])
    )

    assert "a" in entry.spec.columns
    assert len(entry.spec.columns) == COLUMNS_MAX
    assert ["unknown_column"] == [rejected.error.reason for rejected in parts[-1].rejected]  # type: ignore[attr-defined]


def test_a_record_that_is_spoiled_otherwise_evolves_nothing() -> None:
    """It would go to quarantine with any spec: nothing is taken from it."""
    spoiled = {**ROW, "visits": 2**40, "at": "yesterday"}
    entry, rows, parts = evolve(entry_of(), records_of([ROW, spoiled, ROW]))

    assert {} == types_of(entry)
    assert (2, 1) == (len(rows), len(parts[0].rejected))


@pytest.mark.parametrize(("policy", "extra"), [("ignore", "note"), ("add", "_hg_note")])
def test_a_column_that_is_passed_over_keeps_no_other_from_evolving(policy: str, extra: str) -> None:
    """Only what is refused has to be mended."""
    entry, rows, _ = evolve(entry_of(unknown_columns=policy), records_of([ROW, {**ROW, extra: 1, "visits": 2**40}]))

    assert {"visits": "long"} == types_of(entry)
    assert [2, str(2**40)] == [row["visits"] for row in rows]


def test_a_column_that_is_refused_keeps_its_record_from_evolving_the_table() -> None:
    """It goes to quarantine with any type."""
    entry, rows, _ = evolve(entry_of(unknown_columns="quarantine"), records_of([{**ROW, "note": 1, "visits": 2**40}]))

    assert {} == types_of(entry)
    assert [] == rows


def test_the_memory_is_that_of_what_was_decoded() -> None:
    """What lies behind the stop is not known yet: it comes again."""
    entry, memory, one = entry_of(), PartitionMemory(), PartitionMemory()
    records = records_of([ROW, {**ROW, "visits": 2**40}])
    decoded = decoder_of(entry).decode(records, memory)
    decoder_of(entry).decode(Picked(Once(records), [0], "s"), one)

    assert 1 == len(decoded.batch)
    assert one == memory


def test_a_placeholder_is_no_value_of_another_type() -> None:
    """What the source did not send says nothing of the column."""
    row = {**ROW, "name": "__debezium_unavailable_value", "visits": 2**40}
    entry, _, parts = evolve(entry_of(type_changes="text"), records_of([row]))

    assert {"visits": "long"} == types_of(entry)
    assert [["name"]] == parts[-1].batch.unavailable


def test_a_column_beside_another_is_unavailable_with_it() -> None:
    """Else it would say of a value that was not sent that its type holds it."""
    columns = {**COLUMNS, "name": "json"}
    spec = entry_of(type_changes="new_column", columns=columns)
    rows_ = [{**ROW, "name": 1}, {**ROW, "name": "__debezium_unavailable_value"}]
    _, rows, parts = evolve(spec, records_of(rows_))

    assert [[], ["name", "name__text"]] == [sorted(names) for names in parts[-1].batch.unavailable]
    assert {"name": None, "name__text": "1"} == {name: rows[0][name] for name in ("name", "name__text")}


def test_a_table_that_cannot_evolve_has_its_decoder_alone() -> None:
    """It costs nothing where nothing may come of it."""
    texts = {"table": "t", "topics": ["s"], "columns": {"a": "string"}}
    fixed = TableEntry(spec=TableSpec.model_validate(texts))

    assert not isinstance(decoder_of(fixed), EvolvingDecoder)
    assert isinstance(decoder_of(entry_of()), EvolvingDecoder)


def test_columns_behind_the_id_of_a_registered_schema_evolve_as_well() -> None:
    """Avro of a real connector: a column that the spec leaves out, a decimal that is too narrow, another type."""
    (run,) = runs(AVRO, topic_of(AVRO, TABLE))
    whole = captured_spec(AVRO)
    columns = {name: str(column.type) for name, column in whole.columns.items() if name not in {"email", "extra"}}
    spec = captured_spec(AVRO, type_changes="text", unknown_columns="add").model_copy(
        update={"columns": TableSpec.model_validate(
            {"table": "t", "topics": ["s"], "columns": {**columns, "balance": "decimal(3,2)", "name": "int"}}).columns}
    )  # fmt: skip
    entry, rows, parts = evolve(TableEntry(spec=spec), run, Known(registered(AVRO)))
    expected = [json.loads(encode_row(row)) for row in decoded(whole, run, Known(registered(AVRO))).batch.afters if row]
    types = {name: str(column.type) for name, column in entry.spec.columns.items()}

    assert [] == [rejected for part in parts for rejected in part.rejected]
    assert ("string", "string", "int") == (types["name"], types["email"], types["extra"])
    assert types["balance"].startswith("decimal(")
    assert types["balance"] != "decimal(3,2)"
    assert expected == [{name: row[name] for name in whole} for row, whole in zip(rows, expected, strict=True)]


def test_other_tools_have_their_columns_evolved_as_well() -> None:
    """Rows of Maxwell: a new column, a wider one, one that is now text, one that stays away."""
    spec = {"table": "t", "topics": ["s"], "format": "maxwell", "key": ["id"], "type_changes": "text",
            "unknown_columns": "add", "columns": {"id": "int", "n": "int", "b": "boolean"}}  # fmt: skip
    rows_ = [{"id": 1, "n": 1, "b": 1}, {"id": 2**40, "n": "x", "b": "maybe", "new": 1.5, "void": None}]
    values = [
        {"database": "d", "table": "t", "type": "insert", "ts": 1, "xid": 1, "position": f"bin.000001:{n}", "data": row}
        for n, row in enumerate(rows_, 10)
    ]
    records = records_of([], extra=[(None, json.dumps(value)) for value in values])
    entry, rows, parts = evolve(TableEntry(spec=TableSpec.model_validate(spec)), records)

    assert [] == [rejected for part in parts for rejected in part.rejected]
    assert {"id": "long", "n": "string", "b": "string", "new": "double"} == {
        name: str(column.type) for name, column in entry.spec.columns.items()
    }
    assert {"id": str(2**40), "n": "x", "b": "maybe", "new": 1.5} == rows[1]
