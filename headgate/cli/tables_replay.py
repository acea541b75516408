"""`headgate tables replay`: a table's records read again, beside the live ones, by this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, tables_with
from schemas.errors import ConfigurationError, HeadgateError, TableStopped
from schemas.failpoints import VARIABLE, arm

if TYPE_CHECKING:
    from collections.abc import Collection

    from schemas.config import Config
    from schemas.replay import Replay, Stage
    from schemas.table import TableEntry
    from streams.replay import Asked
    from streams.replaying import Replaying
    from streams.tables import TableDirectory
    from streams.telling import Teller

EPILOG = epilog(
    [
        "headgate tables replay patients --from earliest",
        "headgate tables replay patients --from 2026-11-20T19:45Z --until 2026-11-21 --dry-run",
        "headgate tables replay patients --from 0=4711,1=12 --into features",
        "headgate tables replay patients                  # goes on with one that was broken off",
    ],
    {
        ExitCode.OK: "all of it was read again",
        ExitCode.FOUND: "no such table, nothing lies there, or a record, topic, lost offset or other spec stops it",
        ExitCode.CONFIGURATION: "the configuration is not right",
        ExitCode.UNAVAILABLE: "Kafka does not answer, or somebody else runs it; run it again to go on",
        ExitCode.INTERRUPTED: "Ctrl-C; run it again to go on",
    },
)
INTO = ("features", "lake", "alerts", "topic")
_TELL_SECONDS = 1.0
_STATUS_SECONDS = 5.0
_DRAIN_SECONDS = 10.0


def replay_table(
    table: TableArgument,
    *,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="earliest, a time (of Kafka's records; UTC without a zone), a position, an offset, or 0=4711,1=12.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Up to, without, this place; else to where NORMALIZE stands.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="STAGES", help="Who takes it: features, lake, alerts; or topic, for none.")
    ] = None,
    alerts: Annotated[bool, typer.Option("--alerts", help="Have rules fire; without it a replay is silent.")] = False,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Only this source topic of the table; repeatable.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="At most so many records a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read, and begin nothing.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give up a replay that was broken off.")] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Read a table's records again, as a new generation; the live ones, and other tables, go on beside it.

    Which change of a row wins is decided by position, so a replay changes nothing that is right already. It runs in
    this process, which may be stopped or killed at any moment: the same command goes on where it was.
    """
    settings = load_config(config, os.environ)
    tables = tables_with(settings, table)
    entry, registered = tables.unmasked(table), tables.registered[table]
    if cancel:
        return _cancel(settings, registered)
    if entry.paused is not None:
        raise TableStopped("table_paused", f"{table} is paused", hint=f"`headgate tables resume {table}` first")
    replay = registered.replay
    if start is not None:
        asked = _asked(start, until, _stages(into, alerts=alerts), topic or ())
        if replay is None:
            replay = _planned(settings, tables, entry, asked)
            if not dry_run:
                _begin(settings, registered, replay)
        elif replay.asked != asked.text:
            raise _another_is_unfinished(table, replay)
    elif until or into or alerts or topic:
        raise typer.BadParameter("--until, --into, --alerts and --topic go with --from")
    elif replay is None:
        raise typer.BadParameter("--from says where to begin: earliest, a time, a position or an offset")
    if dry_run:
        _print_plan(replay, as_json=as_json)
        return ExitCode.OK
    return _run(settings, entry, replay, beside=tables.beside(table), rate=rate, as_json=as_json)


def _stages(into: str | None, *, alerts: bool) -> list[Stage]:
    """Return the stages that take a replay, in the order of their names' list."""
    wanted = {"features", "lake"} if into is None else {name.strip() for name in into.split(",")}
    if unknown := wanted - {*INTO}:
        raise typer.BadParameter(f"--into {min(unknown)!r} is none of {', '.join(INTO)}")
    if alerts:
        wanted.add("alerts")
    stages: tuple[Stage, ...] = ("features", "lake", "alerts")
    return [stage for stage in stages if stage in wanted]


def _asked(start: str, until: str | None, into: list[Stage], topics: Collection[str]) -> Asked:
    """Return what is asked for; its words are the same for the same command."""
    from streams.replay import Asked, read_place

    of = f" of {', '.join(sorted(topics))}" if topics else ""
    words = f"from {start}{f' until {until}' if until else ''} into {', '.join(into) or 'the topic alone'}{of}"
    return Asked(read_place(start), None if until is None else read_place(until), into, topics, words)


def _planned(settings: Config, tables: TableDirectory, entry: TableEntry, asked: Asked) -> Replay:
    from streams.registration import open_admin
    from streams.replay import plan, surveyed
    from streams.settings import is_embedded

    if is_embedded(settings):
        raise ConfigurationError("the embedded broker keeps no group's offsets", hint="a replay needs a real Kafka")
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return plan(entry, surveyed(settings, entry, tables), asked, open_admin(settings).offsets_at, at=at)


def _begin(settings: Config, registered: TableEntry, replay: Replay) -> None:
    """Have it known before its first change is written: whoever reads one knows the generation."""
    apart = registered.replayed_apart or not {"features", "lake"} <= {*replay.into}
    update = {"replay": replay, "generation": replay.generation, "replayed_apart": apart}
    _write(settings, registered, **update)


def _another_is_unfinished(table: str, replay: Replay) -> TableStopped:
    return TableStopped(
        "replay_unfinished",
        f"{table}: a replay of {replay.at} is not through: {replay.asked}",
        hint=f"`headgate tables replay {table}` goes on with it, --cancel gives it up",
    )


def _write(settings: Config, before: TableEntry, **update: Any) -> None:
    from streams.registration import write_entry

    write_entry(settings, before.model_copy(update=update), before=before)


def _cancel(settings: Config, entry: TableEntry) -> int:
    """Forget a replay; what it has emitted stays."""
    table = entry.spec.table
    if entry.replay is None:
        say(f"no replay of {table} was broken off")
        return ExitCode.OK
    _write(settings, entry, replay=None)
    teller = _teller(settings, table, dict)
    teller.end(None)
    say(f"the replay of {table} is given up; what it has emitted stays, and changes nothing that was right")
    return ExitCode.OK


def _print_plan(replay: Replay, *, as_json: bool) -> None:
    if as_json:
        print_json(replay.model_dump(mode="json"))
        return
    rows = [
        (topic, number, first, end, end - first)
        for topic, what in sorted(replay.topics.items())
        for number, (first, end) in sorted(what.ranges.items())
    ]
    print_table(["topic", "partition", "from", "until", "offsets"], rows)
    say(f"{replay.asked}: {replay.total} offsets, as generation {replay.generation}")


def _run(
    settings: Config, entry: TableEntry, replay: Replay, *, beside: list[TableEntry], rate: int | None, as_json: bool
) -> int:
    """Run a replay to its end, or to where it is stopped, and say what came of it."""
    from streams.logs import configure_logs
    from streams.replaying import Replaying

    arm(os.environ.get(VARIABLE, ""))
    configure_logs(stage="replay", slot=0)
    table = entry.spec.table
    say(f"{table}: {replay.asked}, as generation {replay.generation}")
    replaying = Replaying(settings, entry, replay, beside=beside, rate_max=rate)
    through = asyncio.run(_watched(settings, replaying))
    if through:
        registered = tables_with(settings, table).registered[table]
        if registered.replay is not None and registered.replay.generation == replay.generation:
            _write(settings, registered, replay=None)
    _print_outcome(replaying, as_json=as_json, through=through)
    return ExitCode.OK if through else ExitCode.INTERRUPTED


async def _watched(settings: Config, replaying: Replaying) -> bool:
    """Run it, tell how far it is, and stop it in good order at Ctrl-C or SIGTERM; at the second one, at once."""
    from streams.replay_status import status_of_replay

    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    running = loop.create_task(replaying.run(stopping))
    teller = _teller(settings, replaying.table, lambda: status_of_replay(replaying, started_at))

    def stop() -> None:
        if stopping.is_set():
            running.cancel()
        stopping.set()
        loop.call_later(_DRAIN_SECONDS, running.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    telling = loop.create_task(_tell(replaying, teller))
    failure: BaseException | None = None
    try:
        return await running
    except asyncio.CancelledError:
        return False
    except HeadgateError as error:
        failure = error
        raise
    finally:
        telling.cancel()
        await asyncio.to_thread(teller.end, failure)


async def _tell(replaying: Replaying, teller: Teller) -> None:
    """Tell others every few seconds how far it is, and people on a terminal every second."""
    from streams.replay_status import waiting

    told = -_STATUS_SECONDS
    while True:
        begun = bool(replaying.ranges())
        if begun and time.monotonic() - told >= _STATUS_SECONDS:
            told = time.monotonic()
            teller.tell()
        if begun and sys.stderr.isatty():
            total = replaying.replay.total
            done = f"{total - replaying.left} of {total} offsets, {replaying.counts['emitted']} changes"
            say("; ".join(filter(None, [done, waiting(replaying)])))
        await asyncio.sleep(_TELL_SECONDS)


def _teller(settings: Config, table: str, state: Any) -> Teller:
    from streams.replaying import slot_of
    from streams.telling import Teller

    teller = Teller(settings, f"{slot_of(table)}-0", state)
    teller.ready = True  # its topic is there: a worker has read what is replayed
    return teller


def _print_outcome(replaying: Replaying, *, as_json: bool, through: bool) -> None:
    counts, left = replaying.counts, replaying.left
    quarantined = [{"reason": reason, "count": count} for (_, reason), count in sorted(replaying.quarantined.items())]
    if as_json:
        print_json(
            {
                "table": replaying.table,
                "generation": replaying.replay.generation,
                "through": through,
                "read": counts["read"],
                "emitted": counts["emitted"],
                "quarantined": quarantined,
                "left": left,
            }
        )
        return
    say(f"{counts['read']} records read, {counts['emitted']} changes emitted")
    for row in quarantined:
        say(f"{row['count']} are in quarantine: {row['reason']}")
    if not through:
        say(f"{left} offsets are left: run `headgate tables replay {replaying.table}` to go on")
