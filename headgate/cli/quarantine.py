"""`headgate quarantine list|show|export|drop`: the records that could not be processed, and why."""

from __future__ import annotations

import base64
import heapq
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.times import read_moment
from schemas.errors import TableStopped

if TYPE_CHECKING:
    from schemas.config import Config
    from sinks.quarantine import Quarantined
    from streams.originals import Original
    from streams.quarantine import Held, Wanted

app = typer.Typer(help="Quarantine: what could not be processed, and why.", no_args_is_help=True, rich_markup_mode=None)

CODES = {ExitCode.CONFIGURATION: "the configuration is not right", ExitCode.UNAVAILABLE: "Kafka does not answer"}
LATEST = 20

TableOption = Annotated[str | None, typer.Option(help="Only this table.")]
KindOption = Annotated[
    str | None, typer.Option(help="Only this reason, such as bad_type, or this kind: poison, schema, limit, bug.")
]
SinceOption = Annotated[
    str | None, typer.Option(help="Only what came at this time or later: 2026-11-20T19:45Z; without Z: UTC too.")
]
UntilOption = Annotated[str | None, typer.Option(help="Only what came before this time.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@dataclass(slots=True)
class _Kind:
    """What there is of one table and reason."""

    became: Counter[str] = field(default_factory=Counter)
    entry: Quarantined | None = None  # the latest
    first_at: str = ""

    def add(self, held: Held) -> None:
        self.became[held.became] += 1
        self.first_at = min(self.first_at or held.entry.at, held.entry.at)
        if self.entry is None or held.entry.at >= self.entry.at:
            self.entry = held.entry

    def document(self, table: str, reason: str) -> dict[str, Any]:
        assert self.entry is not None, "there is one at least"
        return {
            "table": table,
            "reason": reason,
            "kind": self.entry.kind,
            "count": self.became.total(),
            **{how: self.became[how] for how in ("open", "redriven", "dropped")},
            "first_at": self.first_at,
            "last_at": self.entry.at,
            "example": list(self.entry.origin),
            "hint": self.entry.hint,
        }


@app.command(
    "list",
    epilog=epilog(
        [
            "headgate quarantine list",
            "headgate quarantine list --table patients --kind bad_type --latest 5 --json",
            "headgate quarantine list --since 2026-11-20T19:00Z --until 2026-11-20T20:00Z",
        ],
        {ExitCode.OK: "printed, also where there is nothing", **CODES},
    ),
)
def list_records(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    table: TableOption = None,
    kind: KindOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    latest: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the latest to show.")] = LATEST,
) -> None:
    """Count the quarantined records by table and reason, and show the latest; never their contents.

    A record is open until it was redriven or dropped. One that was redriven in vain is there once more, as open.
    """
    kinds: dict[tuple[str, str], _Kind] = {}
    newest: list[tuple[str, int, Held]] = []
    for number, held in enumerate(entries(load_config(config, os.environ), wanted_of(table, kind, since, until))):
        kinds.setdefault(held.kind, _Kind()).add(held)
        (heapq.heappush if len(newest) < latest else heapq.heappushpop)(newest, (held.entry.at, number, held))
    shown = [describe(held) for _, _, held in sorted(newest, reverse=True)[:latest]]
    totals = [each.document(*name) for name, each in sorted(kinds.items())]
    total, still_open = (sum(row[name] for row in totals) for name in ("count", "open"))
    if as_json:
        print_json({"total": total, "open": still_open, "counts": totals, "latest": shown})
        return
    if not totals:
        say("quarantine is empty")
        return
    columns = ["table", "reason", "count", "open", "redriven", "dropped", "first_at", "last_at", "hint"]
    print_table(columns, [[row[name] for name in columns] for row in totals])
    columns = ["at", "stage", "table", "reason", "topic", "partition", "offset", "state", "message"]
    sys.stdout.write("\n")
    print_table(columns, [[each[name] for name in columns] for each in shown], title=f"the latest {len(shown)}")


@app.command(
    "show",
    epilog=epilog(
        [
            "headgate quarantine show clinic.public.patients 0 4711",
            "headgate quarantine show clinic.public.patients 0 4711 --bytes > record.json",
        ],
        {ExitCode.OK: "the record is there", ExitCode.FOUND: "no such record, or its bytes were left out", **CODES},
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
    wanted, all_of_them = (topic, partition, offset), wanted_of(None, None, None, None)
    settings = load_config(config, os.environ)
    every = entries(settings, all_of_them)
    found = [held for held in every if _place(held.entry) == wanted]
    if row is not None:
        found = [held for held in found if row == (held.entry.row or 0)]
    if not found:
        raise TableStopped(
            "not_quarantined",
            f"{topic} {partition} {offset} is not in quarantine",
            hint="`headgate quarantine list` shows what is",
        )
    entry = found[-1].entry if not with_bytes else _opened(settings, found[-1].entry)
    document = describe(found[-1]) | {"times": len(found)}
    if as_json:
        print_json(
            document | ({"key": entry.key, "value": entry.value, "headers": entry.headers} if with_bytes else {})
        )
        return ExitCode.OK
    for name, value in document.items():
        (say if with_bytes else _out)(f"{name:<12} {value}")
    return _print_bytes(entry) if with_bytes else ExitCode.OK


@app.command(
    "export",
    epilog=epilog(
        [
            "headgate quarantine export --table patients > quarantined.jsonl",
            "headgate quarantine export --table patients --kind bad_type | headgate decode - --spec mended.yaml",
        ],
        {ExitCode.OK: "printed, also where there is nothing", ExitCode.FOUND: "some have no bytes any more", **CODES},
    ),
)
def export(
    config: ConfigOption = DEFAULT_FILE,
    table: TableOption = None,
    kind: KindOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    settled: Annotated[bool, typer.Option("--all", help="Also those that were redriven or dropped.")] = False,
) -> int:
    """Print the open records with their contents, as `headgate decode` reads them: a line of JSON each.

    What the quarantine does not hold is read from the source topic. So a mended spec can be tried before it is applied.
    """
    from streams.originals import Originals

    settings, printed, gone = load_config(config, os.environ), 0, 0
    with Originals(settings) as originals:
        for held in entries(settings, wanted_of(table, kind, since, until)):
            if held.entry.stage != "normalize" or not (settled or held.became == "open"):
                continue
            original = originals.of(held.entry)
            if original is None:
                gone += 1
                continue
            sys.stdout.buffer.write(_line(held, original))
            printed += 1
            if printed == limit:
                break
    sys.stdout.flush()
    say(f"{printed} records" + (f"; {gone} left out: neither the quarantine nor the topic has them" if gone else ""))
    return ExitCode.FOUND if gone else ExitCode.OK


@app.command(
    "drop",
    epilog=epilog(
        [
            "headgate quarantine drop --table patients --kind broken_json --dry-run",
            "headgate quarantine drop --table patients --until 2026-11-20T19:45Z",
        ],
        {ExitCode.OK: "nothing more is to be done about them, also where there were none", **CODES},
    ),
)
def drop_records(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    table: TableOption = None,
    kind: KindOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Take open records as done with: they are no longer counted as open, nor redriven.

    They can be shown until retention takes them. Name a table, a kind or a time; all of them would be a slip.
    """
    from streams.quarantine import drop

    wanted = chosen(table, kind, since, until)
    dropped = drop(load_config(config, os.environ), wanted, dry_run=dry_run)
    rows = [{"table": name, "reason": why, "count": count} for (name, why), count in sorted(dropped.items())]
    if as_json:
        print_json({"dry_run": dry_run, "total": dropped.total(), "dropped": rows})
        return
    if rows:
        print_table(["table", "reason", "records"], [tuple(row.values()) for row in rows])
    say(f"{dropped.total()} records {'would be' if dry_run else 'are'} dropped")


def wanted_of(table: str | None, kind: str | None, since: str | None, until: str | None) -> Wanted:
    """Return what the options name."""
    from streams.quarantine import Wanted

    return Wanted(table, kind, read_moment("--since", since), read_moment("--until", until))


def chosen(table: str | None, kind: str | None, since: str | None, until: str | None) -> Wanted:
    """Return what the options name, of which there must be one: all that there is would be a slip.

    Raises:
        BadParameter: there is none.
    """
    if table is kind is since is until is None:
        raise typer.BadParameter("name a --table, a --kind, --since or --until")
    return wanted_of(table, kind, since, until)


def entries(settings: Config, wanted: Wanted) -> Iterator[Held]:
    """Yield entries of the quarantine, per partition in order; those of other versions are told of at the end."""
    from streams.quarantine import Quarantine

    quarantine = Quarantine(settings)
    yield from quarantine.held(wanted)
    if refused := quarantine.refused:
        say(f"error: {len(refused)} left out: {refused[0].message}\nhint: {refused[0].hint}")


def describe(held: Held) -> dict[str, Any]:
    """Return what may be shown of an entry to anybody: everything but key, value and headers."""
    entry = held.entry
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
        "kept": entry.is_whole,
        "redriven": None if entry.redriven is None else list(entry.redriven),
        "state": held.became,
    }


def _opened(settings: Config, entry: Quarantined) -> Quarantined:
    """Return an entry of a table with masks with the own bytes of its record.

    Raises:
        TableStopped: they are sealed, and the configuration has no key that opens them.
    """
    from streams.mask_keys import MISSING, mask_keys_of
    from streams.sealing import Sealing

    opened = Sealing(mask_keys_of(settings.masks)).opened(entry)
    if opened.sealed:
        raise TableStopped(
            MISSING,
            "the original bytes are sealed with a mask key that is not there",
            hint="`headgate masks keys` shows which there are; name it under masks.keys",
        )
    return opened


def _place(entry: Quarantined) -> tuple[str, int, int]:
    return entry.origin[0], entry.origin[2], entry.origin[3]


def _line(held: Held, original: Original) -> bytes:
    """Return a record as `connectors/captured.py` reads it, with why it is here."""
    import msgspec

    entry = held.entry
    document = {
        "topic": entry.origin[0],
        "partition": entry.origin[2],
        "offset": entry.origin[3],
        "headers": [(name, _text(text)) for name, text in original.headers],
        "key": original.key,
        "value": original.value,
        "quarantine": {"reason": entry.reason, "message": entry.message, "at": entry.at, "state": held.became},
    }
    return msgspec.json.encode(document) + b"\n"


def _text(header: bytes | None) -> str | dict[str, bytes] | None:
    try:
        return None if header is None else header.decode()
    except UnicodeDecodeError:
        return {"base64": header or b""}


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")


def _print_bytes(entry: Quarantined) -> int:
    if not entry.is_whole and entry.value is None:
        say(
            "error: the original bytes were left out\nhint: `headgate quarantine export` asks the source topic for them"
        )
        return ExitCode.FOUND
    sys.stdout.flush()
    sys.stdout.buffer.write(base64.b64decode(entry.value or ""))
    return ExitCode.OK
