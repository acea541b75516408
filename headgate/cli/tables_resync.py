"""`headgate tables resync`: a table's source is not what it was; its rows are taken anew, and what is gone goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import now_and_then, print_json, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, tables_with
from headgate.cli.times import read_moment
from schemas.errors import TableStopped

if TYPE_CHECKING:
    from streams.resync import Resync, Where

EPILOG = epilog(
    [
        "headgate tables resync patients --dry-run",
        "headgate tables resync patients",
        "headgate tables resync patients --from latest               # its new snapshot is still to come",
        "headgate tables resync patients --from 2026-11-20T19:45Z    # it was read as if nothing had happened",
        "headgate tables resync patients --complete                  # all its rows are there",
    ],
    {
        ExitCode.OK: "workers follow within seconds; `headgate status` shows how far it is",
        ExitCode.FOUND: "no such table or topic, or nothing says where its new life begins",
        ExitCode.CONFIGURATION: "the configuration is not right, or --from is no place in a topic",
        ExitCode.UNAVAILABLE: "Kafka does not answer",
    },
)


def resync_table(
    table: TableArgument,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="Where the new life of the source begins: earliest, latest, a time, or offsets, as 0=4711,1=12. "
            "Without it, at the first row of a new snapshot.",
        ),
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="--from is about this topic of the table; repeatable.")
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete", help="All rows of the new life are in the topic: what is not among them may be deleted."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Take a table's rows anew after a lost slot, a failover or a restore, as a new epoch above all that was.

    When the new snapshot is complete, what it does not hold is deleted downstream. That is seen in the records, where
    the connector says it; else --complete says it, of a resync that is under way, or of the one that it begins.
    """
    from streams.registration import write_entry
    from streams.resync import NO_NEW_SNAPSHOT, declared, is_under_way, plan_resync

    settings = load_config(config, os.environ)
    tables = tables_with(settings, table)
    entry = tables.registered[table]
    if complete and start is None and is_under_way(settings, entry):
        if not dry_run:
            write_entry(settings, declared(entry), before=entry)
        if as_json:
            print_json({"table": table, "epoch": entry.epoch, "complete": True, "written": not dry_run, "topics": []})
        say(f"the snapshot of epoch {entry.epoch} of {table} is complete: what it does not hold is deleted")
        return
    try:
        plan = plan_resync(
            settings, tables, table, _where(start), topic or (), complete=complete,
            progress=now_and_then("{1} {0}".format),
        )  # fmt: skip
    except TableStopped as stop:
        if stop.reason != NO_NEW_SNAPSHOT or not is_under_way(settings, entry):
            raise
        if as_json:
            print_json({"table": table, "epoch": entry.epoch, "complete": False, "written": False, "topics": []})
        say(f"{table} is being resynced to epoch {entry.epoch}, and no other new snapshot was found")
        return
    if not dry_run:
        write_entry(settings, plan.entry, before=entry)
    if as_json:
        print_json(_document(plan, written=not dry_run))
    else:
        _say(plan, written=not dry_run)


def _where(text: str | None) -> Where | None:
    from streams.decide import read_start

    if text is None:
        return None
    return read_start(text) if text in {"earliest", "latest"} or "=" in text else read_moment("--from", text)


def _document(plan: Resync, *, written: bool) -> dict[str, Any]:
    return {
        "table": plan.entry.spec.table,
        "epoch": plan.entry.epoch,
        "complete": plan.complete,
        "written": written,
        "topics": [
            {
                "topic": each.topic,
                "generation": each.generation,
                "read_again": each.again,
                "partitions": [
                    {"partition": number, "begins": offset, "why": each.begin.why[number]}
                    for number, offset in sorted(each.begin.offsets.items())
                ],
            }
            for each in plan.beginnings
        ],
    }


def _say(plan: Resync, *, written: bool) -> None:
    table, epoch = plan.entry.spec.table, plan.entry.epoch
    for each in plan.beginnings:
        for number, offset in sorted(each.begin.offsets.items()):
            say(f"epoch {epoch} begins in {each.topic}[{number}] at {offset}: {each.begin.why[number]}")
        if each.again:
            say(f"{each.again} records of {each.topic} are read again, in a new generation")
    if not written:
        say("nothing was written")
    elif plan.complete:
        say(f"{table} goes on in epoch {epoch}; what is not behind its beginning is deleted as soon as that is read")
    else:
        say(f"{table} goes on in epoch {epoch}; `headgate status` shows how far its snapshot is")
