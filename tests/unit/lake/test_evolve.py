"""A table of the lake follows its spec while workers write it, and every reader sees every value."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Transaction

from schemas.config import LakeConfig
from schemas.errors import SinkUnavailable, TableStopped
from schemas.table import TableSpec
from schemas.types import parse_type
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.evolve import LAKE_COLUMNS_MAX, changes_for, check_names, evolved, former_name
from sinks.lake.latest import LatestChanges
from sinks.lake.sink import Lake
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table, open_table
from sinks.lake.verify import verify
from sinks.lake.view import open_lake_sql
from tests.unit.lake.changes import INGESTED, TOPIC, change, rows_of, spec_of

# Of each type: values in the JSON of the contract, spelled as it spells them.
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "int": [5, -7],
    "long": ["9007199254740993", "-1"],
    "float": [0.1, 1e22, "NaN"],
    "double": [0.00001, 1e22, 1e16, -2.5e-7, 5.0, "Infinity", "-Infinity", "NaN"],
    "decimal(12,2)": ["12.50", "-0.05"],
    "date": ["2024-02-29", "+10000-01-01", "-0043-03-15"],
    "time": ["13:45:06.789123"],
    "timestamp": ["2024-02-29T13:45:06.789123", "1969-12-31T23:59:59.000001"],
    "timestamptz": ["2024-02-29T13:45:06.789123Z"],
    "uuid": ["5b0b1a3e-6c57-4f3c-9a54-6f8f0f6f5a77"],
    "json": ['{"a":[1,2]}'],
    "binary": ["AAEC/w=="],
    "list<int>": [[1, None, 3], []],
    "list<string>": [['a"\\ü\n', None]],
    "list<list<decimal(5,1)>>": [[["1.0"], None, []]],
    "list<double>": [[0.5, 1e22, "NaN"]],
    "list<timestamptz>": [["2024-02-29T13:45:06.789123Z"]],
}
ALL_TYPES = {"id": "long", **{f"c{n}": type_ for n, type_ in enumerate(VALUES)}}


class Worker:
    """One worker's hold on the table of a lake in a folder."""

    def __init__(self, folder: Path, spec: TableSpec, partition: int = 0) -> None:
        self.config = LakeConfig(warehouse=str(folder))
        self.spec, self.partition = spec, partition
        self._catalog = open_catalog(self.config)
        self.open(spec)

    def open(self, spec: TableSpec) -> None:
        """Take up a spec."""
        table = open_table(self._catalog, self.config.namespace, spec)
        self.spec = spec
        self.table = LakeTable(table, snapshots_kept=5, sweep_grace_seconds=60, clock=time.time)

    def batch(self, first: int, *rows: dict[str, Any]) -> LakeBatch:
        """Return changes to these rows, read from origin offset `first` on by the spec of now."""
        before = self.table.stands().get(self.partition)
        changes = [
            change(
                offset, 0, after=row, key={name: row[name] for name in self.spec.key},
                source={"origin": [TOPIC, 0, self.partition, offset], "previous": offset - 1 if offset else None},
            )
            for offset, row in enumerate(rows, first)
        ]  # fmt: skip
        stand = Stand("t", "", first + len(rows))
        return LakeBatch(
            "patients", rows_of(changes, self.spec), {self.partition: before.next_offset if before else None},
            {self.partition: stand},
        )  # fmt: skip

    def commit(self, first: int, *rows: dict[str, Any]) -> None:
        """Commit changes to these rows."""
        self.table.commit(self.batch(first, *rows))

    def seen(self, columns: str, view: str = "patients") -> list[tuple[Any, ...]]:
        """Return what DuckDB sees, once all is proved to be there once."""
        assert verify(load_table(self._catalog, "headgate", "patients")).ok
        with open_lake_sql(self.config) as connection:
            return connection.execute(f"SELECT {columns} FROM {view} ORDER BY _hg_partition, _hg_offset").fetchall()

    def scanned(self, *columns: str) -> list[dict[str, Any]]:
        """Return what any reader of Iceberg sees."""
        table = load_table(self._catalog, "headgate", "patients").scan(selected_fields=(*columns, "_hg_offset"))
        found: list[dict[str, Any]] = table.to_arrow().sort_by("_hg_offset").to_pylist()
        return [{name: row[name] for name in columns} for row in found]


def text_of(value: Any) -> str:
    """Return a text as it is, all else as the JSON that NORMALIZE writes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def test_a_column_that_became_a_text_shows_its_old_values_as_the_contract_wrote_them(tmp_path: Path) -> None:
    """Of every type: an engine reads `<name>`, and sees all rows; the old values keep their type beside it."""
    longest = max(map(len, VALUES.values()))
    old = [
        {"id": str(n), **{f"c{at}": (each[n] if n < len(each) else None) for at, each in enumerate(VALUES.values())}}
        for n in range(longest)
    ]
    worker = Worker(tmp_path, spec_of(columns=ALL_TYPES))
    worker.commit(0, *old)
    texts = dict.fromkeys(ALL_TYPES, "string")
    worker.open(spec_of(columns=texts))
    worker.commit(longest, dict.fromkeys(texts, "new"))
    found = worker.seen(", ".join(texts))

    wanted = [tuple(None if row[name] is None else text_of(row[name]) for name in texts) for row in old]
    assert [*wanted, ("new",) * len(texts)] == found
    assert [{"_hg_c1__int": 5, "c1": None}, {"_hg_c1__int": -7, "c1": None}] == worker.scanned("_hg_c1__int", "c1")[:2]


def test_a_column_that_became_wider_or_left_keeps_its_place(tmp_path: Path) -> None:
    """Iceberg reads the old files as the new type; what left is null from then on."""
    worker = Worker(tmp_path, spec_of(columns={"id": "int", "a": "float", "d": "decimal(4,2)", "l": "list<int>"}))
    worker.commit(0, {"id": 1, "a": 0.5, "d": "1.50", "l": [1, None]})
    worker.open(spec_of(columns={"id": "long", "a": "double", "l": "list<long>", "new": "string"}))
    worker.commit(1, {"id": "5000000000", "a": 0.1, "l": ["5000000000"], "new": "n"})
    worker.open(spec_of(columns={"id": "long", "d": "decimal(6,2)"}))
    worker.commit(2, {"id": "3", "d": "1234.50"})

    assert [
        (1, 0.5, "1.50", [1, None], None), (5_000_000_000, 0.1, None, [5_000_000_000], "n"),
        (3, None, "1234.50", None, None),
    ] == worker.seen("id, a, d::varchar, l, new")  # fmt: skip


def test_a_key_that_became_a_text_names_the_same_rows(tmp_path: Path) -> None:
    """The latest view joins the old rows with the new ones."""
    worker = Worker(tmp_path, spec_of(columns={"id": "long", "name": "string"}))
    worker.commit(0, {"id": "1", "name": "old"}, {"id": "2", "name": "kept"})
    worker.open(spec_of(columns={"id": "string", "name": "string"}))
    worker.commit(2, {"id": "1", "name": "new"}, {"id": "x", "name": "text"})
    with open_lake_sql(worker.config) as connection:
        latest = connection.execute("SELECT id, name FROM patients_latest ORDER BY id").fetchall()

    assert [("1", "new"), ("2", "kept"), ("x", "text")] == latest


def test_a_rebuild_reads_old_values_as_they_are_now(tmp_path: Path) -> None:
    """As the contract would have them; a key that became a text, and a column that a delete hands over, too."""
    worker = Worker(tmp_path, spec_of(columns={"id": "int", "amount": "int", "share": "float"}))
    worker.commit(0, {"id": 1, "amount": 5, "share": 0.1}, {"id": 2, "amount": 7, "share": None})
    wider = spec_of(columns={"id": "string", "amount": "string", "share": "double"})
    worker.open(wider)
    worker.commit(2, {"id": "2", "amount": "new", "share": 0.5})
    with LatestChanges(worker.config, wider, ["amount", "share"]) as latest:
        keys = latest.prepare([0])
        values = [value for batch in latest.batches(expired_before=INGESTED) for value in batch.values]
    found = sorted((orjson.loads(value) for value in values), key=lambda value: str(value["key"]))

    assert keys == len(found)
    assert [{"id": "1"}, {"id": "2"}] == [value["key"] for value in found]
    assert {"id": "1", "amount": "5", "share": pytest.approx(0.1)} == found[0]["after"]
    assert {"id": "2", "amount": "new", "share": 0.5} == found[1]["after"]


OLD = spec_of(columns={"id": "long", "amount": "timestamptz"})
NEW = spec_of(columns={"id": "long", "amount": "string", "more": "int"})
MOMENT = "2024-02-29T13:45:06.789123Z"


@pytest.mark.parametrize("written", ["before", "after"])
def test_rows_read_by_an_older_spec_are_written_by_a_worker_that_meets_the_newer_table(
    tmp_path: Path, written: str
) -> None:
    """Whether its file was there before somebody changed the table or not: nothing is cast, nothing is lost."""
    behind, ahead = Worker(tmp_path, OLD, partition=0), Worker(tmp_path, OLD, partition=1)
    behind.commit(0, {"id": "1", "amount": MOMENT})
    batch = behind.batch(1, {"id": "2", "amount": MOMENT})
    if written == "before":
        behind.table._write_files(batch)  # noqa: SLF001 - the commit then finds a conflict
    ahead.open(NEW)
    ahead.commit(0, {"id": "3", "amount": "a text", "more": 3})
    if written == "after":
        behind.table.load()
    behind.table.commit(batch)

    assert [(1, MOMENT, None), (2, MOMENT, None), (3, "a text", 3)] == ahead.seen("id, amount, more")
    assert 1 + 1 + 1 == len(list(tmp_path.rglob("*.parquet")))


def test_a_worker_with_an_older_spec_opens_the_newer_table_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    """Else two workers would change it to and fro."""
    Worker(tmp_path, NEW).open(spec_of(columns={"id": "long", "amount": "string", "more": "long"}))
    Worker(tmp_path / "other", OLD)
    behind = Worker(tmp_path / "other", NEW)
    schema = behind.table.iceberg.schema()
    behind.open(OLD)
    behind.commit(0, {"id": "1", "amount": MOMENT})
    narrow = Worker(tmp_path, NEW)
    narrow.commit(0, {"id": "1", "amount": "x", "more": 3})

    assert schema == behind.table.iceberg.schema()
    assert [(1, MOMENT, None)] == behind.seen("id, amount, more")
    assert [(1, "x", 3)] == narrow.seen("id, amount, more")


def test_two_workers_that_change_a_table_at_once_end_with_one_schema(tmp_path: Path) -> None:
    """The second hears of a conflict, loads, and finds nothing left to do, or the rest."""
    stale = [Worker(tmp_path, OLD).table.iceberg for _ in range(3)]
    columns = {name: column.type for name, column in NEW.columns.items()}
    first = evolved(stale[0], columns)
    second = evolved(stale[1], columns)
    third = evolved(stale[2], {**columns, "another": parse_type("date")})

    assert first.schema() == second.schema()
    names = [field.name for field in third.schema().fields if not field.name.startswith("_hg_")]
    assert ["id", "amount", "more", "another"] == names
    assert [former_name("amount", parse_type("timestamptz"))] == [
        field.name for field in third.schema().fields if "__" in field.name
    ]


def test_a_table_that_others_change_all_the_time_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is nobody's decision to make: the step comes again."""
    worker = Worker(tmp_path, OLD)

    def losing(_: Transaction) -> Any:
        raise CommitFailedException("somebody was faster")

    monkeypatch.setattr(Transaction, "commit_transaction", losing)
    with pytest.raises(SinkUnavailable):
        worker.open(NEW)


@pytest.mark.parametrize("twin", ["NAME", "_HG_op"])
def test_a_name_that_differs_by_case_alone_stops_the_table(tmp_path: Path, twin: str) -> None:
    """Hive, Athena, Spark and DuckDB would read one column for the other."""
    Worker(tmp_path, spec_of(columns={"id": "long", "name": "string"}))
    with pytest.raises(TableStopped) as caught:
        Worker(tmp_path, spec_of(columns={"id": "long", "name": "string", twin: "string"}))
    assert "lake_schema" == caught.value.reason
    assert twin in caught.value.message
    with pytest.raises(TableStopped):
        Worker(tmp_path / "new", spec_of(columns={"id": "long", "name": "string", twin: "string"}))


def test_more_columns_than_a_table_may_have_stop_it() -> None:
    """Those that left the source stay, so a source that renames its columns for ever ends here."""
    there = {f"c{n}": parse_type("int") for n in range(LAKE_COLUMNS_MAX)}

    check_names("patients", [], there)
    with pytest.raises(TableStopped) as caught:
        changes_for("patients", there, {"one": parse_type("int")})
    assert f"{LAKE_COLUMNS_MAX + 1} columns" in caught.value.message


def test_what_neither_iceberg_nor_a_text_can_hold_stops_the_table(tmp_path: Path) -> None:
    """With a hint, and without touching it."""
    worker = Worker(tmp_path, spec_of(columns={"id": "long", "name": "string", "on": "date"}))
    schema = worker.table.iceberg.schema()
    with pytest.raises(TableStopped) as caught:
        worker.open(spec_of(columns={"id": "long", "name": "string", "on": "timestamp"}))

    assert "lake table patients: Iceberg cannot change on from date to timestamp" == caught.value.message
    assert schema == load_table(open_catalog(worker.config), "headgate", "patients").schema()


def test_a_column_that_somebody_else_dropped_stops_the_table(tmp_path: Path) -> None:
    """Else its values would be dropped without a trace."""
    worker = Worker(tmp_path, OLD)
    batch = worker.batch(0, {"id": "1", "amount": MOMENT})
    with worker.table.iceberg.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column(("amount",))
    worker.table.load()
    with pytest.raises(TableStopped) as caught:
        worker.table.commit(dataclasses.replace(batch))
    assert "no column that takes amount" in caught.value.message


async def test_a_table_that_is_resumed_gets_its_column_again(tmp_path: Path) -> None:
    """Whoever takes its partitions up looks at the table anew."""
    worker = Worker(tmp_path, OLD)
    sink = Lake(worker.config, clock=time.time)
    table = await sink.open(OLD)
    with worker.table.iceberg.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column(("amount",))
    again = await sink.open(OLD, fresh=True)
    await sink.write(worker.batch(0, {"id": "1", "amount": MOMENT}))
    await sink.close()

    assert table is again
    assert [(1, MOMENT)] == [(row["id"], _contract(row["amount"])) for row in worker.scanned("id", "amount")]


def _contract(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
