"""`headgate status`: what the workers of the installation say of themselves, from any machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import console, duration, print_json, say, shown
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from headgate.installation import Seen
    from schemas.config import Config
    from streams.destinations import LeftOver
    from streams.workers import WorkerState

EPILOG = epilog(
    [
        "headgate status",
        "headgate status --watch",
        "headgate status --json | jq '.[].last_error'",
        "headgate status --sums --json | jq '.tables[].lag'",
    ],
    {
        ExitCode.OK: "every stage has a worker, and each tells of itself",
        ExitCode.CONFIGURATION: "the configuration is not right",
        ExitCode.UNAVAILABLE: "a worker is gone or silent, a stage has none, or Kafka does not answer",
    },
)
WATCH_SECONDS = 1.0
_COLOURS = {"running": "green", "starting": "yellow", "waiting": "yellow", "stopping": "yellow"}


def status(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second until Ctrl-C.")] = False,
    sums: Annotated[
        bool,
        typer.Option(
            "--sums", help="With --json: per stage, per stage and table, and what is left over; not per worker."
        ),
    ] = False,
) -> int:
    """Show the workers of all machines: tables, lag, freshness, silence of the source, last error and hint.

    They write their state to Kafka every five seconds; those of this machine are asked directly. Destinations that
    were removed and have left something are named.
    """
    from headgate.installation import look

    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    if sums and not as_json:
        raise typer.BadParameter("--sums goes with --json; without it sums are shown anyway")
    settings = load_config(config, os.environ)
    if watch:
        return asyncio.run(_watch(settings))
    seen = asyncio.run(look(settings))
    if as_json:
        print_json(as_sums(settings, seen) if sums else [worker.document() for worker in seen.workers])
    else:
        for part in render(seen):
            console().print(part)
    if seen.unheard is not None:
        say(f"error: {seen.unheard.message}\nhint: {seen.unheard.hint}")
    return ExitCode.OK if seen.is_well else ExitCode.UNAVAILABLE


async def _watch(settings: Config) -> int:
    from rich.console import Group
    from rich.live import Live

    from headgate.installation import Watched

    watched = Watched(settings)
    try:
        with Live(console=console(), screen=False, auto_refresh=False) as live:
            while True:
                seen = await watched.look()
                said = [] if seen.unheard is None else [_trouble("kafka", seen.unheard.message, seen.unheard.hint)]
                live.update(Group(*render(seen), *said), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
    finally:
        watched.close()


def as_sums(settings: Config, seen: Seen) -> dict[str, Any]:
    """Return what `--sums --json` says: stages, also those without a worker, tables, and removed destinations."""
    from headgate.supervisor import stage_names
    from streams.workers import operation_sums, quarantine_sums, stage_sums, table_sums

    return {
        "stages": stage_sums(seen.workers, stage_names(list(settings.notify))),
        "tables": table_sums(seen.workers),
        "changes": operation_sums(seen.workers),
        "quarantined": quarantine_sums(seen.workers),
        "left_over": [{"destination": each.destination, "waiting": each.waiting} for each in seen.left_over],
    }


def render(seen: Seen) -> list[Table | Text]:
    """Return the table of workers, the table of their tables' sums, and a line per trouble."""
    from streams.workers import operation_sums, quarantine_sums, table_sums

    parts: list[Table | Text] = []
    if seen.workers:
        parts.append(_workers_table(seen.workers))
    else:
        parts.append(Text("no worker was found; `headgate run` starts them"))
    if sums := table_sums(seen.workers):
        parts += [Text(), _tables_table(sums)]
    if emitted := operation_sums(seen.workers):
        parts += [Text(), _operations_table(emitted)]
    if put := quarantine_sums(seen.workers):
        parts += [Text(), _quarantined_table(put)]
    troubles = [line for worker in seen.workers for line in _troubles(worker)]
    troubles += [
        _trouble(stage, "no worker works for this stage", f"`headgate run --stage {stage}` starts one")
        for stage in (seen.missing if seen.workers else ())
    ]
    troubles += map(_left_over, seen.left_over)
    return [*parts, Text(), *troubles] if troubles else parts


def _workers_table(workers: Iterable[WorkerState]) -> Table:
    table = _table("stage", "slot", "host", "pid", "state", "partitions", "counted")
    for worker in workers:
        counters = _quarantine_first(worker.status.get("counters", {}))[:8]
        counted = ", ".join(f"{shown(name)} {value:g}" for name, value in counters)
        said = f"gone since {worker.since}" if worker.state == "gone" else worker.state
        state = Text(shown(said), style=_COLOURS.get(worker.state, "red"))
        cells = [worker.stage, f"{worker.instance}-{worker.slot}", worker.status.get("host", "here"), worker.pid]
        table.add_row(*_plain(cells), state, *_plain([worker.status.get("assigned"), counted]))
    return table


def _quarantine_first(counters: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the counters by name, those of the quarantine first: there is room for a few."""
    return sorted(counters.items(), key=lambda item: (not item[0].startswith("quarantined_"), item[0]))


def _tables_table(sums: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("stage", "table", "topic", "partitions", "lag", "freshness", "source silent", "oldest open", "state")
    for row in sums:
        ages = (row[name] for name in ("freshness_seconds", "silence_seconds", "oldest_unfinished_seconds"))
        state = _state_of(row)
        cells = [row["stage"], row["table"], row["topic"], row["partitions"], row["lag"], *map(duration, ages)]
        table.add_row(*_plain(cells), state)
    return table


def _operations_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the workers emitted since they started, to hold against the source's own counts."""
    names = [name for name in rows[0] if name != "table"]
    table = _table("changes of", *names)
    for row in rows:
        table.add_row(*_plain([row["table"], *(row.get(name, 0) for name in names)]))
    return table


def _quarantined_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return what the workers put into quarantine since they started; `headgate quarantine list` says what is open."""
    table = _table("table", "reason", "quarantined since the start")
    for row in rows:
        table.add_row(*_plain([row["table"], row["reason"], row["count"]]))
    return table


def _state_of(row: Mapping[str, Any]) -> Text:
    if row["paused"]:
        parked = f", parked: {row['parked']['records']}" if row["parked"] else ""
        return Text(f"paused: {shown(row['paused'])}{shown(parked)}", style="red")
    if pending := row["pending"]:
        return Text(shown(f"pending: {pending['done']} of {pending['total']}"), style="yellow")
    if row["resync"]:
        return Text(shown(resync_said(row["resync"])), style="yellow")
    if row["sweeping"]:
        return Text("sweeping: rows below a floor are on their way out", style="yellow")
    return Text("runs")


def resync_said(progress: Mapping[str, Any]) -> str:
    """Return how far a resync is, in a line."""
    said = f"resyncing to epoch {progress['epoch']}: {progress['rows']} rows of the snapshot"
    begun, of = progress["begun"], progress["partitions"]
    if progress["snapshot"] == "open":
        return f"{said}, its end was not seen; {begun} of {of} partitions have begun"
    return f"{said}, its end is known; {progress['left']} of {of} partitions are still to be read"


def _plain(cells: Sequence[Any]) -> list[Text]:
    """Return cells as text that a terminal does not obey: workers of other machines wrote it."""
    return [Text(shown(cell)) for cell in cells]


def _troubles(worker: WorkerState) -> list[Text]:
    name = worker.name if worker.instance else worker.stage
    match worker.state:
        case "dead":
            return [_trouble(name, f"process {worker.pid} is gone", "`headgate run` starts it again")]
        case "silent":
            return [_trouble(name, f"process {worker.pid} does not answer at {worker.url}", "look at its log")]
        case "gone":
            hint = "does its machine run, and reach Kafka? A worker that ended cleanly is not shown"
            return [_trouble(name, f"nothing was heard of it since {worker.since}", hint)]
    lines = []
    for row in worker.status.get("tables", []):
        if row.get("paused"):
            lines.append(_trouble(name, f"table {row['table']}: {row['paused']}", row.get("hint") or ""))
        if columns := row.get("unknown_columns"):
            lines.append(
                _trouble(name, f"table {row['table']}: columns that its spec does not name: {', '.join(columns)}", "")
            )
        if evolved := row.get("evolved"):
            found = ", ".join(f"{column['column']} {column['type']} since {column['since']}" for column in evolved)
            what = f"table {row['table']}: columns follow the source, beyond the spec: {found}"
            lines.append(_trouble(name, what, f"`headgate tables export {row['table']}` prints the spec with them"))
    if left_out := worker.status.get("tables_left_out"):
        lines.append(_trouble(name, f"{left_out} of its tables are not shown: there are too many for one record", ""))
    if error := worker.status.get("last_error"):
        lines.append(_trouble(name, f"{error['kind']} at {error['at']}: {error['message']}", error.get("hint") or ""))
    return lines


def _left_over(left: LeftOver) -> Text:
    clear = f"`headgate alerts forget {left.destination}` clears it"
    if left.waiting:
        what = f"it is not in `notify`, and {left.waiting} alerts to it wait"
        return _trouble(f"notify-{left.destination}", what, f"name it in `notify` again, or {clear}")
    return _trouble(f"notify-{left.destination}", "it is not in `notify`, and nothing waits", clear)


def _trouble(name: str, what: str, hint: str) -> Text:
    return Text.assemble((f"{shown(name)}: ", "bold"), shown(what), (f"\n  hint: {shown(hint)}" if hint else "", "dim"))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
