"""`headgate tables backfill`: the connector reads rows of a table again, while changes flow, and says how far it is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import say, shown
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, tables_with
from schemas.errors import ConfigurationError, TableStopped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.config import Config
    from schemas.table import TableEntry
    from streams.backfill import Notice

EPILOG = epilog(
    [
        "headgate tables backfill patients",
        "headgate tables backfill patients --where \"ward = 'north'\"",
        "headgate tables backfill patients --source postgresql://headgate@db.example/clinic   # into its signal table",
        "headgate tables backfill patients --follow",
        "headgate tables backfill patients --stop",
    ],
    {
        ExitCode.OK: "the connector has read all rows, or was told to, with --no-wait or --stop",
        ExitCode.FOUND: "no such table, or the connector has not read it",
        ExitCode.CONFIGURATION: "the spec does not say how to reach the connector",
        ExitCode.UNAVAILABLE: "Kafka, the source or the connector does not answer",
    },
)
_CLEAR_LINE = "\r\x1b[K"


def backfill_table(  # noqa: PLR0917 - typer calls it by name
    table: TableArgument,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only rows of this condition, which the source evaluates.")
    ] = None,
    blocking: Annotated[
        bool, typer.Option("--blocking", help="Read them in one go; the connector streams nothing meanwhile.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="Write into the source's signal table instead of a topic: postgresql://… or mysql://….",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or only have it begin.")] = True,
    follow: Annotated[bool, typer.Option("--follow", help="Begin nothing; follow the one begun last.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Have the connector end the one that is under way.")] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Have the connector (Debezium) read rows of a table again. Where a row changed meanwhile, the change wins.

    The connector needs its signals and notifications switched on, and the spec says where they are (`signals`). Ctrl-C
    leaves the backfill running.
    """
    from streams.backfill import Following, send, signals_of, start_signal, stop_signal

    if (follow or stop) and (where is not None or blocking or (follow and stop)):
        raise typer.BadParameter("--follow and --stop stand alone")
    settings = load_config(config, os.environ)
    entry = tables_with(settings, table).registered[table]
    signals = signals_of(entry.spec)
    if stop:
        send(settings, signals, stop_signal(entry.spec), source)
        say(f"the connector {signals.server} is told to end the backfill of {table}; what was read stays")
        return ExitCode.OK
    following = Following(settings, entry.spec, blocking=blocking) if wait or follow else None
    signal_id = ""
    if not follow:
        _check_filter(settings, entry, where, blocking=blocking)
        signal = start_signal(entry.spec, where, blocking=blocking)
        send(settings, signals, signal, source)
        signal_id = signal.id
        say(f"the connector {signals.server} is told to read {table} again: signal {signal_id}")
    if following is None:
        return ExitCode.OK
    try:
        outcome = _shown(following.of(signal_id) if signal_id else following.latest(), as_json=as_json)
    except KeyboardInterrupt:
        say(f"\nit goes on: `headgate tables backfill {table} --follow` shows how far it is, --stop ends it")
        raise
    return _said(settings, entry, outcome, whole=where is None and not follow)


def _check_filter(settings: Config, entry: TableEntry, where: str | None, *, blocking: bool) -> None:
    """Refuse what would be taken for the whole of a table under resync: some connectors mark its end alike."""
    from streams.resync import is_under_way

    if where is not None and blocking and is_under_way(settings, entry):
        raise ConfigurationError(
            f"{entry.spec.table} is being resynced: some rows, read in one go, would look like all that it has",
            hint="leave --blocking out",
        )


def _shown(notices: Iterable[Notice], *, as_json: bool) -> str:
    """Show notices as they come; return what became of it in a word of the connector's."""
    from streams.backfill import SCANNED, SUCCEEDED

    failed, last = "", ""
    for notice in notices:
        if as_json:
            _print_line(notice)
        elif sys.stderr.isatty():
            sys.stderr.write(f"{_CLEAR_LINE}{shown(_line(notice))}")
            sys.stderr.flush()
        elif notice.status != last:
            say(shown(_line(notice)))
        last = notice.status
        if notice.status == SCANNED and notice.outcome not in SUCCEEDED:
            failed = str(notice.outcome)
    if not as_json and sys.stderr.isatty():
        say("")
    return failed or last


def _line(notice: Notice) -> str:
    said = [notice.status.lower().replace("_", " ")]
    if notice.chunk is not None:
        said.append(f"chunk {notice.chunk} of {notice.chunks}")
    if notice.rows is not None:
        said.append(f"{notice.rows:,} rows read")
    elif notice.rows_total is not None:
        said.append(f"about {notice.rows_total:,} rows")
    if notice.outcome is not None:
        said.append(notice.outcome.lower())
    return ", ".join(said)


def _print_line(notice: Notice) -> None:
    import msgspec

    document: dict[str, Any] = msgspec.structs.asdict(notice)
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def _said(settings: Config, entry: TableEntry, outcome: str, *, whole: bool) -> int:
    from streams.backfill import COMPLETED
    from streams.resync import is_under_way

    table = entry.spec.table
    if outcome != COMPLETED:
        raise TableStopped(
            "not_backfilled",
            f"{table} was not read: the connector says {shown(outcome)}",
            hint="is signals.collection what the connector calls it, does it have a key, and was it stopped? "
            "Its log says more",
        )
    say(f"all rows of {table} are read; `headgate status` shows how far they are downstream")
    if whole and is_under_way(settings, entry):
        say(f"{table} is being resynced: `headgate tables resync {table} --complete` says that this was all of it")
    return ExitCode.OK
