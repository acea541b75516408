"""What the lake is asked for: its latest rows as of the beginning, and as of now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from schemas.config import LakeConfig
from schemas.table import TableSpec
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import open_table
from sinks.lake.view import open_lake_sql
from streams.verify.places import LakePlace
from tests.unit.lake.changes import change, rows_of, spec_of


def commit(config: LakeConfig, spec: TableSpec, first: int, changes: list[dict[str, Any]]) -> None:
    """Commit changes behind the first so many."""
    table = LakeTable(
        open_table(open_catalog(config), config.namespace, spec),
        snapshots_kept=5,
        sweep_grace_seconds=60,
        clock=lambda: 1_800_000_000.0,
    )
    after = {0: Stand("t", "", first + len(changes))}
    table.commit(LakeBatch(spec.table, rows_of(changes, spec), {0: first or None}, after))


def place_of(config: LakeConfig, spec: TableSpec) -> LakePlace:
    """Return the lake's place, with a workspace as a verification has it."""
    workspace = open_lake_sql(config, [spec.table], keys={spec.table: spec.key})
    columns = {name: column.type for name, column in spec.columns.items() if name in {"id", "name"}}
    return LakePlace(config, spec, columns, workspace)


def names(found: pa.Table) -> list[str]:
    """Return the names of rows in the order of their ids."""
    return list(found.sort_by("id")["name"].to_pylist())


@pytest.mark.parametrize("table", ["patients", "latest", "seen"])
def test_a_second_look_shows_the_lake_of_now_within_the_bounds_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """It opens no database of its own, which would have neither the workspace's memory nor its folder."""
    config, spec = LakeConfig(warehouse=str(tmp_path)), spec_of(table=table)
    commit(config, spec, 0, [change(0, 1), change(1, 2)])
    place, keys = place_of(config, spec), pa.table({"id": pa.array([1, 2], pa.int64())})
    before = names(place.first_rows(keys))
    commit(config, spec, 2, [change(2, 1)])

    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("another database")

    monkeypatch.setattr(duckdb, "connect", connect)

    assert ["name 0", "name 1"] == before == names(place.first_rows(keys))
    assert ["name 2", "name 1"] == names(place.rows(keys))


@pytest.mark.parametrize("made_with", [[], ["name"]])
def test_rows_are_those_of_the_key_in_force(tmp_path: Path, made_with: list[str]) -> None:
    """Whatever key the lake's table was made with."""
    config, spec = LakeConfig(warehouse=str(tmp_path)), spec_of()
    commit(config, spec_of(key=made_with), 0, [change(0, 1), change(1, 1), change(2, 2)])
    place, keys = place_of(config, spec), pa.table({"id": pa.array([1, 2], pa.int64())})

    assert ["name 1", "name 2"] == names(place.first_rows(keys)) == names(place.rows(keys))
