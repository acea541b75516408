"""Rows of the lake whose keys changed: they take along what their inserts did not carry, over chains and swaps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import LakeConfig
from schemas.table import TableSpec
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.handover import has_key_changes
from sinks.lake.latest import LatestChanges
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table, open_table
from sinks.lake.view import latest_sql, open_lake_sql
from streams.final_rows import FinalRows
from tests.contract.test_final_rows import before_the_move, changes, is_last_delete, rows
from tests.property.handovers import COLUMNS, SPEC, Rows, Source, encoded, moved, sources
from tests.unit.formats.captures import spec_of
from tests.unit.lake.changes import rows_of


def lake_of(folder: Path, spec: TableSpec, said: list[dict[str, Any]], *, counted: bool = True) -> LakeConfig:
    """Return a lake that holds changes; changes of keys are `counted` in the statistics of its files."""
    config = LakeConfig(warehouse=str(folder))
    catalog = open_catalog(config)
    iceberg = open_table(catalog, config.namespace, spec)
    if not counted:
        with iceberg.transaction() as change:
            change.remove_properties("write.metadata.metrics.column._hg_new_key")
    table = LakeTable(iceberg, snapshots_kept=2, sweep_grace_seconds=0, clock=time.time)
    table.commit(LakeBatch(spec.table, rows_of(said, spec), {0: None}, {0: Stand("t", "id", len(said), {})}))
    catalog.close()
    return config


def latest_of(said: list[dict[str, Any]]) -> tuple[Rows, list[str]]:
    """Return the rows of the latest view, and the columns of them that nobody knows."""
    with duckdb.connect() as connection:
        connection.register("t", rows_of(said, SPEC))
        select = latest_sql("t", ["id"], ["id", *COLUMNS], {"id": "BIGINT"})
        found = connection.execute(f"SELECT id, {', '.join(COLUMNS)}, _hg_unavailable FROM ({select})").fetchall()
    rows = {
        key: {name: value for name, value in zip(COLUMNS, values, strict=True) if name not in missing}
        for key, *values, missing in found
    }
    return rows, sorted(name for *_, missing in found for name in missing)


@settings(max_examples=60, deadline=None)
@given(sources(), st.randoms(use_true_random=False))
def test_the_latest_view_has_the_rows_of_the_source(source: Source, order: Any) -> None:
    """However the rows of the lake lie."""
    said = list(source.changes)
    order.shuffle(said)

    assert (source.rows, []) == latest_of(said)


@settings(max_examples=60, deadline=None)
@given(sources(), st.data())
def test_the_latest_view_of_a_part_has_the_rows_that_the_part_comes_to(source: Source, data: Any) -> None:
    """Of each partition another part may be committed; `decode --rows` says the same."""
    ends = [data.draw(st.integers(0, len(source.changes))) for _ in range(2)]
    part = [change for n, change in enumerate(source.changes) if n < ends[int(change["key"]["id"]) % 2]]
    final = FinalRows(SPEC)
    for value in encoded(part):
        final.apply(value)
    documents = list(final.documents())

    assert (
        {int(d["key"]["id"]): {n: v for n, v in d["row"].items() if n != "id"} for d in documents},
        sorted(name for d in documents for name in d.get("unavailable", [])),
    ) == latest_of(part)


def test_a_floor_hides_what_an_old_key_knew_below_it() -> None:
    """Rows below it are dead, also those that were still to hand something over."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "below"))
    floor = {**source.changes[0], "op": "floor", "key": None, "after": None, "position": source.changes[0]["position"]}
    floor["position"] = floor["position"][:-1] + "2"
    source.position = 2
    source.move(0, 1, {"name": "moved"})

    assert ({1: {"name": "moved"}}, ["memo", "note"]) == latest_of([*source.changes, floor])


KEY_TYPES: dict[str, tuple[str, list[Any]]] = {
    "a/b~c": ("string", ["x'\"", "y\n"]),
    "amount": ("decimal(12,3)", ["-1.500", "2.000"]),
    "day": ("date", ["2024-02-29", "+10000-01-01"]),
    "at": ("timestamptz", ["1950-01-01T00:00:00.000001Z", "2024-02-29T13:45:06.789123Z"]),
    "local": ("timestamp", ["9999-12-31T23:59:59.999999", "2024-02-29T13:45:06.789123"]),
    "hour": ("time", ["13:45:06.000009", "00:00:00.000000"]),
    "raw": ("binary", ["AP8=", "/w=="]),
    "yes": ("boolean", [True, False]),
    "small": ("int", [-5, 7]),
    "large": ("long", ["9007199254740993", "2"]),
    "uid": ("uuid", ["123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174001"]),
}


@pytest.mark.parametrize("name", KEY_TYPES)
def test_a_key_of_any_type_is_followed(tmp_path: Path, name: str) -> None:
    """Beside another column of the key; the new key is read from the contract's JSON."""
    type_, (old, new) = KEY_TYPES[name]
    columns = {"tenant": "long", name: type_, "note": "string"}
    spec = TableSpec.model_validate({"table": "odd", "topics": ["t"], "key": ["tenant", name], "columns": columns})
    source = Source()
    source.put(0, {"note": "kept"})
    source.move(0, 1, {})
    for change in source.changes:
        for field in ("key", "old_key", "new_key", "after"):
            if change[field] is not None:
                value = {"0": old, "1": new}[change[field].pop("id")]
                change[field] |= {"tenant": "7", name: value}
        change["unavailable"] = ["note"] if change["op"] == "insert" and change["old_key"] else []

    with open_lake_sql(lake_of(tmp_path, spec, source.changes)) as connection:
        found = connection.execute("SELECT tenant, note, _hg_unavailable FROM odd_latest").fetchall()

    assert [(7, "kept", [])] == found


@pytest.mark.parametrize("counted", [True, False])
def test_only_a_table_whose_keys_change_pays_for_it(tmp_path: Path, counted: bool) -> None:
    """The statistics of its files say so; those of tables that are older have none, so that the column is looked at."""
    still = Source()
    still.put(0, dict.fromkeys(COLUMNS, "a"))
    for folder, said, expected in (("still", still, False), ("moved", moved(), True)):
        config = lake_of(tmp_path / folder, SPEC, said.changes, counted=counted)
        catalog = open_catalog(config)
        table = load_table(catalog, config.namespace, "patients")
        catalog.close()

        with open_lake_sql(config) as connection:
            found = has_key_changes(connection, table, "patients" if not counted else "none such")
            notes = dict(connection.execute("SELECT id, note FROM patients_latest").fetchall())
        assert expected is found
        assert {key: row["note"] for key, row in said.rows.items()} == notes


@pytest.mark.parametrize("case", ["pg-toast", "pg-toast-reselect"])
def test_a_captured_row_whose_key_changed_has_its_long_values_in_the_lake(tmp_path: Path, case: str) -> None:
    """Up to the delete with which the capture ends; as `decode --rows` says."""
    spec = spec_of(case, "public.toast_default")
    values = [value for value in changes(case, "public.toast_default") if not is_last_delete(value)]
    with open_lake_sql(lake_of(tmp_path, spec, list(map(orjson.loads, values)))) as connection:
        select = "SELECT t, vc, ct, j, js, x, h, len(ia), len(bya), _hg_unavailable FROM captured_latest WHERE id = 2"
        *long, arrays, blobs, missing = connection.execute(select).fetchone() or ()
    (old,) = [
        row["row"] for row in rows(case, "public.toast_default", before_the_move(values)) if row["key"]["id"] == 1
    ]

    assert [old[name] for name in ("t", "vc", "ct", "j", "js", "x", "h")] == long
    assert (len(old["ia"]), len(old["bya"]), []) == (arrays, blobs, missing)


def handed(config: LakeConfig, partitions: list[int]) -> list[dict[str, Any]]:
    """Return what a rebuild hands over."""
    with LatestChanges(config, SPEC, COLUMNS) as latest:
        latest.prepare(partitions)
        return [orjson.loads(value) for batch in latest.handed(partitions) for value in batch.values]


def test_a_rebuild_hands_over_what_rows_lack_or_will_lack(tmp_path: Path) -> None:
    """To a row that is there what no change of its own said, with the position just below; to one to come, all."""
    source = Source()
    source.put(0, {name: f"{name} of 0" for name in COLUMNS})
    source.move(0, 1, {"name": "moved"})
    source.put(2, {name: f"{name} of 2" for name in COLUMNS})
    source.move(2, 3, {})
    source.move(3, 4, {"note": "new"})
    config = lake_of(tmp_path, SPEC, source.changes[:-1])

    found = sorted(handed(config, [0]), key=lambda value: value["key"]["id"])

    assert ["1", "4"] == [value["key"]["id"] for value in found]
    assert [f"0001{1:041d}", f"0001{4:041d}"] == [value["position"] for value in found]
    assert [[], []] == [value["unavailable"] for value in found]
    assert "note of 0" == found[0]["after"]["note"]
    assert {"id": "4", **{name: f"{name} of 2" for name in COLUMNS}} == found[1]["after"]
    assert [] == handed(config, [3])


def test_a_rebuild_names_the_changes_of_keys_that_did_not_hand_over_all(tmp_path: Path) -> None:
    """What the lake has of older lives counts as handed over; the delete that would bring the rest is to come."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "kept"))
    source.move(0, 1, {"name": "moved"})
    source.move(1, 2, {})
    source.move(2, 3, {"memo": "new"})
    whole = lake_of(tmp_path / "whole", SPEC, source.changes)
    part = lake_of(tmp_path / "part", SPEC, [c for c in source.changes if c["new_key"] != {"id": "1"}])
    found = []
    for config in (whole, part):
        with LatestChanges(config, SPEC, COLUMNS) as latest:
            latest.prepare([0])
            found.append([pair for b in latest.moves([0]) for pair in zip(b.values, b.since, strict=True)])
            assert [] == list(latest.moves([3]))

    assert [] == found[0]
    said = sorted((orjson.loads(value) | {"since": since} for value, since in found[1]), key=lambda m: m["position"])
    assert [("1", "2", ""), ("2", "3", "")] == [(m["key"]["id"], m["new_key"]["id"], m["since"]) for m in said]
    assert [["note", "memo"], ["note", "memo"]] == [m["unavailable"] for m in said]
    assert [f"0001{3:041d}", f"0001{4:041d}"] == [m["position"] for m in said]
