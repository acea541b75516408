"""`headgate features rebuild` and `forget`: views emptied in Redis and filled again, and removed ones cleared."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, entry_of

if TYPE_CHECKING:
    from streams.rebuild_by_hand import Rebuild

REBUILD_EPILOG = epilog(
    [
        "headgate features rebuild patients --dry-run",
        "headgate features rebuild patients",
        "headgate features rebuild patients --view patient_ward --json",
    ],
    {
        ExitCode.OK: "its views are empty, pending, and being filled; with --dry-run: they could be",
        ExitCode.FOUND: "no such table or view, it is paused, or not all of it could be filled again",
        ExitCode.CONFIGURATION: "the configuration is not right",
        ExitCode.UNAVAILABLE: "Kafka, Redis or the lake does not answer; what is empty is filled again all the same",
    },
)
FORGET_EPILOG = epilog(
    ["headgate features forget patient_ward --dry-run", "headgate features forget patient_ward"],
    {
        ExitCode.OK: "nothing is left of it, or of its versions that no table has",
        ExitCode.FOUND: "nothing was left of it, or a table still has it",
        ExitCode.CONFIGURATION: "the configuration is not right, or a table's entry cannot be read",
        ExitCode.UNAVAILABLE: "Kafka or Redis does not answer; do it again",
    },
)
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def rebuild(
    table: TableArgument,
    view: Annotated[str | None, typer.Option(metavar="VIEW", help="Only this view of the table.")] = None,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Empty a table's views in Redis and have running FEATURES workers fill them again, from the log or the lake.

    For rows that somebody changed by hand. Until a view is complete it is PENDING, and what is not there yet is
    missing for its readers; `headgate status` shows how far it is. Refused where not all of it would come back.
    """
    from streams.rebuild_by_hand import empty_views, plan_rebuild

    settings = load_config(config, os.environ)
    plan = plan_rebuild(settings, entry_of(settings, table), view)
    keys = 0 if dry_run else asyncio.run(empty_views(settings, plan))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "table": plan.table,
                "views": list(plan.views),
                "from": "lake" if plan.from_lake else "log",
                "log_records": plan.records,
                "keys_removed": keys,
            }
        )
        return
    _say(plan, keys, dry_run=dry_run)


def forget(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="One that no table has, as `headgate check` names it.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove what a view left behind that no table has any more: its rows in Redis, and its topics.

    So of a view that was taken out of a spec, of one that a removed rule had made for itself, and of older versions.
    """
    from streams.left_views import forget_view
    from streams.registration import load_tables

    settings = load_config(config, os.environ)
    found = asyncio.run(forget_view(settings, load_tables(settings), view, dry_run=dry_run))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "view": found.view,
                "redis": list(found.ids),
                "topics": list(found.topics),
                "keys_removed": found.keys,
            }
        )
        return
    rows = f"the rows of {', '.join(found.ids)} in Redis" if found.ids else "no rows in Redis"
    topics = f"the topics {', '.join(found.topics)}" if found.topics else "no topics"
    say(f"{found.view}: {rows} and {topics} {'would be' if dry_run else 'are'} removed")


def _say(plan: Rebuild, keys: int, *, dry_run: bool) -> None:
    source = f"the lake, and {plan.records:,} records of the log" if plan.from_lake else f"{plan.records:,} records"
    names = ", ".join(plan.views)
    if dry_run:
        say(f"{plan.table}: {names} would be emptied, and filled again from {source}; nothing was done")
        return
    say(f"{plan.table}: {names} emptied, {keys:,} keys; FEATURES fills them again from {source}")
    say("it begins with the table's next change, or within half a minute; `headgate status` shows how far it is")
