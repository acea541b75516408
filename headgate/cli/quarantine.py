"""`headgate quarantine list|show`: the records that could not be processed, and why."""

from __future__ import annotations

import base64
import heapq
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import TableStopped, VersionRefused

if TYPE_CHECKING:
    from schemas.config import Config
    from sinks.quarantine import Quarantined

app = typer.Typer(help="Quarantine: what could not be processed, and why.", no_args_is_help=True, rich_markup_mode=None)

_CODES = {ExitCode.CONFIGURATION: "the configuration is not right", ExitCode.UNAVAILABLE: "Kafka does not answer"}
LATEST = 20


@app.command(
    "list",
    epilog=epilog(
        ["headgate quarantine list", "headgate quarantine list --table patients --latest 5 --json"],
        {ExitCode.OK: "printed, also where there is nothing", **_CODES},
    ),
)
def list_records(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    latest: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the latest to show.")] = LATEST,
) -> None:
    """Count the quarantined records by table and reason, and show the latest; never their contents."""
    counts: Counter[tuple[str, str]] = Counter()
    hints: dict[str, str] = {}
    newest: list[tuple[str, int, Quarantined]] = []
    for number, entry in enumerate(entries(load_config(config, os.environ))):
        if table is not None and entry.table != table:
            continue
        counts[entry.table or "(no table)", entry.reason] += 1
        hints[entry.reason] = entry.hint
        (heapq.heappush if len(newest) < latest else heapq.heappushpop)(newest, (entry.at, number, entry))
    shown = [entry for _, _, entry in sorted(newest, reverse=True)[:latest]]
    if as_json:
        totals = [{"table": name, "reason": reason, "count": count} for (name, reason), count in sorted(counts.items())]
        print_json({"total": counts.total(), "counts": totals, "latest": [describe(entry) for entry in shown]})
        return
    if not counts:
        say("quarantine is empty")
        return
    print_table(
        ["table", "reason", "records", "hint"], [(*key, count, hints[key[1]]) for key, count in sorted(counts.items())]
    )
    headings = ["at", "stage", "table", "reason", "topic", "partition", "offset", "message"]
    sys.stdout.write("\n")
    print_table(headings, [_row(entry) for entry in shown], title=f"the latest {len(shown)}")


@app.command(
    "show",
    epilog=epilog(
        [
            "headgate quarantine show clinic.public.patients 0 4711",
            "headgate quarantine show clinic.public.patients 0 4711 --bytes > record.json",
        ],
        {ExitCode.OK: "the record is there", ExitCode.FOUND: "no such record, or its bytes were left out", **_CODES},
    ),
)
def show(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The source topic.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0)],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0)],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    row: Annotated[
        int | None, typer.Option(min=0, help="Only this change of the record, of which a stage refused single ones.")
    ] = None,
    with_bytes: Annotated[
        bool, typer.Option("--bytes", help="Also the original record: its value on stdout, or in the JSON.")
    ] = False,
) -> int:
    """Show why one record is in quarantine; its contents only when asked for, since they may be personal."""
    wanted = (topic, partition, offset)
    found = [e for e in entries(load_config(config, os.environ)) if (e.origin[0], e.origin[2], e.origin[3]) == wanted]
    if row is not None:
        found = [entry for entry in found if row == (entry.row or 0)]
    if not found:
        raise TableStopped(
            "not_quarantined",
            f"{topic} {partition} {offset} is not in quarantine",
            hint="`headgate quarantine list` shows what is",
        )
    entry = found[-1]
    document = describe(entry)
    if as_json:
        print_json(
            document | ({"key": entry.key, "value": entry.value, "headers": entry.headers} if with_bytes else {})
        )
        return ExitCode.OK
    for name, value in document.items():
        (say if with_bytes else _out)(f"{name:<12} {value}")
    return _print_bytes(entry) if with_bytes else ExitCode.OK


def entries(settings: Config) -> Iterator[Quarantined]:
    """Yield all entries of the quarantine, per partition in order; those of other versions are told of at the end."""
    from connectors.transport.scan import scan
    from schemas.topics import TopicNames
    from sinks.quarantine import read_quarantined
    from streams.registration import open_admin
    from streams.settings import client_settings

    topic, refused = TopicNames(settings.kafka.topic_prefix).quarantine, list[VersionRefused]()
    for record in scan(topic, client_settings(settings), open_admin(settings)):
        if record.value is None:
            continue
        try:
            yield read_quarantined(record.value)
        except VersionRefused as error:
            refused.append(error)
    if refused:
        say(f"error: {len(refused)} left out: {refused[0].message}\nhint: {refused[0].hint}")


def describe(entry: Quarantined) -> dict[str, Any]:
    """Return what may be shown of an entry to anybody: everything but key, value and headers."""
    return {
        "reason": entry.reason,
        "kind": entry.kind,
        "message": entry.message,
        "hint": entry.hint,
        "stage": entry.stage,
        "table": entry.table,
        "topic": entry.origin[0],
        "generation": entry.origin[1],
        "partition": entry.origin[2],
        "offset": entry.origin[3],
        **({"row": entry.row} if entry.row else {}),
        "at": entry.at,
        "value_bytes": entry.value_bytes,
        "kept": entry.value is not None,
    }


def _row(entry: Quarantined) -> tuple[Any, ...]:
    return (
        entry.at,
        entry.stage,
        entry.table,
        entry.reason,
        entry.origin[0],
        entry.origin[2],
        f"{entry.origin[3]} row {entry.row}" if entry.row else entry.origin[3],
        entry.message,
    )


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")


def _print_bytes(entry: Quarantined) -> int:
    if entry.value is None:
        say("error: the original bytes were left out\nhint: the source topic may still have them")
        return ExitCode.FOUND
    sys.stdout.flush()
    sys.stdout.buffer.write(base64.b64decode(entry.value))
    return ExitCode.OK
