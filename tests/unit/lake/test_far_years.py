"""Years that Python's datetime does not know are written to the lake, and come back as the contract's texts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.change import Height
from schemas.config import LakeConfig
from schemas.table import TableSpec
from sinks.lake import table as lake
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.latest import LatestChanges
from sinks.lake.rows import commit_dates
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from tests.unit.lake.changes import INGESTED, TOPIC, change, rows_of, spec_of

DAYS = ["2024-02-29", "+10000-01-01", "-0043-03-15", "0000-02-29", "+5874897-12-31", "-4712-01-01"]
STAMPS = [
    *("2024-02-29T13:45:06.789123", "+10000-01-01T00:00:00.000000", "-0043-03-15T12:00:00.000000"),
    *("+294246-12-31T23:59:59.999999", "-4712-01-01T00:00:00.000000", "0001-01-01T00:00:00.000000"),
]
MOMENTS = [f"{text}Z" for text in STAMPS]


def written(folder: Path, spec: TableSpec, changes: list[dict[str, Any]]) -> LakeConfig:
    """Return the lake that holds `changes`."""
    config = LakeConfig(warehouse=str(folder))
    opened = lake.open_table(open_catalog(config), config.namespace, spec)
    table = LakeTable(opened, snapshots_kept=5, sweep_grace_seconds=60.0, clock=time.time)
    last = len(changes) - 1
    stand = Stand("headgate.changes.patients", "id-1", len(changes), {(TOPIC, 0, 0): Height(last, 0)})
    table.commit(LakeBatch("patients", rows_of(changes, spec), {0: None}, {0: stand}))
    return config


def rebuilt(config: LakeConfig, spec: TableSpec) -> list[dict[str, Any]]:
    """Return the current rows as the lake gives them back to a rebuild, in the order of their numbers."""
    with LatestChanges(config, spec, list(spec.columns)) as latest:
        latest.prepare([0])
        values = [json.loads(one) for batch in latest.batches(expired_before=INGESTED) for one in batch.values]
    return [value["after"] for value in sorted(values, key=lambda value: str(value["position"]))]


@pytest.mark.parametrize(("type_", "texts"), [("date", DAYS), ("timestamp", STAMPS), ("timestamptz", MOMENTS)])
def test_a_key_of_any_year_is_written_and_read_back(tmp_path: Path, type_: str, texts: list[str]) -> None:
    """A key has bounds in the manifest, where the writer knows them: here it does not."""
    spec = spec_of(columns={"id": type_})
    changes = [change(n, n, key={"id": text}, after={"id": text}) for n, text in enumerate(texts)]
    config = written(tmp_path, spec, changes)

    assert [{"id": text} for text in texts] == rebuilt(config, spec)


def test_values_of_any_year_are_written_and_read_back_also_in_lists(tmp_path: Path) -> None:
    """A rebuild from the lake gives what a replay of the topic gives."""
    types = {"d": ("date", DAYS), "t": ("timestamp", STAMPS), "z": ("timestamptz", MOMENTS)}
    spec = spec_of(
        columns={"id": "long"}
        | {name: type_ for name, (type_, _) in types.items()}
        | {f"{name}s": f"list<{type_}>" for name, (type_, _) in types.items()}
    )
    rows = [
        {"id": str(n)}
        | {name: texts[n] for name, (_, texts) in types.items()}
        | {f"{name}s": [texts[n], None] for name, (_, texts) in types.items()}
        for n in range(len(DAYS))
    ]
    config = written(tmp_path, spec, [change(n, n, after=row) for n, row in enumerate(rows)])

    assert rows == rebuilt(config, spec)


def test_a_commit_time_of_any_year_stops_nothing(tmp_path: Path) -> None:
    """No source commits then; a worker of before may have let one through."""
    spec = spec_of(columns={"id": "long"})
    config = written(tmp_path, spec, [change(n, n, ts=text, after={"id": str(n)}) for n, text in enumerate(MOMENTS)])

    assert [{"id": str(n)} for n in range(len(MOMENTS))] == rebuilt(config, spec)


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin"])
def test_the_day_of_a_far_moment_is_the_nearest_that_has_a_name(time_zone: str) -> None:
    """Files are partitioned by it."""
    moments = pa.array([-(2**62), 2**62], pa.int64()).cast(pa.timestamp("us", "UTC"))
    first, last = commit_dates(moments, time_zone).to_pylist()

    assert 1 == first.year
    assert 9999 == last.year
