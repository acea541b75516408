"""`headgate status`: what the stages of this machine say of themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import console, duration, print_json, say, shown
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from headgate.local_stages import LocalStage

EPILOG = epilog(
    ["headgate status", "headgate status --watch", "headgate status --json | jq '.[].last_error'"],
    {
        ExitCode.OK: "every local stage answered",
        ExitCode.CONFIGURATION: "the configuration is not right",
        ExitCode.UNAVAILABLE: "no stage runs here, or one does not answer",
    },
)
WATCH_SECONDS = 1.0
_COLOURS = {"running": "green", "starting": "yellow", "waiting": "yellow", "stopping": "yellow"}


def status(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second until Ctrl-C.")] = False,
) -> int:
    """Show each local stage: tables, lag, freshness, silence of the source, oldest open chunk, last error and hint."""
    from headgate.local_stages import all_answer, ask_local_stages

    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    folder = Path(load_config(config, os.environ).web.state_folder)
    if watch:
        return asyncio.run(_watch(folder))
    stages = asyncio.run(ask_local_stages(folder))
    if as_json:
        print_json([as_document(stage) for stage in stages])
    elif not stages:
        say(f"no stage runs here (nothing in {folder}); `headgate run` starts them")
    else:
        print_stages(stages)
    return ExitCode.OK if all_answer(stages) else ExitCode.UNAVAILABLE


async def _watch(folder: Path) -> int:
    from rich.console import Group
    from rich.live import Live

    from headgate.local_stages import ask_local_stages

    with Live(console=console(), screen=False, auto_refresh=False) as live:
        while True:
            stages = await ask_local_stages(folder)
            live.update(
                Group(*render(stages)) if stages else Text(f"no stage runs here (nothing in {folder})"), refresh=True
            )
            await asyncio.sleep(WATCH_SECONDS)


def as_document(stage: LocalStage) -> dict[str, Any]:
    """Return what `--json` says of a stage: its own status, or who it is and that it does not answer."""
    identity = {
        "stage": stage.stage,
        "instance": stage.instance,
        "slot": stage.slot,
        "pid": stage.pid,
        "url": stage.url,
    }
    return {**identity, **stage.status, "state": stage.state}


def print_stages(stages: list[LocalStage]) -> None:
    """Print the stages, their tables, and what they would like to be told about."""
    for part in render(stages):
        console().print(part)


def render(stages: list[LocalStage]) -> list[Table | Text]:
    """Return the table of stages, the table of their tables, and a line per trouble."""
    parts: list[Table | Text] = [_stages_table(stages)]
    if any(stage.status.get("tables") for stage in stages):
        parts += [Text(), _tables_table(stages)]
    troubles = [line for stage in stages for line in _troubles(stage)]
    return [*parts, Text(), *troubles] if troubles else parts


def _stages_table(stages: list[LocalStage]) -> Table:
    table = _table("stage", "slot", "pid", "state", "partitions", "counted")
    for stage in stages:
        counters = _quarantine_first(stage.status.get("counters", {}))[:8]
        counted = ", ".join(f"{name} {value:g}" for name, value in counters)
        state = Text(stage.state, style=_COLOURS.get(stage.state, "red"))
        slot = f"{stage.instance}-{stage.slot}"
        table.add_row(stage.stage, slot, str(stage.pid), state, str(stage.status.get("assigned", "–")), counted)
    return table


def _quarantine_first(counters: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the counters by name, those of the quarantine first: there is room for a few."""
    return sorted(counters.items(), key=lambda item: (not item[0].startswith("quarantined_"), item[0]))


def _tables_table(stages: list[LocalStage]) -> Table:
    table = _table("stage", "table", "topic", "partitions", "lag", "freshness", "source silent", "oldest open", "state")
    for stage in stages:
        for row in stage.status.get("tables", []):
            ages = (row.get(name) for name in ("freshness_seconds", "silence_seconds", "oldest_unfinished_seconds"))
            state = Text(f"paused: {row['paused']}", style="red") if row.get("paused") else Text("runs")
            cells = [
                stage.stage,
                row["table"],
                row.get("topic"),
                row.get("partitions"),
                row.get("lag"),
                *map(duration, ages),
            ]
            table.add_row(*("–" if cell is None else str(cell) for cell in cells), state)
    return table


def _troubles(stage: LocalStage) -> list[Text]:
    name = f"{stage.stage}-{stage.instance}-{stage.slot}"
    if stage.state == "dead":
        return [_trouble(name, f"process {stage.pid} is gone", "`headgate run` starts it again")]
    if not stage.status:
        return [_trouble(name, f"process {stage.pid} does not answer at {stage.url}", "look at its log")]
    lines = [
        _trouble(name, f"table {row['table']}: {row['paused']}", row.get("hint") or "")
        for row in stage.status.get("tables", [])
        if row.get("paused")
    ]
    lines += [
        _trouble(name, f"table {row['table']}: columns that its spec does not name: {shown(', '.join(columns))}", "")
        for row in stage.status.get("tables", [])
        if (columns := row.get("unknown_columns"))
    ]
    if error := stage.status.get("last_error"):
        lines.append(_trouble(name, f"{error['kind']} at {error['at']}: {error['message']}", error.get("hint") or ""))
    return lines


def _trouble(name: str, what: str, hint: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), what, (f"\n  hint: {hint}" if hint else "", "dim"))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
