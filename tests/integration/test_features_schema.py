"""FEATURES on a real Redis: rows of a view whose columns become wider, and a version that nobody knows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from connectors.transport.chunk import Group
from schemas.table import TableEntry
from sinks.redis.read import FeatureRow
from tests.integration.features_worker import SPEC, Worker
from tests.services import RedisServer
from tests.unit.fakes import CHANGES
from tests.unit.features.changes import change

WIDER: dict[str, Any] = {**SPEC, "columns": {**SPEC["columns"], "ward": "string", "more": "int"}}


@pytest.fixture
def one(redis_server: RedisServer) -> Iterator[Worker]:
    """A worker of a table whose rows are its entities."""
    made = Worker(redis_server.address, f"features-{uuid.uuid4().hex[:12]}", [])
    yield made
    with redis_server.client() as client:
        for key in client.scan_iter(match=f"{made.config.redis.key_prefix}:*", count=1_000):
            client.delete(key)


async def give(one: Worker, first: int, *values: bytes, version: int) -> Group:
    """Hand the stage changes that were written by the spec of a version."""
    group = Group([one.consumer.run(one.assignment, first, [*values], version=version)], one.consumer)
    await one.stage.step(group)
    return group


async def test_rows_of_columns_that_become_wider_stay_right(one: Worker) -> None:
    """By position: what was written before and comes late changes nothing newer, and fills what is missing."""

    async def catch_up() -> None:
        one.tables["patients"] = TableEntry.model_validate({"spec": WIDER, "schema_version": 2})

    one.stage.gate.catch_up = catch_up
    await one.begin()
    old = [change(key, key + 1, {"name": "old", "ward": 5, "note": "kept"}) for key in range(3)]
    late = change(1, 5, {"name": "late", "ward": 6, "note": "late"})
    new = change(1, 10, {"name": "new", "ward": "six", "more": 1}, ["note"])
    await give(one, 0, *old, version=1)
    await give(one, 3, new, version=2)
    await give(one, 4, late, version=1)
    rows = await one.rows()
    await one.stage.stop()

    before = FeatureRow({"name": "old", "ward": "5", "note": "kept"}, frozenset(), frozenset(), f"0001{1:041d}", None)
    assert before == rows[0]
    found = rows[1]
    assert found is not None
    assert ({"name": "new", "ward": "six", "note": "late"}, frozenset()) == (found.values, found.unavailable)


async def test_a_version_that_nobody_knows_pauses_the_table(one: Worker) -> None:
    """Nothing of it is written."""
    await one.begin()
    group = await give(one, 0, msgspec.json.encode({"more": 1}), version=2)
    rows = await one.rows()
    await one.stage.stop()

    assert "schema_unknown" == one.consumer.paused[CHANGES].reason
    assert group.runs[0].lost
    assert {None} == set(rows.values())
