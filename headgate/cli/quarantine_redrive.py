"""`headgate quarantine redrive`: records sent again, once what was wrong is mended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import now_and_then, print_json, print_table, say
from headgate.cli.quarantine import (
    CODES,
    DryRunOption,
    KindOption,
    SinceOption,
    TableOption,
    UntilOption,
    chosen,
)
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from collections import Counter

    from streams.quarantine_redrive import Outcome

EPILOG = epilog(
    [
        "headgate quarantine redrive --table patients --dry-run",
        "headgate quarantine redrive --table patients --kind bad_type",
    ],
    {
        ExitCode.OK: "they are on their way, also where there were none",
        ExitCode.FOUND: "some would only come back: nothing was sent",
        **CODES,
    },
)


def redrive_records(
    *,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    table: TableOption = None,
    kind: KindOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, those that came first.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also send what would only come back.")] = False,
    dry_run: DryRunOption = False,
) -> int:
    """Have open records read again, in their order and each once; apply the mended spec first.

    All of them are decoded with the registered specs before one is sent. A change that comes of it never passes a later
    one of its row. What fails again is in quarantine once more. Name a table, a kind or a time.
    """
    from streams.quarantine_redrive import redrive

    wanted = chosen(table, kind, since, until)
    outcome = redrive(
        load_config(config, os.environ),
        wanted,
        dry_run=dry_run,
        anyway=anyway,
        limit=limit,
        progress=now_and_then("{1} {0}".format),
    )
    if as_json:
        print_json(_document(outcome, dry_run=dry_run))
    else:
        _print(outcome, dry_run=dry_run)
    return ExitCode.FOUND if outcome.refused else ExitCode.OK


def _document(outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
    sent = not (dry_run or outcome.refused)
    return {
        "dry_run": dry_run,
        "refused": outcome.refused,
        "total": outcome.sent.total() if sent else 0,
        "chosen": _rows(outcome.sent),
        "rejected": _rows(outcome.rejected),
        "passed_over": dict(sorted(outcome.passed_over.items())),
    }


def _rows(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"table": table, "reason": reason, "count": n} for (table, reason), n in sorted(counts.items())]


def _print(outcome: Outcome, *, dry_run: bool) -> None:
    from streams.quarantine_redrive import PASSED_OVER

    headings = ["table", "reason", "records"]
    if outcome.sent:
        print_table(headings, [tuple(row.values()) for row in _rows(outcome.sent)])
    for why, count in sorted(outcome.passed_over.items()):
        say(f"{count} passed over: {PASSED_OVER[why]}")
    if outcome.rejected:
        say(f"{outcome.rejected.total()} of them would come back:")
        print_table(headings, [tuple(row.values()) for row in _rows(outcome.rejected)])
    if outcome.refused:
        say("error: nothing was sent: the registered specs do not take all of them")
        say("hint: `headgate quarantine export … | headgate decode - --spec …` tries a spec; --anyway sends them as is")
    else:
        say(f"{outcome.sent.total()} records {'would be' if dry_run else 'are'} sent again")
