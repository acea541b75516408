"""The lake on an S3 server: commits, conflicts, sweeping and queries through s3fs."""

from __future__ import annotations

import dataclasses
import time
import uuid
from pathlib import Path

import pytest
import s3fs

from schemas.change import Height
from schemas.config import LakeConfig
from schemas.errors import ConfigurationError
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.sink import Lake
from sinks.lake.stand import OffsetsMoved, Stand
from sinks.lake.storage import file_system, open_catalog
from sinks.lake.table import load_table, open_table
from sinks.lake.verify import verify
from sinks.lake.view import open_lake_sql
from tests.services import S3
from tests.unit.lake.changes import TOPIC, change, deletion, rows_of, spec_of


@pytest.fixture
def config(s3: S3, tmp_path: Path) -> LakeConfig:
    """A lake in a bucket of its own, with a catalogue beside the test."""
    bucket = f"lake-{uuid.uuid4().hex[:12]}"
    made = LakeConfig.model_validate(
        {
            "warehouse": f"s3://{bucket}/wh",
            "catalog_uri": f"sqlite:///{tmp_path}/catalog.db",
            "s3_endpoint": s3.endpoint,
            "s3_region": "us-east-1",
            "s3_access_key": s3.access_key,
            "s3_secret_key": s3.secret_key,
            "snapshots_kept": 3,
            "sweep_grace_seconds": 0,
        }
    )
    file_system(made).mkdir(bucket)
    return made


def batch_of(first: int, count: int) -> LakeBatch:
    """Return `count` changes from offset `first` on, the last of them a delete."""
    changes = [change(n, n) for n in range(first, first + count - 1)]
    rows = rows_of([*changes, deletion(first + count - 1, first)])
    stand = Stand("t", "id", first + count, {(TOPIC, 0, 0): Height(first + count - 1)})
    return LakeBatch("patients", rows, {0: first or None}, {0: stand})


async def test_changes_on_s3_are_committed_verified_and_queried(config: LakeConfig) -> None:
    """The whole way, through the sink."""
    lake = Lake(config, clock=time.time)
    await lake.open(spec_of())
    for turn in range(4):
        await lake.write(batch_of(turn * 5, 5))
    await lake.close()
    table = load_table(open_catalog(config), config.namespace, "patients")

    assert table.location().startswith("s3://")
    assert verify(table).ok
    with open_lake_sql(config) as connection:
        assert [(20, 4)] == connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE _hg_op = 'delete') FROM patients"
        ).fetchall()
        assert [(12,)] == connection.execute("SELECT count(*) FROM patients_latest").fetchall()


def test_a_frozen_worker_on_s3_is_refused(config: LakeConfig) -> None:
    """The fence is the catalogue's, whatever the storage."""
    frozen, successor = (_table(config, time.time) for _ in range(2))
    successor.commit(batch_of(0, 5))

    with pytest.raises(OffsetsMoved):
        frozen.commit(dataclasses.replace(batch_of(0, 4)))
    assert 5 == successor.iceberg.scan().count()


def test_files_of_expired_snapshots_go_on_s3_too(config: LakeConfig) -> None:
    """And orphans after their quarter of an hour."""
    now = [time.time()]
    table = _table(config, lambda: now[0])
    for turn in range(15):
        table.commit(batch_of(turn * 2, 2))
        table.sweep()
    bucket = s3fs.S3FileSystem  # the type that the lake's file system must have
    files = file_system(config)
    orphan = f"{table.iceberg.location()}/data/dead.parquet"
    files.pipe_file(orphan, b"left behind")
    before = files.find(table.iceberg.location())
    now[0] += 3_700
    table.sweep()
    after = files.find(table.iceberg.location())

    assert isinstance(files, bucket)
    assert len(after) < len(before)
    assert 3 == len(table.iceberg.metadata.snapshots)
    assert not any(path.endswith("dead.parquet") for path in after)
    assert 30 == table.iceberg.scan().count()


def test_s3_needs_a_catalogue_that_is_shared() -> None:
    """A file of one machine would be a lake of one machine."""
    with pytest.raises(ConfigurationError) as caught:
        open_catalog(LakeConfig(warehouse="s3://bucket/wh"))
    assert "catalog_uri" in caught.value.hint


def _table(config: LakeConfig, clock: object) -> LakeTable:
    iceberg = open_table(open_catalog(config), config.namespace, spec_of(), snapshots_kept=config.snapshots_kept)
    assert callable(clock)
    return LakeTable(
        iceberg,
        snapshots_kept=config.snapshots_kept,
        sweep_grace_seconds=config.sweep_grace_seconds,
        clock=clock,
    )
