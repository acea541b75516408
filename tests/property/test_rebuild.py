"""What the lake says of a table's rows leaves in Redis what the table's whole history leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import LakeConfig
from schemas.table import TableSpec
from sinks.lake.commit import LakeBatch, LakeTable
from sinks.lake.latest import LatestChanges
from sinks.lake.stand import Stand
from sinks.lake.storage import open_catalog
from sinks.lake.table import open_table
from tests.property.ledgers import LedgerStore, on_a_real_redis
from tests.services import RedisServer
from tests.unit.lake.changes import change, deletion, encoded, rows_of, spec_of

KEYS = 3
BUCKETS = 2
LONG_AGO, FAR_AHEAD = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def spec() -> TableSpec:
    """Return a table with a view of all its columns."""
    columns = ["name", "note", "weight", "tags"]
    return spec_of(features=[{"view": "all", "entity": "patient", "columns": columns}])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw changes of a few keys; some lack a column, some come late, some are deletes."""
    positions = draw(st.permutations(range(1, draw(st.integers(1, 14)) + 1)))
    changes = []
    for offset, position in enumerate(positions):
        key, at = draw(st.integers(0, KEYS - 1)), {"position": f"0001{position:041d}"}
        if draw(st.integers(0, 3)) == 0:
            changes.append(deletion(offset, key, **at))
        else:
            missing = draw(st.lists(st.sampled_from(["note", "weight"]), unique=True))
            changes.append(change(offset, key, unavailable=missing, **at))
    return changes


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[LedgerStore]:
    """A ledger under its own prefix."""
    made = LedgerStore(redis_server.address, spec(), buckets=BUCKETS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lakes of all examples lie."""
    return tmp_path_factory.mktemp("lakes")


def in_lake(config: LakeConfig, changes: list[dict[str, Any]]) -> None:
    """Write changes to a new lake."""
    catalog = open_catalog(config)
    table = LakeTable(
        open_table(catalog, config.namespace, spec()), snapshots_kept=2, sweep_grace_seconds=0, clock=time.time
    )
    rows = rows_of(changes, spec())
    table.commit(LakeBatch("patients", rows, {0: None}, {0: Stand("t", "id", len(changes), {})}))
    catalog.close()


@on_a_real_redis(20)
@given(histories())
def test_the_lakes_rows_leave_what_all_changes_leave(
    store: LedgerStore, folder: Path, changes: list[dict[str, Any]]
) -> None:
    """Field by field, the positions of single columns and of the last delete included."""
    entities = [str(key) for key in range(KEYS)]
    store.clear()
    store.send(store.gathered(encoded(changes)).sections)
    expected = store.hashes("all.1", entities)
    config = LakeConfig(warehouse=str(folder / str(time.monotonic_ns())))
    in_lake(config, changes)

    store.clear()
    with LatestChanges(config, spec(), ["name", "note", "weight", "tags"]) as latest:
        keys = latest.prepare([0])
        batches = list(latest.batches(expired_before=LONG_AGO))
    for batch in batches:
        store.send(store.gathered(batch.values).sections)

    assert expected == store.hashes("all.1", entities)
    assert keys == len({entry["key"]["id"] for entry in changes})
    assert not any(flag for batch in batches for flag in batch.expired)
