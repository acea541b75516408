"""`headgate tables list|pause|resume`: verbs on one table, written to the compacted topic that every worker follows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import TableStopped, naming

if TYPE_CHECKING:
    from collections.abc import Collection

    from schemas.config import Config
    from schemas.table import TableEntry
    from streams.decide import Found
    from streams.tables import TableDirectory

app = typer.Typer(help="The registered tables: list, pause, resume.", no_args_is_help=True, rich_markup_mode=None)

PAUSED_BY_HAND = "paused by hand"
TROUBLES_SHOWN = 20
# Going on after these would mix rows of two lives of the source: only a resync mends it.
NEEDS_RESYNC = frozenset(
    {"source_read_anew", "order_lost", "topic_changed", "source_moved", "truncate", "offset_out_of_range"}
)

_CODES = {
    ExitCode.OK: "done",
    ExitCode.FOUND: "no such table or topic, or a topic of it waits for --anew or --from",
    ExitCode.CONFIGURATION: "the configuration is not right",
    ExitCode.UNAVAILABLE: "Kafka does not answer",
}
TableArgument = Annotated[
    str, typer.Argument(metavar="TABLE", help="The table's name, as `headgate tables list` shows it.")
]


@app.command(
    "list",
    short_help="List the registered tables.",
    epilog=epilog(["headgate tables list", "headgate tables list --json"], _CODES),
)
def list_tables(config: ConfigOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """List the registered tables: topics, key, views, rules, and whether they are paused."""
    from streams.registration import load_tables

    tables = load_tables(load_config(config, os.environ))
    entries = {**tables.templates, **{table: tables.unmasked(table) for table in tables}}
    rows = [describe(entry) for _, entry in sorted(entries.items())]
    for table, error in sorted(tables.unreadable.items()):
        say(f"error: {table}: {error.message}\nhint: {error.hint}")
    if as_json:
        print_json(rows)
    elif not rows:
        say("no table is registered; `headgate tables apply DIR` applies the specs of a folder")
    else:
        headings = ["table", "topics", "key", "columns", "views", "rules", "lake", "state"]
        print_table(headings, [_row(row) for row in rows])


@app.command(
    "pause",
    epilog=epilog(["headgate tables pause patients", 'headgate tables pause patients --reason "new key"'], _CODES),
)
def pause(
    table: TableArgument,
    reason: Annotated[str, typer.Option(help="Why; `headgate status` shows it.")] = PAUSED_BY_HAND,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Stop one table; the others go on. Its records wait in the source topic; in one that others share they are parked.

    Parked records stand on headgate.parked.TABLE, and flow beside the live ones once the table is resumed.
    """
    settings = load_config(config, os.environ)
    entry = registered_entry_of(settings, table)
    if entry.paused is not None:
        say(f"{table} is paused already: {entry.paused}")
        return
    _write(settings, entry, entry.model_copy(update={"paused": reason}))
    say(f"{table} is paused; workers follow within seconds")


@app.command(
    "resume",
    short_help="Go on with a paused table.",
    epilog=epilog(
        [
            "headgate tables resume patients",
            "headgate tables resume patients --anew                     # its topic was made anew",
            "headgate tables resume patients --from earliest            # retention took what was not read",
            "headgate tables resume patients --from 0=4711,1=12 --topic clinic.public.patients",
        ],
        _CODES,
    ),
)
def resume(
    table: TableArgument,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Read the topics in trouble as a new generation, and take up a new output topic."),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHERE", help="Where: earliest, latest, or offsets of partitions, as 0=4711,1=12."
        ),
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Only this source topic of the table; repeatable.")
    ] = None,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Go on with a paused table, where it stopped, in all stages; also what a worker paused by itself.

    Where a topic is not what was read before, somebody has to say where to go on: --anew or --from.
    """
    from streams.decide import survey

    settings = load_config(config, os.environ)
    tables = tables_with(settings, table)
    entry = before = tables.registered[table]
    if entry.paused is not None:
        refuse_resync(table, entry.paused)
    found = survey(settings, entry, tables)
    is_decided = anew or start is not None or bool(topic)
    if is_decided:
        entry = _decided(settings, entry, found, anew=anew, start=start, topics=topic or ())
    _write(settings, before, entry.model_copy(update={"paused": None, "resumed": entry.resumed + 1}))
    say(f"{table} goes on; workers follow within seconds")
    if not is_decided and (troubles := [trouble for each in found for trouble in each.troubles.values()]):
        for trouble in troubles[1:TROUBLES_SHOWN]:
            say(f"stays paused: {trouble.message}")
        troubles[0].hint = naming(troubles[0].hint, table)
        raise troubles[0]


def _decided(
    settings: Config, entry: TableEntry, found: list[Found], *, anew: bool, start: str | None, topics: Collection[str]
) -> TableEntry:
    """Return the entry with what was decided, and say what that means."""
    from streams.decide import accept_output, decide, output_of, read_start

    place = read_start(start or "earliest")
    entry, said = decide(entry, found, anew=anew, start=place, topics=topics)
    if anew and found:
        output, topic_id = output_of(settings, entry, found)
        entry = accept_output(entry, output, topic_id)
        said.append(f"{output} is taken up as it is now by the stages that had read another one of this name")
    for line in said or [
        f"no topic of {entry.spec.table} is in trouble; --topic TOPIC names one that is to be read anew"
    ]:
        say(line)
    return entry


def refuse_resync(table: str, reason: str) -> None:
    """Let through what may simply go on.

    Raises:
        TableStopped: the pause says that rows would be lost or doubled.
    """
    short = reason.partition(":")[0].strip()
    if short in NEEDS_RESYNC:
        raise TableStopped(
            short,
            f"{table} stays paused: {reason}",
            hint=f"its source is not what was read before: `headgate tables resync {table}` takes its rows anew",
        )


def describe(entry: TableEntry) -> dict[str, Any]:
    """Return what `tables list --json` says of a table."""
    spec = entry.spec
    return {
        "table": spec.table,
        "topics": spec.topics,
        "format": spec.format,
        "key": spec.key,
        "columns": len(spec.columns),
        "views": [view.view for view in spec.features],
        "rules": [rule.rule for rule in spec.rules],
        "lake": spec.lake.enabled,
        "schema_version": entry.schema_version,
        "epoch": entry.epoch,
        "generation": entry.generation,
        "decisions": {topic: decision.model_dump(mode="json") for topic, decision in entry.decisions.items()},
        "resumed": entry.resumed,
        "paused": entry.paused,
        "template": spec.template,
        "replay": None if entry.replay is None else entry.replay.model_dump(mode="json"),
        "applied_at": entry.applied_at,
        "applied_by": entry.applied_by,
    }


def _row(row: dict[str, Any]) -> list[Any]:
    def names(values: list[str]) -> str | None:
        return ", ".join(values) or None

    state = f"paused: {row['paused']}" if row["paused"] else "runs"
    if row["template"]:
        state = f"makes {row['template']}"
    if row["replay"]:
        state += f", replay not through: {row['replay']['asked']}"
    lake = "yes" if row["lake"] else "no"
    key, topics, views, rules = (names(row[field]) for field in ("key", "topics", "views", "rules"))
    return [row["table"], topics, key, row["columns"], views, rules, lake, state]


def entry_of(settings: Config, table: str) -> TableEntry:
    """Return a table as it runs, with what workers found of its columns.

    Raises:
        TableStopped: there is no such table; the hint has the nearest name.
        ConfigurationError: its entry cannot be read.
    """
    return tables_with(settings, table).unmasked(table)


def entry_or_template(settings: Config, table: str) -> TableEntry:
    """Return a table as it runs, or a template; raises what `entry_of` does."""
    from streams.registration import load_tables

    template = load_tables(settings).templates.get(table)
    return template if template is not None else entry_of(settings, table)


def registered_entry_of(settings: Config, table: str) -> TableEntry:
    """Return a table as people applied it, so that it may be written again; raises what `entry_of` does."""
    return tables_with(settings, table).registered[table]


def tables_with(settings: Config, table: str) -> TableDirectory:
    """Return the registered tables, of which `table` is one; raises what `entry_of` does."""
    from streams.registration import load_tables

    tables = load_tables(settings)
    if table in tables.unreadable:
        raise tables.unreadable[table]
    if table not in tables:
        raise no_such_table(table, list(tables))
    return tables


def no_such_table(table: str, known: list[str]) -> TableStopped:
    """Return the error for a table that is not registered, with the nearest name."""
    import difflib

    near = difflib.get_close_matches(table, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"registered are {', '.join(sorted(known)[:20]) or 'none'}"
    return TableStopped("unregistered", f"no table {table!r} is registered", hint=hint)


def _write(settings: Config, before: TableEntry, after: TableEntry) -> None:
    from streams.registration import write_entry

    write_entry(settings, after, before=before)
