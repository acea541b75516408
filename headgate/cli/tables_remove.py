"""`headgate tables remove`: a table registered no more; what it left stays, unless it is asked to go as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, entry_or_template
from headgate.cli.tables_plan import this_user

if TYPE_CHECKING:
    from collections.abc import Collection

    from streams.remove import Left

REMOVE_EPILOG = epilog(
    [
        "headgate tables remove patients                       # says what would go and what would stay",
        "headgate tables remove patients --yes",
        "headgate tables remove patients --redis --output --lake --yes",
    ],
    {
        ExitCode.OK: "it is registered no more; without --yes: told what that would mean",
        ExitCode.FOUND: "no such table, or others have written meanwhile",
        ExitCode.CONFIGURATION: "the configuration is not right, or others cannot do without it",
        ExitCode.UNAVAILABLE: "something does not answer, or a worker still has it; what is left is told",
    },
)


def remove_table_verb(
    table: TableArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
    redis: Annotated[
        bool, typer.Option("--redis", help="Take its views' rows in Redis and their topics away as well.")
    ] = False,
    output: Annotated[
        bool, typer.Option("--output", help="Delete its output topic, and what was parked of it, as well.")
    ] = False,
    lake: Annotated[bool, typer.Option("--lake", help="Drop its table in the lake with its files as well.")] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Register a table no more. Running workers leave it within seconds; the other tables do not notice.

    Its output topic, its rows in Redis and its table in the lake stay unless they are named. Applied again under the
    same name, it goes on where it stood.
    """
    from streams.remove import Removal, left_of, remove_table

    settings = load_config(config, os.environ)
    taking = [kind for kind, asked in {"redis": redis, "output": output, "lake": lake}.items() if asked]
    left, removal = left_of(settings, entry_or_template(settings, table)), Removal(table)
    if yes:
        removal = remove_table(
            settings, table, by=this_user(), taking=taking,
            waiting=lambda: say("registered no more; waiting until no worker has it"),
        )  # fmt: skip
    if as_json:
        print_json(
            {
                "table": table,
                "removed": yes,
                "views": list(left.views),
                "topics": {"redis": list(left.of_views), "output": list(left.outputs)},
                "lake": left.lake,
                "subjects": list(left.subjects),
                "keys_removed": removal.keys,
                "topics_removed": list(removal.topics),
                "lake_dropped": removal.dropped,
            }
        )
        return
    for line in lines_of(left, taking, done=yes):
        say(line)


def lines_of(left: Left, taking: Collection[str], *, done: bool) -> list[str]:
    """Return what people read: what goes, and what stays."""
    goes, stays = ("is removed", "stays") if done else ("would be removed", "would stay")

    def said(kind: str) -> str:
        return goes if kind in taking else stays

    lines = [f"{left.table} {goes}: workers read it no more"]
    if left.views:
        lines.append(f"redis: {', '.join(left.views)} {said('redis')}")
    lines += [f"topic: {topic} {said('redis')}" for topic in left.of_views]
    lines += [f"topic: {topic} {said('output')}" for topic in left.outputs]
    if left.lake is not None:
        lines.append(f"lake: {left.lake} {said('lake')}, if rows ever came")
    if left.subjects:
        lines.append(f"registry: {', '.join(left.subjects)} {stays}")
    if left.versions:
        lines.append(f"beside it, and going on: {', '.join(left.versions)}")
    return lines if done else [*lines, "nothing was done; --yes does it"]
