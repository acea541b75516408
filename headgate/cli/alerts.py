"""`headgate alerts`: what could not be delivered, sent again; what a removed destination left, cleared."""

from __future__ import annotations

import heapq
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.times import read_moment

if TYPE_CHECKING:
    from streams.redrive import Letter, Wanted

app = typer.Typer(help="Alerts: what could not be delivered.", no_args_is_help=True, rich_markup_mode=None)
dead = typer.Typer(
    help="Dead letters: alerts that could not be delivered.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(dead, name="dead")

_CODES = {ExitCode.CONFIGURATION: "the configuration is not right", ExitCode.UNAVAILABLE: "Kafka does not answer"}
LATEST = 20

DestinationOption = Annotated[str | None, typer.Option(help="Only those to this destination.")]
RuleOption = Annotated[str | None, typer.Option(help="Only those of this rule.")]
SinceOption = Annotated[
    str | None, typer.Option(help="Only those that died at this time or later: 2026-11-20T19:45Z; without Z: UTC too.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@dead.command(
    "list",
    epilog=epilog(
        ["headgate alerts dead list", "headgate alerts dead list --destination ward --since 2026-11-20T19:00Z --json"],
        {ExitCode.OK: "printed, also where there is nothing", **_CODES},
    ),
)
def list_letters(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    destination: DestinationOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    latest: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the latest to show.")] = LATEST,
) -> None:
    """Count the dead letters by destination, rule and reason, and show the latest; never the alerts' values."""
    from streams.redrive import dead_letters

    counts: Counter[tuple[str, str, str]] = Counter()
    redriven: Counter[tuple[str, str, str]] = Counter()
    newest: list[tuple[int, int, Letter]] = []
    wanted = _wanted(destination, rule, since)
    for number, each in enumerate(dead_letters(load_config(config, os.environ), wanted)):
        kind = (each.letter.destination, each.letter.alert.rule, each.letter.reason)
        counts[kind] += 1
        redriven[kind] += each.redriven
        (heapq.heappush if len(newest) < latest else heapq.heappushpop)(newest, (each.letter.dead_at, number, each))
    shown = [describe(each) for _, _, each in sorted(newest, reverse=True)[:latest]]
    headings = ["destination", "rule", "reason", "letters", "redriven"]
    rows = [(*kind, count, redriven[kind]) for kind, count in sorted(counts.items())]
    if as_json:
        totals = [dict(zip(headings, row, strict=True)) for row in rows]
        print_json({"total": counts.total(), "counts": totals, "latest": shown})
        return
    if not counts:
        say("there are no dead letters")
        return
    print_table(headings, rows)
    sys.stdout.write("\n")
    columns = ["dead_at", "destination", "rule", "table", "reason", "status", "attempts", "redriven", "id"]
    print_table(columns, [[each[name] for name in columns] for each in shown], title=f"the latest {len(shown)}")


@dead.command(
    "redrive",
    epilog=epilog(
        [
            "headgate alerts dead redrive --destination ward --dry-run",
            "headgate alerts dead redrive --destination ward --rule potassium-high --since 2026-11-20T19:00Z",
        ],
        {ExitCode.OK: "they are on their way, also where there were none", **_CODES},
    ),
)
def redrive_letters(
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    destination: DestinationOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Send dead letters again, each under the id of its alert and only once; what fails again is a new dead letter."""
    from streams.redrive import redrive

    done = redrive(load_config(config, os.environ), _wanted(destination, rule, since), dry_run=dry_run)
    sent = [{"destination": to, "rule": of, "letters": count} for (to, of), count in sorted(done.sent.items())]
    passed_over = {name: done.passed_over[name] for name in ("sent_before", "no_destination")}
    if as_json:
        print_json({"dry_run": dry_run, "total": done.sent.total(), "sent": sent, "passed_over": passed_over})
        return
    if sent:
        print_table(["destination", "rule", "letters"], [tuple(each.values()) for each in sent])
    say(f"{done.sent.total()} dead letters {'would be' if dry_run else 'are'} sent again")
    say(
        f"passed over: {passed_over['sent_before']} that were sent before, "
        f"{passed_over['no_destination']} to destinations that the configuration does not name"
    )


@app.command(
    "forget",
    epilog=epilog(
        ["headgate alerts forget ward --dry-run", "headgate alerts forget ward"],
        {
            ExitCode.OK: "nothing is left of it but its dead letters",
            ExitCode.FOUND: "it is still configured, still runs, or nothing was left of it",
            **_CODES,
        },
    ),
)
def forget_destination(
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="One that was taken out of `notify`.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove what a destination left behind: its consumer group, and the alerts that wait for another attempt."""
    from streams.destinations import forget

    found = forget(load_config(config, os.environ), destination, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "destination": found.destination,
                "topics": list(found.topics),
                "group": found.has_group,
                "waiting": found.waiting,
            }
        )
        return
    say(
        f"{found.destination}: {len(found.topics)} topics with {found.waiting} alerts that wait, and "
        f"{'its' if found.has_group else 'no'} group {'would be' if dry_run else 'are'} removed"
    )


def describe(each: Letter) -> dict[str, Any]:
    """Return what may be shown of a dead letter to anybody: everything but the alert's key and values."""
    letter = each.letter
    return {
        "destination": letter.destination,
        "reason": letter.reason,
        "status": letter.status,
        "attempts": letter.attempts,
        "first_failed_at": _time(letter.first_failed_at),
        "dead_at": _time(letter.dead_at),
        "id": letter.alert.id,
        "rule": letter.alert.rule,
        "severity": letter.alert.severity,
        "table": letter.alert.table,
        "position": letter.alert.position,
        "redriven": each.redriven,
    }


def _wanted(destination: str | None, rule: str | None, since: str | None) -> Wanted:
    from streams.redrive import Wanted

    return Wanted(destination, rule, read_moment("--since", since))


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
