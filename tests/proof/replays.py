"""Folders of captured records, replayed through `headgate decode`: the rows must be those that their source ended with.

A folder holds `events.jsonl` (the form that `headgate decode` reads), `rows.json` (every table at the end, by the
database itself) and `connector.json`, each gzipped or not; of Avro also `schemas.json`.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.formats.rows import can_be_named
from schemas.table import TableSpec
from tests.contract.kind_cases import WAYS, Line, decode
from tests.unit.formats.captures import spec_of_table
from tests.unit.formats.event_cases import cases
from tests.unit.formats.likeness import differences

Rows = dict[str, dict[str, dict[str, Any]]]  # by table and key
Excused = Callable[[str, str], bool]  # whether a column of a table is one that the source itself loses
_UNAVAILABLE = "(unavailable)"
# What no type of its own holds, such as a year beyond the microseconds of 64 bits: with `unrepresentable: null` it
# comes as null.
_UNHELD = re.compile(
    r"-?infinity|NaN|24:00:00.*|-\d+:\d\d:\d\d.*|(2[4-9]|[3-9]\d|\d{3}):\d\d:\d\d.*|29427\d-.*", re.IGNORECASE
)


@dataclass(frozen=True)
class Capture:
    """A folder of captured records."""

    folder: Path
    lines: list[Line]
    tables: dict[str, Any]
    settings: dict[str, str]

    @property
    def name(self) -> str:
        """Its name; of Maxwell's, with the tool before it."""
        inner = self.folder.name
        return f"maxwell-{inner}" if self.folder.parent.name == "maxwell" else inner

    def specs(self) -> dict[str, TableSpec]:
        """Return the specs of the tables with a key that have records, by the name of the table."""
        topics = {line["topic"] for line in self.lines}
        found: dict[str, TableSpec] = {}
        for table, known in self.tables.items():
            topic = self._topic_of(table)
            if known["primary_key"] and topic in topics and (spec := self._spec(table, topic)) is not None:
                found[table] = spec.model_copy(update={"table": f"t{len(found)}"})
        return found

    def _topic_of(self, table: str) -> str:
        if "topic.prefix" not in self.settings:  # of Maxwell, all tables in one
            return str(self.lines[0]["topic"])
        return re.sub(r"[^A-Za-z0-9._-]", "_", f"{self.settings['topic.prefix']}.{table}")

    def _spec(self, table: str, topic: str) -> TableSpec | None:
        changes: dict[str, Any] = {"topics": [topic]}
        if "connector.class" not in self.settings:
            case = cases().get(f"{self.name} {table}")
            return None if case is None else case.spec.model_copy(update=changes | {"source_table": table})
        converter = self.settings.get("value.converter", "")
        if converter.endswith("CloudEventsConverter"):
            changes["format"] = "cloudevents"
        if converter.endswith("AvroConverter"):
            changes["format"] = "debezium-avro"
        spec = spec_of_table(self.tables[table], self.settings, **changes)
        columns = {
            _written(name, spec): {
                **column.model_dump(),
                "unrepresentable": "quarantine" if name in spec.key else "null",
            }
            for name, column in spec.columns.items()
            if can_be_named(name)
        }
        return TableSpec.model_validate(spec.model_dump() | {"columns": columns})


def _written(column: str, spec: TableSpec) -> str:
    """Return a column's name as its records have it: Avro's have nothing but letters, digits and lines."""
    return re.sub(r"\W", "_", column) if spec.format == "debezium-avro" else column


def captures_of(folder: Path) -> Iterator[Capture]:
    """Yield the captures below a folder, by name."""
    for rows in sorted([*folder.rglob("rows.json"), *folder.rglob("rows.json.gz")]):
        inside = rows.parent
        lines = [json.loads(line) for line in _read(inside / "events.jsonl").splitlines()]
        yield Capture(inside, lines, json.loads(_read(rows.with_name("rows.json"))), _settings(inside))


def _settings(inside: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(_read(inside / "connector.json"))
    return found


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())


def replayed(capture: Capture, lines: Sequence[Line], folder: Path) -> Rows:
    """Return the rows that `headgate decode --rows` makes of records of a capture, with the specs of its tables."""
    events, given, specs = folder / "events.jsonl", folder / "specs", capture.specs()
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given.mkdir(exist_ok=True)
    for spec in specs.values():
        (given / f"{spec.table}.yaml").write_text(json.dumps(spec.model_dump(mode="json"), ensure_ascii=False))
    schemas = capture.folder / "schemas.json"
    found: Rows = {table: {} for table in specs}
    if not specs:
        return found
    _, documents, said = decode(
        events, "--rows", "--spec", given, *(("--schemas", schemas) if schemas.exists() else ())
    )
    assert "error:" not in said, said
    names = {spec.table: table for table, spec in specs.items()}
    for document in documents:
        table = names[document["table"]]
        row = document["row"] | dict.fromkeys(document.get("unavailable", ()), _UNAVAILABLE)
        found[table][_key(document["key"], specs[table].key)] = row
    return found


def _key(row: dict[str, Any], names: Sequence[str]) -> str:
    return json.dumps([str(row[name]) for name in names])


def differences_of(capture: Capture, folder: Path, *, seed: int, excused: Excused) -> dict[str, list[str]]:
    """Return how the rows of a capture differ from its source's, by the way that its records were replayed."""
    found = {}
    for way, arranged in WAYS.items():
        lines = arranged(capture.lines, random.Random(f"{seed} {capture.name}"))
        found[way] = unlike(capture, replayed(capture, lines, folder), excused)
    return found


def unlike(capture: Capture, found: Rows, excused: Excused) -> list[str]:
    """Return how rows differ from the source's."""
    specs, said = capture.specs(), list[str]()
    for table, rows in found.items():
        known = capture.tables[table]
        expected = {_key(row, known["primary_key"]): row for row in known["rows"]}
        said += [f"{table}: {key} is missing" for key in sorted(expected.keys() - rows.keys())]
        said += [f"{table}: {key} is gone at its source" for key in sorted(rows.keys() - expected.keys())]
        for key in sorted(expected.keys() & rows.keys()):
            for column, sql_type in known["columns"].items():
                ours, text = rows[key].get(_written(column, specs[table])), expected[key].get(column)
                if column not in expected[key] or excused(table, column) or _is_unheld(ours, text):
                    continue
                if difference := _difference(sql_type, ours, text):
                    said.append(f"{table}: {key} {column}: {difference}")
    return said


def _is_unheld(ours: Any, text: str | None) -> bool:
    """Tell whether a value is null, or holds nulls, where the database has what no type holds."""
    if text is None or not (ours is None or (isinstance(ours, list) and None in ours)):
        return False
    return any(_UNHELD.fullmatch(part.strip('"')) for part in text.strip("{}").split(","))


def _difference(sql_type: str, ours: Any, text: str | None) -> str | None:
    try:
        return differences(sql_type, ours, text)
    except (AssertionError, ValueError, ArithmeticError) as exc:
        return f"{ours!r} is not {text!r} ({exc})"
