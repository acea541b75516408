"""Tables registered, changed, removed and registered again under a running fleet, and by several people at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.transport.sampling import SampleBounds
from connectors.transport.topics import TopicSettings
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.config import Config
from schemas.errors import TableStopped
from sinks.lake.storage import list_tables
from streams import source_topics
from streams.app import Worker
from streams.apply import apply_folder
from streams.door import open_door
from streams.registration import load_tables, write_entry
from tests.integration.stages import Installation, until, until_off_loop
from tests.oracles.topic import Record, read_records
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

NOWHERE = "redis://127.0.0.1:9/0"
NEW = "patients_v2"


@pytest.fixture
def here(kafka: Kafka, tmp_path: Path) -> Iterator[Installation]:
    """An installation with its topic; nothing is applied yet."""
    made = Installation(kafka.address, NOWHERE, tmp_path)
    made.make()
    yield made
    made.close()
    made.admin.delete([f"{made.prefix}.changes.{NEW}"])


def write_spec(here: Installation, table: str, **changes: Any) -> None:
    """Write the spec of another table than the installation's own."""
    document = {**here.document, "table": table, "features": [], "rules": [], **changes}
    (here.folder / "tables" / f"{table}.yaml").write_text(json.dumps(document))


def end_of_tables(here: Installation) -> int:
    """Return where the topic of the registered tables ends."""
    topic = f"{here.prefix}.tables"
    return here.admin.watermarks_now([(topic, 0)])[topic, 0][1]


def of(here: Installation, table: str) -> list[Record]:
    """Return the changes of a table."""
    return read_records(here.kafka, f"{here.prefix}.changes.{table}")


async def taken_up(workers: Mapping[str, Worker], tables: set[str]) -> None:
    """Wait until all workers run these tables."""
    await until(lambda: all(set(each.host.tables) == tables for each in workers.values()), "taken up")


async def test_a_running_fleet_takes_up_tables_beside_others_and_gone_and_back(here: Installation) -> None:
    """The old version's subscribers see an unbroken chain through all of it; nobody is started again."""
    folder = str(here.folder / "tables")
    async with here.running("normalize", "normalize") as workers:
        here.fill(40)
        await here.emitted(40)

        here.spec(columns={"id": "int", "name": "boolean"})
        assert ExitCode.FOUND == await here.verb("tables", "apply", folder, "--yes")
        here.spec()
        write_spec(here, NEW, beside="patients", columns={"id": "long", "name": "string"})
        assert 0 == await here.verb("tables", "apply", folder, "--yes")
        await taken_up(workers, {"patients", NEW})
        here.fill(40)
        await here.emitted(80)
        await until_off_loop(lambda: len(of(here, NEW)) == 40, "the new version has what came since")

        assert 0 == await here.verb("tables", "remove", NEW, "--yes")
        await taken_up(workers, {"patients"})
        assert 0 == await here.verb("tables", "remove", "patients", "--yes")
        await taken_up(workers, set())
        here.fill(20)
        assert 0 == await here.verb("tables", "apply", folder, "--yes")
        await taken_up(workers, {"patients", NEW})
        await here.emitted(100)

        tables = await asyncio.to_thread(load_tables, here.config)
        assert ({}, 2, 2) == (tables.removed, tables["patients"].schema_version, tables[NEW].schema_version)
        versions = [dict(each.headers)[HEADER_SCHEMA_VERSION] for each in of(here, "patients")]
        assert {b"1": 80, b"2": 20} == {version: versions.count(version) for version in versions}


async def test_a_table_that_is_removed_and_added_again_at_once_lacks_no_row(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Whatever workers had fetched of it at that moment, at any of its ends, while rows flow."""
    here = Installation(kafka.address, redis_server.address, tmp_path)
    here.make()
    folder, enough = str(here.folder / "tables"), threading.Event()

    def feed() -> None:
        while not enough.wait(0.02):
            here.fill(20)

    async with here.running("normalize", "features", "lake"):
        feeding = asyncio.create_task(asyncio.to_thread(feed))
        try:
            for rows in (100, 300, 500):
                await until_off_loop(lambda rows=rows: len(of(here, "patients")) > rows, "rows flow")  # type: ignore[misc]
                assert 0 == await here.verb("tables", "remove", "patients", "--yes")
                assert 0 == await here.verb("tables", "apply", folder, "--yes")
        finally:
            enough.set()
            await feeding

        await here.emitted(here.rows)
        await until_off_loop(lambda: (here.features(), here.lake()[0]) == (here.rows, here.rows), "all ends have all")
    here.close()


def test_the_same_files_write_nothing_and_who_applied_is_remembered(here: Installation) -> None:
    """Whoever applies them; so it is with those that are exported."""
    (made,) = apply_folder(here.config, here.folder / "tables", by="ann@ward")
    load_tables(here.config)  # returns once the marker of its transaction is written, too
    end = end_of_tables(here)

    (again,) = apply_folder(here.config, here.folder / "tables", by="ben@ward")
    assert 0 == entry.run(["tables", "export", "--out", str(here.folder / "out"), "--config", str(here.file)])
    (exported,) = apply_folder(here.config, here.folder / "out", by="eve@ward")

    assert ("added", "unchanged", "unchanged") == (made.action, again.action, exported.action)
    assert end == end_of_tables(here)
    assert "ann@ward" == load_tables(here.config)["patients"].applied_by


def test_of_two_who_write_at_once_one_is_refused_and_told_what_the_other_did(here: Installation) -> None:
    """Nothing of the refused one is written, whatever was written before it looked."""
    apply_folder(here.config, here.folder / "tables")
    before = load_tables(here.config)["patients"]
    first, second = open_door(here.config), open_door(here.config)
    second.write([before.model_copy(update={"paused": "by the second"})])
    end = end_of_tables(here)

    with pytest.raises(TableStopped, match="nothing was written: patients was paused"):
        first.write([before.model_copy(update={"paused": "by the first"})], forget=[b"patients"])
    with pytest.raises(TableStopped, match="nothing was written: patients was paused"):
        write_entry(here.config, before.model_copy(update={"paused": "by a third"}), before=before)

    assert "by the second" == load_tables(here.config)["patients"].paused
    # What is aborted takes offsets and is read by nobody.
    assert end_of_tables(here) - end <= 3


def test_without_transactions_the_later_one_wins_and_is_told(here: Installation) -> None:
    """Where brokers have none, nobody can be shut out."""
    apply_folder(here.config, here.folder / "tables")
    kafka = here.config.kafka.model_copy(update={"guarantee": "at_least_once"})
    config: Config = here.config.model_copy(update={"kafka": kafka})
    before = load_tables(config)["patients"]
    first, second = open_door(config), open_door(config)

    second.write([before.model_copy(update={"paused": "by the second"})])
    with pytest.raises(TableStopped, match="somebody else wrote patients at the same moment"):
        first.write([before.model_copy(update={"paused": "by the first"})])

    assert "by the first" == load_tables(config)["patients"].paused


def test_a_plan_is_applied_only_while_it_holds(here: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who applies in between is named, and nothing is written over what they did."""
    folder, config = str(here.folder / "tables"), str(here.file)
    assert 0 == entry.run(["tables", "plan", folder, "--json", "--config", config])
    file = here.folder / "plan.json"
    file.write_text(capsys.readouterr().out)
    assert ["added"] == [each["action"] for each in json.loads(file.read_text())["tables"]]
    assert {} == here.admin.ids_now([f"{here.prefix}.tables"]), "a plan makes nothing"

    assert ExitCode.CONFIGURATION == entry.run(["tables", "apply", folder, "--config", config]), "nobody can be asked"
    assert 0 == entry.run(["tables", "apply", folder, "--plan", str(file), "--by", "ann", "--config", config])
    assert ExitCode.FOUND == entry.run(["tables", "apply", folder, "--plan", str(file), "--config", config])

    assert "patients was applied by ann at 20" in capsys.readouterr().err


def test_mistakes_are_said_in_the_plan(
    here: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic with a slip in its name, a key that no record has, two patterns that catch one topic, one of ours."""
    monkeypatch.setattr(source_topics, "SAMPLED", SampleBounds(records_max=30, seconds_max=60.0))  # all twelve are read
    here.fill(12)
    here.admin.ensure(f"{here.prefix}.changes.left", TopicSettings(partitions=1))
    slip = here.topic[:-1]
    write_spec(here, "slipped", topics=[slip])
    write_spec(
        here, "keyless", topics=[here.topic], key=["nr"], columns={"nr": "long", "name": "string"}, beside="patients"
    )
    write_spec(here, "all", topics=[f"^{here.topic}.*"])
    write_spec(here, "ours", topics=[f"^{here.prefix}[.]changes[.]l.*"])

    code = entry.run(["tables", "plan", str(here.folder / "tables"), "--json", "--config", str(here.file)])

    shown = capsys.readouterr()
    assert ExitCode.CONFIGURATION == code
    assert f"{here.topic} would feed both" in shown.err
    (here.folder / "tables" / "all.yaml").unlink()
    code = entry.run(["tables", "plan", str(here.folder / "tables"), "--json", "--config", str(here.file)])

    shown = capsys.readouterr()
    said = {
        (each["table"], notice["rule"]): notice
        for each in json.loads(shown.out)["tables"]
        for notice in each["notices"]
    }
    assert ExitCode.FOUND == code
    assert f"did you mean {here.topic}?" == said["slipped", "topic_missing"]["hint"]
    assert "12 of 12 records that were looked at would go to quarantine" in said["keyless", "bad_key"]["what"]
    assert said["ours", "own_topic"]["refuses"]
    assert "also catches" in shown.err
    assert not any(table == "patients" for table, _ in said)


def test_what_masks_and_environments_want_is_said_in_the_plan(
    here: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask key that is missing, at its file; an overlay that is laid over the files, in plan and apply."""
    folder, config = str(here.folder / "tables"), str(here.file)
    environment = here.folder / "tables" / "env"
    environment.mkdir()
    (environment / "prod.yaml").write_text("tables: {patients: {unknown_columns: quarantine}}\n")
    write_spec(
        here,
        "masked",
        topics=[f"{here.topic}-masked"],
        columns={"id": "long", "name": {"type": "string", "mask": "hash"}},
    )

    assert ExitCode.CONFIGURATION == entry.run(["tables", "plan", folder, "--config", config])
    assert "masked: the configuration has no mask key 'default'" in capsys.readouterr().err
    (here.folder / "tables" / "masked.yaml").unlink()
    assert 0 == entry.run(["tables", "apply", folder, "--env", "prod", "--yes", "--config", config])
    assert "quarantine" == here.registered().unknown_columns
    assert 0 == entry.run(["tables", "plan", folder, "--env", "prod", "--config", config])
    assert "0 added, 0 changed, 1 unchanged" in capsys.readouterr().out
    assert 0 == entry.run(["tables", "plan", folder, "--config", config])
    assert "0 added, 1 changed, 0 unchanged" in capsys.readouterr().out


async def test_a_topic_that_a_template_catches_becomes_a_table_of_a_running_fleet(here: Installation) -> None:
    """The tenant's that the topic names, with what its first records show; removed, it is not made again."""
    pattern = f"^{here.prefix}-(ward-[0-9]+)[.](rows)$"
    own, topics = here.topic, [f"{here.prefix}-ward-{n}.rows" for n in (7, 8)]
    template = {
        "table": "of-wards", "tenant": "{1}", "template": "{2}", "topics": [pattern],
        "key": ["id"], "columns": {"id": "int"},
    }  # fmt: skip
    (here.folder / "tables" / "of-wards.yaml").write_text(json.dumps(template))

    def comes(topic: str) -> None:
        here.admin.ensure(topic, TopicSettings(partitions=2))
        here.topic = topic
        here.fill(10, partitions=2)
        here.topic = own

    async with here.running("normalize", "normalize") as workers:
        comes(topics[0])
        await taken_up(workers, {"patients", "ward-7.rows"})
        await until_off_loop(lambda: len(of(here, "ward-7.rows")) == 10, "its rows flow")

        tables = await asyncio.to_thread(load_tables, here.config)
        made = tables["ward-7.rows"]
        assert {"id": "int", "name": "string"} == {name: str(each.type) for name, each in made.spec.columns.items()}
        assert ("ward-7", "template of-wards") == (made.spec.tenant, made.applied_by)
        assert 0 == await here.verb("tables", "remove", "ward-7.rows", "--yes")
        await taken_up(workers, {"patients"})
        comes(topics[1])
        await taken_up(workers, {"patients", "ward-8.rows"})
    here.admin.delete([*topics, *(f"{here.prefix}.changes.ward-{n}.rows" for n in (7, 8))])


async def test_what_a_removed_table_has_goes_if_it_is_asked_to_and_comes_back_with_the_table(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Rows in Redis, the table in the lake, the output topic: nothing of them is left, and no worker makes it again."""
    here = Installation(kafka.address, redis_server.address, tmp_path)
    here.make()
    async with here.running("normalize", "features", "lake") as workers:
        here.fill(20)
        await here.emitted(20)
        await until_off_loop(lambda: (here.features(), here.lake()[0]) == (20, 20), "all ends have the rows")

        assert 0 == await here.verb("tables", "remove", "patients", "--redis", "--output", "--lake", "--yes")

        assert 0 == await asyncio.to_thread(here.features)
        assert [] == await asyncio.to_thread(list_tables, here.config.lake)
        await until_off_loop(lambda: not here.admin.ids_now([here.output]), "the topic is gone")
        assert 0 == await here.verb("tables", "apply", str(here.folder / "tables"), "--yes")
        await taken_up(workers, {"patients"})
        assert 0 == await here.verb("tables", "resume", "patients", "--anew")  # its output is not what it was
        here.fill(10)
        await until_off_loop(lambda: (here.features(), here.lake()[0]) == (10, 10), "what came since")
    here.close()
