"""What a stage process tells over HTTP, and that it can be found by its state file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.table import Table

from headgate.cli.status import as_sums, render
from headgate.installation import Seen
from headgate.local_stages import ask_local_stages
from headgate.slot import Slot
from schemas.config import Config, WebConfig
from schemas.errors import ConfigurationError, SourceUnavailable
from streams.destinations import LeftOver
from streams.page import Installation
from streams.web import StageServer
from streams.workers import WorkerState

STATUS: dict[str, Any] = {
    "stage": "lake",
    "version": "0.1.0",
    "started_at": "2026-11-20T19:45:57+00:00",
    "state": "running",
    "assigned": 4,
    "tables": [
        {
            "table": "patients",
            "topic": "headgate.changes.patients",
            "partitions": 4,
            "lag": 17,
            "freshness_seconds": 0.4,
            "silence_seconds": 2.0,
            "oldest_unfinished_seconds": None,
            "paused": "truncate",
            "hint": "resync it",
        }
    ],
    "last_error": {"kind": "unavailable", "message": "S3 is away", "hint": "look", "at": "2026-11-20T19:46:00+00:00"},
    "counters": {"rows": 100.0},
}


def server(folder: Path, *, status: Mapping[str, Any] = STATUS, **options: Any) -> StageServer:
    """A server of the lake's first slot."""
    return StageServer(
        WebConfig(state_folder=str(folder)), stage="lake", instance="here", slot=0, snapshot=lambda: status, **options
    )


def files(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return [path.name for path in folder.iterdir()]


async def get(url: str) -> tuple[int, str]:
    """Return status and text of an answer."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_running_stage_is_healthy_ready_and_found_by_its_file(tmp_path: Path) -> None:
    """Loopback, a free port, and a state file that goes when the server does."""
    web = server(tmp_path)
    url = await web.start()
    try:
        assert (200, "ok\n") == await get(f"{url}/healthz")
        assert (200, "ok\n") == await get(f"{url}/readyz")
        assert url.startswith("http://127.0.0.1:")
        state = json.loads(web.state_file.read_text())
        assert {"v": 1, "pid": os.getpid(), "url": url, "stage": "lake", "instance": "here", "slot": 0} == state
    finally:
        await web.stop()

    assert files(tmp_path) == []


async def test_a_dead_poll_thread_is_not_healthy_and_a_missing_sink_not_ready(tmp_path: Path) -> None:
    """503, with what is missing."""

    async def ready() -> str | None:
        return "Redis does not answer"

    web = server(tmp_path, alive=lambda: False, ready=ready)
    url = await web.start()
    try:
        assert (503, "the poll thread stands still\n") == await get(f"{url}/healthz")
        assert (503, "Redis does not answer\n") == await get(f"{url}/readyz")
    finally:
        await web.stop()


async def test_status_is_the_snapshot_with_who_it_is(tmp_path: Path) -> None:
    """`headgate status` reads it."""
    web = server(tmp_path)
    url = await web.start()
    try:
        status, text = await get(f"{url}/status")
    finally:
        await web.stop()

    assert status == 200
    assert {**STATUS, "instance": "here", "slot": 0, "pid": os.getpid()} == json.loads(text)


async def test_metrics_come_from_the_same_snapshot(tmp_path: Path) -> None:
    """One text of Prometheus' format, with figures of the process."""
    web = server(tmp_path)
    url = await web.start()
    try:
        _, text = await get(f"{url}/metrics")
    finally:
        await web.stop()

    assert 'headgate_lag_records{stage="lake",table="patients"} 17.0' in text
    assert 'headgate_work_total{stage="lake",what="rows"} 100.0' in text
    assert "process_resident_memory_bytes" in text


async def test_a_taken_port_is_a_configuration_error_and_leaves_nothing(tmp_path: Path) -> None:
    """It names host and port, and says that 0 takes a free one."""
    first = server(tmp_path)
    port = int((await first.start()).rpartition(":")[2])
    second = StageServer(
        WebConfig(state_folder=str(tmp_path), port=port), stage="lake", instance="here", slot=1, snapshot=lambda: STATUS
    )
    try:
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
            await second.start()
    finally:
        await first.stop()

    assert files(tmp_path) == []


async def test_status_asks_what_runs_and_tells_silent_from_dead(tmp_path: Path) -> None:
    """One answers, one holds its slot without answering, one left its file behind."""
    web = server(tmp_path)
    await web.start()
    for number, stage in enumerate(["alerts", "features"]):
        state = {"pid": 1, "url": "http://127.0.0.1:9", "stage": stage, "instance": "here", "slot": number}
        (tmp_path / f"{stage}-here-{number}.json").write_text(json.dumps(state))
    try:
        with Slot(tmp_path, stage="alerts", instance="here", number=0).take():
            stages = await ask_local_stages(tmp_path, timeout_seconds=20)
    finally:
        await web.stop()

    assert [("alerts", "silent"), ("features", "dead"), ("lake", "running")] == [(s.stage, s.state) for s in stages]
    assert stages[2].document()["tables"][0]["lag"] == 17


async def test_the_table_of_status_shows_pauses_errors_and_hints(tmp_path: Path) -> None:
    """What a person must do stands in it."""
    web = server(tmp_path)
    await web.start()
    try:
        stages = await ask_local_stages(tmp_path, timeout_seconds=20)
    finally:
        await web.stop()

    shown = "\n".join(str(part) for part in render(Seen(stages, []))[3:])
    assert "table patients: truncate\n  hint: resync it" in shown
    assert "unavailable at 2026-11-20T19:46:00+00:00: S3 is away\n  hint: look" in shown


def test_what_went_to_quarantine_is_shown_before_all_that_was_counted() -> None:
    """There is room for a few counters only, and somebody must look at these."""
    counters = {**{f"a{n}": float(n) for n in range(20)}, "quarantined_broken_value": 3.0}
    worker = WorkerState("lake", "here", 0, "running", status={"counters": counters})

    (table,) = render(Seen([worker], []))

    assert isinstance(table, Table)
    assert "quarantined_broken_value 3, a0 0, a1 1" == "".join(map(str, table.columns[-1].cells))[:38]


@pytest.mark.parametrize(
    ("waiting", "says"), [(3, "and 3 alerts to it wait\n  hint: name it"), (0, "and nothing waits")]
)
def test_what_a_removed_destination_left_is_told_with_how_to_clear_it(waiting: int, says: str) -> None:
    """And with how to have sent what waits."""
    seen = Seen([], [], left_over=[LeftOver("ward", ("t",), True, 0, waiting)])
    said = str(render(seen)[-1])

    assert f"notify-ward: it is not in `notify`, {says}" in said
    assert "`headgate alerts forget ward` clears it" in said
    assert [{"destination": "ward", "waiting": waiting}] == as_sums(Config(), seen)["left_over"]


def test_columns_that_a_spec_does_not_name_are_told_without_speaking_to_the_terminal() -> None:
    """Their names come from the source."""
    row = {"table": "patients", "unknown_columns": ["age", "\x1b[2J"]}
    worker = WorkerState("normalize", "here", 0, "running", status={"tables": [row]})

    assert r"normalize-here-0: table patients: columns that its spec does not name: age, \x1b[2J" == str(
        render(Seen([worker], []))[-1]
    )


async def test_all_workers_are_shown_by_each_stage_and_kafka_is_asked_once(tmp_path: Path) -> None:
    """As JSON and as a page, on which nothing that a worker wrote is markup."""
    asked: list[int] = []

    def read() -> list[WorkerState]:
        asked.append(1)
        away = WorkerState("alerts", "<b>", 0, "gone", since="yesterday", status={})
        return [away, WorkerState("lake", "here", 0, "running", status=STATUS)]

    web = server(tmp_path, more=Installation(read, ["normalize", "alerts", "lake"]).routes())
    url = await web.start()
    try:
        _, document = await get(f"{url}/workers")
        status, page = await get(f"{url}/")
    finally:
        await web.stop()

    assert ["gone", "running"] == [worker["state"] for worker in json.loads(document)]
    assert (200, [1]) == (status, asked)
    assert "<td>alerts</td><td>&lt;b&gt;-0</td><td>–</td><td>gone since yesterday</td>" in page
    assert "<td>normalize</td><td>0</td>" in page
    assert "<td>lake</td><td>patients</td><td>headgate.changes.patients</td><td>1</td><td>4</td><td>17</td>" in page


async def test_a_page_without_kafka_says_why(tmp_path: Path) -> None:
    """The stage itself goes on, and /status with it."""

    def away() -> list[WorkerState]:
        raise SourceUnavailable("no broker answers", hint="is it <up>?")

    web = server(tmp_path, more=Installation(away, []).routes())
    url = await web.start()
    try:
        answers = [await get(f"{url}{path}") for path in ("/workers", "/", "/status")]
    finally:
        await web.stop()

    assert [503, 503, 200] == [status for status, _ in answers]
    assert {"error": "no broker answers", "hint": "is it <up>?"} == json.loads(answers[0][1])
    assert "is it &lt;up&gt;?" in answers[1][1]
