"""Every captured column of every type can be read without loss: as text, a list of texts, or JSON."""

from __future__ import annotations

import re
from typing import Any

import pytest

from connectors.formats import PartitionMemory, format_of
from connectors.formats.keys import wire_encoding
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import Column, TableEntry, TableSpec
from schemas.types import Kind
from tests.contract.test_formats import tables
from tests.unit.formats.captures import configuration, oracle, runs, spec_of, topic_of

TYPED = [(case, table) for case, table in tables() if "-types" in case or "toast" in case]


def as_text(column: Column, sql: str, dialect: str) -> dict[str, Any]:
    """Return the column as text in its own encoding."""
    encoding = wire_encoding(column.type, column.encoding, dialect)
    if encoding == "connect.Decimal":  # a text does not say how many digits stand behind its point
        digits = re.search(r",(\d+)\)", sql)
        encoding += f"({digits[1] if digits else 2 if 'money' in sql else 0})"
    if encoding == "tinyint":
        encoding = "boolean"
    return {"type": "list<string>" if column.type.kind is Kind.LIST else "string", "encoding": encoding}


def decoded_of(case: str, table: str, columns: dict[str, Any]) -> list[Decoded]:
    """Return what becomes of the table's runs when its columns, all but the key's, are declared so."""
    spec = spec_of(case, table)
    kept = {name: column.model_dump() for name, column in spec.columns.items() if name in spec.key}
    declared = TableSpec.model_validate(spec.model_dump() | {"columns": columns | kept})
    decoder = format_of(spec.format).decoder(TableEntry(spec=declared), LimitsConfig())
    return [decoder.decode(run, PartitionMemory()) for run in runs(case, topic_of(case, table))]


@pytest.mark.parametrize(("case", "table"), TYPED)
def test_no_value_is_refused_as_text(case: str, table: str) -> None:
    """Infinities, NaN, 24:00, negative times, unsigned numbers, enums, bits, structured temporals: all of them."""
    dialect = "postgresql" if "Postgres" in configuration(case)["connector.class"] else "mysql"
    known = oracle(case)[table]["columns"]
    columns = {name: as_text(column, known[name], dialect) for name, column in spec_of(case, table).columns.items()}

    for decoded in decoded_of(case, table, columns):
        assert [] == [rejected.error.message for rejected in decoded.rejected]
        assert len(decoded.batch) > 0


@pytest.mark.parametrize(("case", "table"), TYPED)
def test_no_list_is_refused_as_json(case: str, table: str) -> None:
    """With a schema block or without one; also the arrays of arrays."""
    columns: dict[str, Any] = {
        name: {"type": "json", "encoding": "array"} if column.type.kind is Kind.LIST else column.model_dump()
        for name, column in spec_of(case, table, before="none").columns.items()
    }
    for column in columns.values():
        column["unrepresentable"] = "null"

    for decoded in decoded_of(case, table, columns):
        assert [] == [rejected.error.message for rejected in decoded.rejected]
