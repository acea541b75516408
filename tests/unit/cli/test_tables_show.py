"""One table as it runs: what the command line shows of its columns, and the spec that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli.tables_show import as_yaml, columns_of, files_for
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.evolution import Evolved, Found, in_force
from schemas.table import TableEntry, TableSpec
from schemas.types import parse_type
from streams.latest_views import with_latest_view
from streams.rule_views import with_own_views
from streams.rules import RuleEngine

SPEC = """
table: visits
topics: [clinic.public.visits]
key: [id]
columns: {id: int, count: int, amount: {type: 'decimal(6,2)', encoding: number}}
type_changes: new_column
unknown_columns: add
rules: [{rule: risen, kind: change, of: count, when: op = 'update'}]
"""
WARDS = """
table: beds
tenant: ward-3
topics: [ward-3.public.beds]
key: [id]
columns: {id: int}
"""
AT = "2026-11-26T14:00:00Z"


def records() -> list[Evolved]:
    """Return what a worker found: a new column, a wider one, and one with a rest."""
    columns = {
        "note": [Found(type=parse_type("string"), encoding="any", since=AT)],
        "count": [Found(type=parse_type("long"), under=parse_type("int"), sent_as=["visits"], since=AT)],
        "amount": [Found(type=parse_type("decimal(6,2)"), under=parse_type("decimal(6,2)"), rest=True, since=AT)],
    }
    return [Evolved(table="visits", slot="w", revision=2, columns=columns)]


def evolved_entry(text: str) -> TableEntry:
    """Return a table that runs with what was found."""
    return in_force(TableEntry(spec=read_document(text, TableSpec, name="spec")), records())


def test_each_column_says_what_it_was_and_since_when_it_is_not() -> None:
    """Those as they were registered say nothing of a time."""
    rows = {row.pop("column"): tuple(row.values()) for row in columns_of(evolved_entry(without_rules()))}

    assert {
        "id": ("int", None, "int", [], None),
        "count": ("long", None, "int", ["visits"], AT),
        "amount": ("decimal(6,2)", "number", "decimal(6,2)", [], None),
        "amount__text": ("string", "rest_of(amount)", None, [], AT),
        "note": ("string", "any", None, [], AT),
    } == rows


def test_a_folder_gets_the_specs_that_it_lacks_and_no_file_is_changed(tmp_path: Path) -> None:
    """Read back they are what runs; one that says something else is named, and nothing is written then."""
    entries = [evolved_entry(without_rules()), TableEntry(spec=read_document(WARDS, TableSpec, name="wards"))]
    files = files_for(entries, tmp_path / "tables")
    assert [tmp_path / "tables" / name for name in ("visits.yaml", "ward-3.beds.yaml")] == list(files)
    (tmp_path / "tables" / "own").mkdir(parents=True)
    (tmp_path / "tables" / "own" / "any.yaml").write_text(next(iter(files.values())))

    assert [tmp_path / "tables" / "ward-3.beds.yaml"] == list(files_for(entries, tmp_path / "tables"))
    (tmp_path / "tables" / "own" / "any.yaml").write_text(without_rules())
    with pytest.raises(ConfigurationError, match=r"any[.]yaml: what runs is not what these files say"):
        files_for(entries, tmp_path / "tables")


def test_what_is_exported_is_the_spec_in_force() -> None:
    """Applied as it is, it makes the registered spec what runs; nothing of it changes, and nothing is added."""
    entry = evolved_entry(without_rules())
    taken = read_document(as_yaml(entry), TableSpec, name="taken")

    assert entry.spec == taken
    assert taken.columns == in_force(TableEntry(spec=taken), records()).spec.columns


def without_rules() -> str:
    """Return the spec without its rule."""
    return "\n".join(line for line in SPEC.splitlines() if not line.startswith("rules:"))


def test_views_that_rules_make_for_themselves_are_not_exported() -> None:
    """Nobody wrote them: the next apply makes them again."""
    engine = RuleEngine()
    try:
        spec = read_document(SPEC, TableSpec, name="spec")
        registered = with_own_views(spec, engine)
    finally:
        engine.close()
    exported = read_document(as_yaml(TableEntry(spec=registered)), TableSpec, name="exported")

    assert registered.features
    assert spec == exported


def test_nor_is_the_view_of_a_latest_topic() -> None:
    """The setting is, which makes it again."""
    spec = read_document(f"{without_rules()}\noutput: {{latest: true}}\n", TableSpec, name="spec")
    registered = with_latest_view(spec, 1)
    exported = read_document(as_yaml(TableEntry(spec=registered)), TableSpec, name="exported")

    assert registered.features != spec.features
    assert spec == exported
