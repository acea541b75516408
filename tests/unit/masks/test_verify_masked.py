"""A source compared with places that hold what masks leave: equal behind the masks, and what is not is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from connectors.sources.base import Dialect, KeyRange, SourceTable
from schemas.config import MasksConfig
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.table import TableSpec
from schemas.types import ColumnType
from streams.mask_keys import MaskKeys
from streams.mask_values import hashed, tokens
from streams.verify.behind_masks import MaskedSource, comparable
from streams.verify.compare import UNAVAILABLE
from streams.verify.run import Options, Report, Verification

SECRET = b"k" * 32
KEYS = MaskKeys(MasksConfig.model_validate({"keys": {"default": "env:K"}}), {"K": SECRET.decode()})
COLUMNS = """
columns:
  id: int
  name: {type: string, mask: hash}
  card: {type: int, mask: token}
  born: {type: date, mask: {how: truncate, to: year}}
  income: {type: "decimal(12,2)", mask: null}
  weight: {type: double, mask: hash}
  ssn: {type: string, mask: drop}
"""
ROWS = [(1, "Ada", 7, "1815-12-10", 1, 2.5, "x"), (2, None, None, "1906-12-09", None, None, "y")]


def spec_of(columns: str = COLUMNS) -> TableSpec:
    """Return a spec."""
    return read_document(f"table: people\ntopics: [x]\nkey: [id]\n{columns}", TableSpec, name="spec")


class Session:
    """A source that is SQL of DuckDB."""

    def run(self, query: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        with duckdb.connect() as connection:
            connection.execute(
                "CREATE TABLE people (id INT, name VARCHAR, card INT, born DATE, income DECIMAL(12,2), weight DOUBLE,"
                "ssn VARCHAR)"
            )
            connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?, ?)", ROWS)
            return connection.execute(query.replace("%s", "?"), list(parameters)).fetchall()

    def moment(self) -> str:
        return "0/1"

    def leaves_open(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is open."""


class Place:
    """A place that holds what the masks leave."""

    name = "lake"

    def __init__(self, columns: Mapping[str, ColumnType], names: Mapping[int, str | None]) -> None:
        self.columns, self._names = columns, names

    def rows(self, keys: pa.Table) -> pa.Table:
        token = tokens(SECRET, self.columns["card"])
        held = {1: (self._names[1], int(token(7)), "1815-01-01"), 2: (self._names[2], None, "1906-01-01")}
        found = [(key, *held[key]) for key in keys["id"].to_pylist()]
        ids, names, cards, born = zip(*found, strict=True)
        return pa.table(
            {
                "id": pa.array(ids, pa.int32()),
                "name": pa.array(names, pa.string()),
                "card": pa.array(cards, pa.int64()),
                "born": pa.array(born, pa.string()).cast(pa.date32()),
                "income": pa.array([None] * len(found), pa.decimal128(12, 2)),
                UNAVAILABLE: pa.array([[]] * len(found), pa.list_(pa.string())),
            }
        )

    first_rows = rows

    def others(self, seen: str, bounds: pa.Table) -> pa.Table:
        return pa.table({"id": pa.array([], pa.int32())})


def verify(names: Mapping[int, str | None]) -> tuple[Report, MaskedSource]:
    """Compare the source with a place that has these in the column of names."""
    spec = spec_of()
    types = {name: column.type for name, column in spec.columns.items()}
    dialect = Dialect(lambda name: f'"{name}"', lambda quoted, _: f"CAST({quoted} AS VARCHAR)")
    table = SourceTable(Session(), dialect, "people", ["id"], comparable(spec, types), KeyRange())
    source = MaskedSource(table, spec, KEYS)
    place: Any = Place(source.columns, names)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    options = Options(chunk_rows=1, settle_seconds=10.0)
    workspace = duckdb.connect()
    verification = Verification("people", source, [place], workspace, options, clock=lambda: now[0], sleep=sleep)
    return verification.run(), source


def test_a_masked_column_is_compared_as_its_mask_leaves_it() -> None:
    """What a mask was made of a text that the source does not write so is left out."""
    report, source = verify({1: hashed(SECRET)("Ada"), 2: None})

    assert ([], 2) == (report.findings, report.rows)
    assert ["born", "card", "income", "name"] == source.masked
    assert ["id", "name", "card", "born", "income"] == list(source.columns)


def test_a_place_with_another_value_or_the_clear_one_differs() -> None:
    """By its key and column, as ever."""
    report, _ = verify({1: "Ada", 2: None})

    assert [(1, ("name",))] == [(finding.key[0], finding.columns) for finding in report.findings]


def test_a_masked_key_cannot_be_looked_up() -> None:
    """And a key that is missing is said."""
    spec = spec_of("columns: {id: {type: int, mask: token}}")
    with pytest.raises(ConfigurationError, match="its key is masked"):
        comparable(spec, {})

    source: Any = None
    with pytest.raises(ConfigurationError, match="the configuration has no mask key"):
        MaskedSource(source, spec, MaskKeys(MasksConfig(), {}))
