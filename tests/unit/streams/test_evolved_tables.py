"""The directory of tables with what workers found: in force it is more than what people applied."""

from __future__ import annotations

import pytest

from schemas.errors import VersionRefused
from schemas.evolution import Evolved, EvolvedEntry, Found, key_of
from schemas.table import TableEntry, TableSpec
from schemas.types import parse_type
from streams.tables import TableDirectory

COLUMNS = {"id": "long", "visits": "int", "amount": "decimal(6,2)"}


def entry_of(columns: dict[str, str], **more: object) -> TableEntry:
    """Return an entry with these columns."""
    spec = TableSpec.model_validate({"table": "t", "topics": ["s"], "key": ["id"], "columns": columns})
    return TableEntry.model_validate({"spec": spec, **more})


def found(type_: str, under: str | None = None, **more: object) -> Found:
    """Return what a worker found."""
    return Found.model_validate({"type": type_, "under": under, **more})


def record(slot: str, revision: int, columns: dict[str, list[Found]]) -> dict[bytes, bytes | None]:
    """Return what a slot wrote."""
    evolved = Evolved(table="t", slot=slot, revision=revision, columns=columns)
    return {evolved.key: evolved.encoded()}


def tables_of(entry: TableEntry) -> TableDirectory:
    """Return a directory that has read one entry."""
    tables = TableDirectory()
    tables.update({b"t": entry.model_dump_json().encode()})
    return tables


def types_of(tables: TableDirectory) -> dict[str, str]:
    """Return the columns in force."""
    return {name: str(column.type) for name, column in tables["t"].spec.columns.items()}


def test_what_two_workers_found_is_in_force_beside_the_entry() -> None:
    """Columns of both are there, and the version counts both; the registered entry stays as people applied it."""
    tables = tables_of(entry_of(COLUMNS, schema_version=3))

    assert {"t"} == tables.update(record("w-0", 2, {"note": [found("string")], "visits": [found("long", "int")]}))
    assert {"t"} == tables.update(record("w-1", 1, {"extra": [found("boolean")], "visits": [found("long", "int")]}))
    assert {**COLUMNS, "visits": "long", "extra": "boolean", "note": "string"} == types_of(tables)
    assert tables["t"].schema_version == 6
    assert COLUMNS == {name: str(column.type) for name, column in tables.registered["t"].spec.columns.items()}
    assert tables.registered["t"].schema_version == 3


def test_the_same_record_again_changes_nothing() -> None:
    """A compacted topic is read from its start by whoever begins."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-0", 1, {"note": [found("string")]}))

    assert set() == tables.update(record("w-0", 1, {"note": [found("string")]}))


def test_what_was_found_is_of_no_table_that_is_not_registered() -> None:
    """It may come first, or stay behind; it makes no table."""
    tables = TableDirectory()

    assert set() == tables.update(record("w-0", 1, {"note": [found("string")]}))
    assert {} == dict(tables)
    assert {"t"} == tables.update({b"t": entry_of(COLUMNS).model_dump_json().encode()})
    assert "note" in tables["t"].spec.columns
    assert {"t"} == tables.update({key_of("t", "w-0"): None})
    assert COLUMNS == types_of(tables)
    assert not isinstance(tables["t"], EvolvedEntry)


def test_an_old_spec_applied_again_leaves_what_was_found() -> None:
    """Columns that rows were already written with do not go by an apply that knows nothing of them."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-0", 1, {"note": [found("string")], "visits": [found("long", "int")]}))
    tables.update({b"t": entry_of({**COLUMNS, "visits": "long", "note": "string"}).model_dump_json().encode()})
    tables.update({b"t": entry_of(COLUMNS).model_dump_json().encode()})

    assert {**COLUMNS, "visits": "long", "note": "string"} == types_of(tables)


def test_what_people_say_of_a_column_goes_before_what_was_found() -> None:
    """A column that was taken into the spec as something else is that, whatever was found before."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-0", 1, {"note": [found("boolean")], "visits": [found("long", "int", text=True)]}))
    taken = {**COLUMNS, "visits": "decimal(20,0)", "note": "json"}
    tables.update({b"t": entry_of(taken).model_dump_json().encode()})

    assert taken == types_of(tables)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        ({"visits": [found("int", "int", text=True)]}, {"visits": ("string", "text_of(int)")}),
        ({"visits": [found("long", "int", text=True)]}, {"visits": ("string", "text_of(long)")}),
        (
            {"visits": [found("int", "int", rest=True)]},
            {"visits": ("int", None), "visits__text": ("string", "rest_of(visits)")},
        ),
        ({"amount": [found("decimal(9,2)", "decimal(6,2)")]}, {"amount": ("decimal(9,2)", None)}),
        ({"more": [found("string", encoding="any")]}, {"more": ("string", "any")}),
    ],
)  # fmt: skip
def test_a_finding_says_what_the_column_is(
    finding: dict[str, list[Found]], expected: dict[str, tuple[str, str | None]]
) -> None:
    """Wider, a text that says what it was, with a column beside it, or new."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-0", 1, finding))
    columns = tables["t"].spec.columns

    assert expected == {name: (str(columns[name].type), columns[name].encoding) for name in expected}


def test_a_record_that_cannot_be_read_leaves_its_table_as_it_was() -> None:
    """Also one of a newer release; the error says whose it is."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-0", 1, {"note": [found("string")]}))
    key = key_of("t", "w-0")
    tables.update({key: b'{"v":2}'})

    assert isinstance(tables.unreadable[key.decode()], VersionRefused)
    for broken in (b"x", b"{}", b'{"v":1,"table":"t","slot":"s","revision":0,"columns":{}}'):
        tables.update({key: broken})
        assert key.decode() in tables.unreadable
    assert "note" in tables["t"].spec.columns


def test_columns_that_are_found_stand_behind_those_of_the_spec_by_name() -> None:
    """So all workers have one spec, whatever came first."""
    tables = tables_of(entry_of(COLUMNS))
    tables.update(record("w-1", 1, {name: [found("string")] for name in ("zz", "aa")}))
    tables.update(record("w-0", 1, {"mm": [found("string")]}))

    assert [*COLUMNS, "aa", "mm", "zz"] == list(tables["t"].spec.columns)


def test_a_spec_says_how_its_table_evolves() -> None:
    """Both keys have defaults, and the entry of a table without them is one that older releases read."""
    spec = entry_of(COLUMNS).spec
    text = TableSpec.model_validate({**spec.model_dump(), "type_changes": "text", "unknown_columns": "add"})

    assert ("widen", "ignore") == (spec.type_changes, spec.unknown_columns)
    assert "type_changes" not in spec.model_dump()
    assert text.model_dump()["type_changes"] == "text"
    assert parse_type("int") == parse_type(str(found("int").type))
