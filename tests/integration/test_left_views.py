"""What rules and views leave behind that `apply` has removed: `check` names it, and it is cleared when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.cli.codes import ExitCode
from schemas.errors import ConfigurationError
from schemas.output import latest_view_name
from streams.app import Worker
from streams.apply import apply_folder
from tests.integration.stages import VIEW, Installation, document_of, filled, until_off_loop
from tests.oracles.latest import compacted
from tests.oracles.topic import read_records
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

ROWS = 40
RENAMED = {"rule": "renamed", "kind": "change", "of": ["name"]}  # it makes a small view of its own


@pytest.fixture
def installation(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """A table whose topic has four partitions."""
    with filled(kafka, redis_server, tmp_path, rows=ROWS) as made:
        yield made


def keys(installation: Installation, server: RedisServer, view: str) -> list[str]:
    """Return the rows that Redis has of a view."""
    with server.client() as client:
        return [key.decode() for key in client.scan_iter(match=f"{installation.prefix}:*:f:{view}.*", count=1_000)]


def topics(installation: Installation, *views: str) -> list[str]:
    """Return which topics there are of views."""
    wanted = [f"{installation.prefix}.{kind}.{view}" for view in views for kind in ("features", "alerts.state")]
    return sorted(installation.admin.describe(wanted))


async def seen(installation: Installation, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `check` says of views."""
    capsys.readouterr()
    await installation.verb("check", "--json")
    results = document_of(capsys.readouterr().out)
    return next(str(result["seen"]) for result in results if result["what"] == "views" and result["ok"])


async def test_what_was_removed_is_named_and_cleared_when_asked(
    installation: Installation, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small view of a removed rule, and the version of a view before this one; nothing that a table has."""
    installation.spec(features=[VIEW | {"emit": True}], rules=[RENAMED])
    async with installation.running("normalize", "features", "alerts"):
        (small,) = {view.view for view in installation.registered().features} - {"patient"}
        await until_off_loop(lambda: len(keys(installation, redis_server, small)) == ROWS, "the rule's view has all")
        await until_off_loop(lambda: len(topics(installation, small)) == 2, "its topics are there")
        await until_off_loop(lambda: installation.features() == ROWS, "the view has all")
        assert "none is left over" == await seen(installation, capsys)
    installation.spec(features=[VIEW | {"version": 2, "columns": ["name", "id"], "emit": True}], rules=[])
    async with installation.running("normalize", "features", "alerts"):
        await until_off_loop(lambda: len(keys(installation, redis_server, "patient")) == 2 * ROWS, "both versions")

    said = await seen(installation, capsys)
    assert f"patient (1 in Redis, 0 topics), {small} (1 in Redis, 2 topics)" in said
    assert "`headgate features forget patient` clears one" in said
    assert ExitCode.OK == await installation.verb("features", "forget", small, "--dry-run")
    assert (ROWS, 2) == (len(keys(installation, redis_server, small)), len(topics(installation, small)))
    assert ExitCode.OK == await installation.verb("features", "forget", small)
    assert ExitCode.OK == await installation.verb("features", "forget", "patient")
    await until_off_loop(lambda: topics(installation, small) == [], "its topics are gone")
    assert "none is left over" == await seen(installation, capsys)
    assert [] == keys(installation, redis_server, small)
    assert {"2"} == {key.split(":")[3].rpartition(".")[2] for key in keys(installation, redis_server, "patient")}
    assert [f"{installation.prefix}.features.patient"] == topics(installation, "patient")
    assert ExitCode.FOUND == await installation.verb("features", "forget", "patient")
    assert "patient is a view of patients" in capsys.readouterr().err
    assert ExitCode.FOUND == await installation.verb("features", "forget", "patientz")

    installation.fill(8)
    installation.spec(features=[VIEW | {"version": 2, "columns": ["name", "id"], "emit": True}], rules=[RENAMED])
    async with installation.running("normalize", "features", "alerts"):  # the rule comes back, to empty places
        await until_off_loop(lambda: len(keys(installation, redis_server, small)) == ROWS + 8, "its view has all")
    await asyncio.to_thread(installation.admin.delete, topics(installation, small, "patient"))


def read_by(worker: Worker) -> set[str]:
    """Return the topics that a worker reads partitions of."""
    return {each.topic for each in worker.consumer.snapshot().partitions}


async def test_a_view_that_is_cleared_and_comes_again_is_taken_up_by_the_workers_that_run(
    installation: Installation, redis_server: RedisServer
) -> None:
    """Its topic is another one than they knew, and what ALERTS remembered of it is gone: it begins there anew."""
    folder, spec = installation.folder / "tables", {"features": [VIEW | {"emit": True}]}
    installation.spec(**spec, rules=[RENAMED])
    async with installation.running("normalize", "features", "alerts") as workers:
        (small,) = {view.view for view in installation.registered().features} - {"patient"}
        updates = f"{installation.prefix}.features.{small}"
        await until_off_loop(lambda: len(topics(installation, small)) == 2, "its topics are there")
        await until_off_loop(lambda: len(installation.alerts()) == ROWS, "its rule is heard")

        installation.spec(**spec, rules=[])
        await asyncio.to_thread(apply_folder, installation.config, folder, force=True)
        await until_off_loop(lambda: updates not in read_by(workers["alerts"]), "its topic is read no more")
        assert ExitCode.OK == await installation.verb("features", "forget", small)
        await until_off_loop(lambda: topics(installation, small) == [], "its topics are gone")
        installation.spec(**spec, rules=[RENAMED])
        await asyncio.to_thread(apply_folder, installation.config, folder, force=True)
        await until_off_loop(lambda: len(topics(installation, small)) == 2, "its topics are there again")
        await until_off_loop(lambda: len(keys(installation, redis_server, small)) == ROWS, "it has all rows again")
        installation.fill(8)
        await until_off_loop(lambda: len(installation.alerts()) == ROWS + 8, "its rule is heard again")
    await asyncio.to_thread(installation.admin.delete, topics(installation, small, "patient"))


def rows_on(installation: Installation, topic: str) -> int:
    """Return how many rows compaction would leave on a topic."""
    return len(compacted(read_records(installation.kafka, topic))) if installation.admin.describe([topic]) else 0


async def test_a_latest_topic_of_before_is_cleared_before_there_is_another(
    installation: Installation, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows under its keys would never go; where it was cleared the table has all of its rows on it again."""
    view, topic = latest_view_name("patients"), f"{installation.prefix}.latest.patients"
    folder = installation.folder / "tables"
    without: dict[str, Any] = {"features": [], "rules": []}
    installation.spec(**without, output={"latest": True})
    async with installation.running("normalize", "features"):
        await until_off_loop(lambda: rows_on(installation, topic) == ROWS, "all rows are on it")
    assert {"cleanup.policy": "compact"}.items() <= installation.admin.config(topic).items()
    installation.spec(**without)
    await asyncio.to_thread(apply_folder, installation.config, folder, force=True)

    assert f"{view} (1 in Redis, 1 topics)" in await seen(installation, capsys)
    installation.spec(**without, output={"latest": True})
    with pytest.raises(ConfigurationError, match=f"{topic} is there from before") as refused:
        await asyncio.to_thread(apply_folder, installation.config, folder)
    assert f"`headgate features forget {view}`" in refused.value.hint
    assert ExitCode.OK == await installation.verb("features", "forget", view)
    await until_off_loop(lambda: not installation.admin.describe([topic]), "it is gone")
    assert [] == keys(installation, redis_server, view)
    async with installation.running("normalize", "features"):
        await until_off_loop(lambda: rows_on(installation, topic) == ROWS, "all rows are on it again")
    await asyncio.to_thread(installation.admin.delete, [topic])
