"""The lake's current rows written as the contract has them: what is read back is what was written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.config import MIB, LakeConfig
from schemas.errors import TableStopped
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.latest import LatestBatch, LatestChanges
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import open_table
from sinks.redis.floor import read_floor
from tests.unit.lake.changes import TOPIC, change, deletion, rows_of, spec_of

NEVER, ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
TYPED = {
    "id": ("long", "9007199254740993"),
    "yes": ("boolean", True),
    "small": ("int", -5),
    "ratio": ("double", 0.1),
    "short": ("float", 1.1),
    "odd": ("double", "NaN"),
    "far": ("float", "-Infinity"),
    "price": ("decimal(12,3)", "-1234.500"),
    "day": ("date", "1899-02-28"),
    "hour": ("time", "13:45:06.000009"),
    "local": ("timestamp", "9999-12-31T23:59:59.999999"),
    "at": ("timestamptz", "1950-01-01T00:00:00.000001Z"),
    "text": ("string", 'é "quoted" \n'),
    "document": ("json", '{"a": [1]}'),
    "uid": ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
    "bytes": ("binary", "AP8="),
    "days": ("list<date>", ["2024-02-29", None]),
    "ratios": ("list<list<double>>", [[0.5, "NaN"], None, []]),
    "nothing": ("string", None),
}


def lake_of(folder: Path, spec: Any, changes: list[dict[str, Any]], *, commits: int = 1) -> LakeConfig:
    """Return a lake that holds changes, written in so many commits."""
    config = LakeConfig(warehouse=str(folder))
    catalog = open_catalog(config)
    table = LakeTable(
        open_table(catalog, config.namespace, spec), snapshots_kept=2, sweep_grace_seconds=0, clock=time.time
    )
    step = len(changes) // commits
    for first in range(0, len(changes), step):
        rows, stand = rows_of(changes[first : first + step], spec), Stand("t", "id", first + step, {})
        table.commit(LakeBatch("patients", rows, {0: first or None}, {0: stand}))
    catalog.close()
    return config


def read(latest: LatestChanges, partitions: list[int], before: datetime = NEVER) -> tuple[int, LatestBatch]:
    """Return what is said to be there, and all of it."""
    with latest:
        keys, batches = latest.prepare(partitions), list(latest.batches(expired_before=before))
    return keys, LatestBatch(
        [value for batch in batches for value in batch.values],
        [partition for batch in batches for partition in batch.partitions],
        [flag for batch in batches for flag in batch.expired],
    )


def test_every_type_comes_back_as_the_contract_has_it(tmp_path: Path) -> None:
    """Digits, fractions, zones, what is no number, lists within lists, and null."""
    spec = spec_of(columns={name: type_ for name, (type_, _) in TYPED.items()})
    row = {name: value for name, (_, value) in TYPED.items()}
    config = lake_of(tmp_path, spec, [change(0, 1, key={"id": row["id"]}, after=row)])

    keys, found = read(LatestChanges(config, spec, list(TYPED)), [0])

    assert keys == 1
    (value,) = map(orjson.loads, found.values)
    assert row == value["after"]
    assert {"id": row["id"]} == value["key"]


def test_an_owner_reads_its_partitions_as_all_of_them_together_stand(tmp_path: Path) -> None:
    """A key whose newest change lies in another partition is that owner's; its old row here is not sent."""
    elsewhere = {"source": {"origin": [TOPIC, 0, 3, 0]}}
    changes = [change(1, 1), change(2, 2), deletion(3, 1, **elsewhere), change(4, 3, **elsewhere)]
    spec = spec_of()
    config = lake_of(tmp_path, spec, changes)

    keys, found = read(LatestChanges(config, spec, ["name"]), [0])
    keys_there, found_there = read(LatestChanges(config, spec, ["name"]), [3])

    assert (1, ["2"]) == (keys, [orjson.loads(value)["key"]["id"] for value in found.values])
    assert (2, ["1", "3"]) == (keys_there, sorted(orjson.loads(value)["key"]["id"] for value in found_there.values))
    assert [3, 3] == found_there.partitions


def test_an_old_delete_without_a_row_since_is_named(tmp_path: Path) -> None:
    """One whose row lives again is not: its position is kept with the row."""
    spec = spec_of()
    config = lake_of(tmp_path, spec, [deletion(1, 1), deletion(2, 2), change(3, 2)])

    _, found = read(LatestChanges(config, spec, ["name"]), [0], ALWAYS)

    said = {
        (orjson.loads(v)["key"]["id"], orjson.loads(v)["op"]): flag
        for v, flag in zip(found.values, found.expired, strict=True)
    }
    assert {("1", "delete"): True, ("2", "delete"): False, ("2", "update"): False} == said


def test_what_is_below_the_highest_floor_is_left_out_and_the_floor_is_told(tmp_path: Path) -> None:
    """As the contract has it, so that whoever fills Redis from here raises it there."""
    spec = spec_of()
    floors = [change(at, 0, op="floor", key=None, after=None) for at in (2, 5)]
    changes = [change(1, 1), floors[0], change(3, 2), deletion(4, 3), floors[1], change(6, 4)]
    latest = LatestChanges(lake_of(tmp_path, spec, changes), spec, ["name"])
    with latest:
        keys, floor = latest.prepare([0]), latest.floor()
        found = [value for batch in latest.batches(expired_before=NEVER) for value in batch.values]

    assert (1, ["4"]) == (keys, [orjson.loads(value)["key"]["id"] for value in found])
    assert floor is not None
    read = read_floor(floor)
    assert (f"{5:045d}", "2026-11-20T19:45:57.123456Z") == (read.position, read.ts)
    assert (TOPIC, 0, 0, 5) == read.source.origin


@pytest.mark.parametrize("turn", [list, reversed])
def test_of_a_change_that_was_read_again_the_last_reading_alone_is_told(
    tmp_path: Path, turn: Callable[[Any], Any]
) -> None:
    """The ledger keeps whichever of two comes first, and a spec that did not know the column left a null there."""
    origins = [{"origin": [TOPIC, generation, 0, 1]} for generation in (0, 2, 1)]
    absent = {"id": "1", "name": "x"}
    readings = [change(1, 1, source=each, **({} if n == 1 else {"after": absent})) for n, each in enumerate(origins)]
    gone = deletion(2, 2)
    readings += [gone, change(2, 2, source={"origin": [TOPIC, 1, 0, 2]}), change(3, 3)]
    spec = spec_of()
    config = lake_of(tmp_path, spec, list(turn(readings)), commits=3)

    keys, found = read(LatestChanges(config, spec, ["name", "note"]), [0])

    said = sorted(
        (value["op"], value["key"]["id"], (value["after"] or {}).get("note"), value["source"]["origin"][1])
        for value in map(orjson.loads, found.values)
    )
    assert (3, [("update", "1", "note 1", 2), ("update", "2", "note 2", 1), ("update", "3", "note 3", 0)]) == (
        keys,
        said,
    )


def test_what_an_older_reading_says_fills_no_column(tmp_path: Path) -> None:
    """The source did not send the value again; what told it is sent as well, as it was read last."""
    first, second = ([{"origin": [TOPIC, generation, 0, n]} for generation in (0, 1)] for n in (1, 2))
    readings = [change(n, 1, after={"id": "1", "name": "x"}, source=each[0]) for n, each in ((1, first), (2, second))]
    readings += [change(1, 1, source=first[1]), change(2, 1, source=second[1], unavailable=["note"])]
    spec = spec_of()
    config = lake_of(tmp_path, spec, readings)

    _, found = read(LatestChanges(config, spec, ["name", "note"]), [0])

    values = sorted(map(orjson.loads, found.values), key=lambda value: value["position"])
    assert [[TOPIC, 1, 0, 1], [TOPIC, 1, 0, 2]] == [value["source"]["origin"] for value in values]
    assert ["note 1", None] == [value["after"]["note"] for value in values]


def test_a_table_without_floors_has_none(tmp_path: Path) -> None:
    """Nothing is raised then."""
    spec = spec_of()
    with LatestChanges(lake_of(tmp_path, spec, [change(1, 1)]), spec, ["name"]) as latest:
        latest.prepare([0])

        assert latest.floor() is None


def test_a_table_that_is_not_in_the_lake_is_said_to_be_so(tmp_path: Path) -> None:
    """Nothing is created in its place."""
    with pytest.raises(TableStopped, match="no table patients"):
        LatestChanges(LakeConfig(warehouse=str(tmp_path)), spec_of(), ["name"])


def test_wide_rows_pass_through_little_memory(tmp_path: Path) -> None:
    """All of them together are larger than what DuckDB may hold; they are not kept, so it need not put them on disk."""
    spec = spec_of()
    wide = [{"id": str(n), "name": "x", "note": os.urandom(4_000).hex()} for n in range(12_000)]
    config = lake_of(tmp_path, spec, [change(n, n, after=row) for n, row in enumerate(wide)], commits=24)

    with LatestChanges(config, spec, ["note"], bytes_max=64 * MIB) as latest:
        latest.prepare([0])
        sent = sum(len(batch.values) for batch in latest.batches(expired_before=NEVER))

    assert len(wide) == sent
