"""The latest view: for one key the higher position wins, column by column."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import LakeConfig
from schemas.errors import TableStopped
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import open_table
from sinks.lake.view import latest_sql, open_lake_sql
from tests.unit.lake.changes import TOPIC, change, deletion, rows_of, spec_of

COLUMNS = ("id", "name", "note", "weight", "tags")


def latest_of(changes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return id, name, note and what is unavailable of the latest rows, in the order of their ids."""
    with duckdb.connect() as connection:
        connection.register("t", rows_of(changes))
        columns = "id, name, note, list_sort(_hg_unavailable)"
        return connection.execute(f"SELECT {columns} FROM ({latest_sql('t', ['id'], COLUMNS)}) ORDER BY id").fetchall()


def test_the_highest_position_wins_whatever_the_order() -> None:
    """Rows of the lake have no order among files."""
    changes = [change(n, n % 2) for n in range(6)]
    random.Random(3).shuffle(changes)

    assert [(0, "name 4", "note 4", []), (1, "name 5", "note 5", [])] == latest_of(changes)


def test_a_delete_hides_the_row_until_it_is_there_again() -> None:
    """And a change older than the delete, read after it, does not bring it back."""
    assert [] == latest_of([change(1, 1), deletion(2, 1)])
    assert [] == latest_of([deletion(2, 1), change(1, 1)])
    assert [(1, "name 3", "note 3", [])] == latest_of([change(1, 1), deletion(2, 1), change(3, 1)])


def test_a_delete_and_an_insert_at_one_position_leave_the_insert() -> None:
    """A changed key can be the same key to us; then both may lie in different partitions, so offsets tell no order."""
    gone = deletion(1_000, 1, position=f"{7:045d}")
    again = change(10, 1, position=f"{7:045d}", source={"origin": ["clinic.public.patients", 0, 3, 10]})

    assert [(1, "name 10", "note 10", [])] == latest_of([change(1, 1), gone, again])


def test_an_unavailable_column_is_filled_from_the_newest_older_change_that_had_it() -> None:
    """Null is a value, and fills as well."""
    first, second = change(1, 1), change(2, 1, after={"id": "1", "name": "x", "note": None})
    third = change(3, 1, unavailable=["note"])

    assert [(1, "name 3", None, [])] == latest_of([first, second, third])
    assert [(1, "name 3", "note 1", [])] == latest_of([first, third])
    assert [(1, "name 3", None, ["note"])] == latest_of([third])


def test_nothing_is_filled_across_a_delete() -> None:
    """The row before it was another row."""
    again = change(3, 1, unavailable=["note"])

    assert [(1, "name 3", None, ["note"])] == latest_of([change(1, 1), deletion(2, 1), again])


def test_a_floor_hides_what_lies_below_it() -> None:
    """And nothing above."""
    floor = change(5, 0, op="floor", key=None, after=None)

    assert [(2, "name 6", "note 6", [])] == latest_of([change(1, 1), floor, change(6, 2)])


def read_in(generation: int, offset: int, number: int, **changed: Any) -> dict[str, Any]:
    """Return a change as it was read in a generation; a replay reads it with its position and offset."""
    return change(offset, number, source={"origin": [TOPIC, generation, 0, offset]}, **changed)


@pytest.mark.parametrize("turn", [list, reversed])
def test_of_a_change_that_was_read_again_the_last_reading_counts(turn: Callable[[Any], Any]) -> None:
    """A spec that did not know the column yet left a null there; files have no order."""
    absent = {"id": "1", "name": "x"}
    readings = [read_in(0, 5, 1, after=absent), read_in(2, 5, 1), read_in(1, 5, 1, after=absent)]
    readings += [read_in(0, 6, 2), read_in(1, 6, 2, after={"id": "2", "name": "y"})]

    assert [(1, "name 5", "note 5", []), (2, "y", None, [])] == latest_of(list(turn(readings)))


@pytest.mark.parametrize("turn", [list, reversed])
def test_the_last_reading_counts_though_the_source_has_sent_the_change_twice(turn: Callable[[Any], Any]) -> None:
    """A replay of a part may read the first of two records again, and not the second."""
    readings = [read_in(0, 5, 1, position=f"{5:045d}"), read_in(0, 9, 1, position=f"{5:045d}")]
    readings += [read_in(1, 5, 1, position=f"{5:045d}", after={"id": "1", "name": "z", "note": "better"})]

    assert [(1, "z", "better", [])] == latest_of(list(turn(readings)))


def test_what_an_older_reading_says_fills_no_column() -> None:
    """The source did not send the value again, which the older reading did not know: there its null means nothing."""
    readings = [read_in(0, n, 1, after={"id": "1", "name": f"name {n}"}) for n in (1, 2)]
    readings += [read_in(1, 1, 1), read_in(1, 2, 1, unavailable=["note"])]

    assert [(1, "name 2", "note 1", [])] == latest_of(readings)


def test_a_delete_that_was_none_is_none_once_it_is_read_again() -> None:
    """Nor does a row live on that was deleted by what is known now."""
    gone, again = read_in(0, 2, 1, op="delete", after=None), read_in(1, 2, 1, unavailable=["note"])
    row, is_gone = read_in(0, 4, 2), read_in(1, 4, 2, op="delete", after=None)

    assert [(1, "name 2", "note 1", [])] == latest_of([change(1, 1), gone, again, row, is_gone])


STEPS = st.tuples(st.integers(0, 2), st.sampled_from(["change", "unavailable", "delete"]))


def model(steps: list[tuple[int, str]]) -> list[tuple[Any, ...]]:
    """Fold the steps in the order of their positions."""
    rows: dict[int, tuple[Any, ...]] = {}
    for position, (key, kind) in enumerate(steps):
        if kind == "delete":
            rows.pop(key, None)
            continue
        filled, missing = (f"note {position}", [])
        if kind == "unavailable":
            filled, missing = rows[key][2:] if key in rows else (None, ["note"])
        rows[key] = (key, f"name {position}", filled, missing)
    return [rows[key] for key in sorted(rows)]


def _step(position: int, key: int, kind: str) -> dict[str, Any]:
    if kind == "delete":
        return deletion(position, key)
    return change(position, key, unavailable=["note"] if kind == "unavailable" else [])


@settings(deadline=None, max_examples=60)
@given(st.lists(STEPS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_history_in_any_order_gives_the_rows_of_the_source(steps: list[tuple[int, str]], shuffler: Any) -> None:
    """The view folds by position what a source did one after the other."""
    changes = [_step(position, key, kind) for position, (key, kind) in enumerate(steps)]
    shuffler.shuffle(changes)

    assert model(steps) == latest_of(changes)


def fill(folder: Path, changes: list[dict[str, Any]], **spec_fields: Any) -> LakeConfig:
    """Commit changes to a lake in `folder` and return its configuration."""
    config = LakeConfig(warehouse=str(folder))
    spec = spec_of(**spec_fields)
    iceberg = open_table(open_catalog(config), config.namespace, spec)
    table = LakeTable(iceberg, snapshots_kept=5, sweep_grace_seconds=60, clock=lambda: 1_800_000_000.0)
    if changes:
        table.commit(LakeBatch(spec.table, rows_of(changes, spec), {0: None}, {0: Stand("t", "", len(changes))}))
    return config


def test_sql_over_a_lake_on_disk(tmp_path: Path) -> None:
    """Each table has a view of its changes and one of its latest rows, also where names need quotes."""
    columns = {"id": "long", "Günter's column": "string", "order": "int"}
    rows = [{"id": "1", "Günter's column": text, "order": 3} for text in ("old", "new")]
    changes = [change(n, 1, after=row) for n, row in enumerate(rows)]
    config = fill(tmp_path, changes, table="odd.name-x", columns=columns)
    with open_lake_sql(config) as connection:
        every = connection.execute('SELECT "Günter\'s column" FROM "odd.name-x" ORDER BY _hg_position').fetchall()
        latest = connection.execute('SELECT "Günter\'s column", "order" FROM "odd.name-x_latest"').fetchall()

    assert [("old",), ("new",)] == every
    assert [("new", 3)] == latest


def test_a_table_without_rows_can_be_queried(tmp_path: Path) -> None:
    """A registered table that nothing was committed to yet."""
    config = fill(tmp_path, [])
    with open_lake_sql(config, ["patients"]) as connection:
        assert [(0,)] == connection.execute("SELECT count(*) FROM patients").fetchall()
        assert [] == connection.execute("SELECT * FROM patients_latest").fetchall()


def test_a_table_without_a_key_has_no_latest_view(tmp_path: Path) -> None:
    """There is nothing to be the latest of."""
    config = fill(tmp_path, [change(0, 1, key=None)], key=[])
    with open_lake_sql(config) as connection:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()

    assert [("patients",)] == views


def test_a_table_that_is_called_as_latest_rows_are_is_the_table(tmp_path: Path) -> None:
    """The others are shown as ever; asked for alone, the latest rows of the one beside it, too."""
    config = fill(tmp_path, [change(0, 1), change(1, 1)])
    fill(tmp_path, [change(0, 7), change(1, 7)], table="patients_latest")
    with open_lake_sql(config) as connection:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1").fetchall()
        ids = connection.execute("SELECT id FROM patients_latest").fetchall()
    with open_lake_sql(config, ["patients"]) as connection:
        alone = connection.execute("SELECT id FROM patients_latest").fetchall()

    assert [("patients",), ("patients_latest",), ("patients_latest_latest",)] == views
    assert ([(7,), (7,)], [(1,)]) == (ids, alone)


@pytest.mark.parametrize("made_with", [[], ["name"]])
def test_latest_rows_go_by_the_key_that_is_given(tmp_path: Path, made_with: list[str]) -> None:
    """Who knows the spec in force need not go by the key that the table was made with."""
    config = fill(tmp_path, [change(0, 1), change(1, 1), change(2, 2)], key=made_with)
    with open_lake_sql(config, ["patients"], keys={"patients": ["id"]}) as connection:
        latest = connection.execute("SELECT id, name FROM patients_latest ORDER BY id").fetchall()

    assert [(1, "name 1"), (2, "name 2")] == latest


def test_a_table_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    """The hint lists them."""
    config = fill(tmp_path, [])

    with pytest.raises(TableStopped) as caught:
        open_lake_sql(config, ["patient"])
    assert "patients" in caught.value.hint
