"""`headgate tables plan|apply`: the difference between a folder of specs and what runs, shown and then made."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, say, shown
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import ConfigurationError
from schemas.table import APPLIED_BY_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.plan import Plan, TablePlan

_CODES = {
    ExitCode.FOUND: "a change is refused: the rule and the ways out are told; or others have applied meanwhile",
    ExitCode.CONFIGURATION: "a mistake in a file, between the files, or in the configuration",
    ExitCode.UNAVAILABLE: "Kafka does not answer",
}
PLAN_EPILOG = epilog(
    [
        "headgate tables plan tables/",
        "headgate tables plan tables/ --env prod",
        "headgate tables plan tables/ --json > plan.json",
    ],
    {ExitCode.OK: "what would be done is told, also if it is nothing", **_CODES},
)
APPLY_EPILOG = epilog(
    [
        "headgate tables apply tables/",
        "headgate tables apply tables/ --yes                 # from a pipeline",
        "headgate tables apply tables/ --plan plan.json      # only if that is still what it would do",
    ],
    {ExitCode.OK: "the tables are registered as the files say, or were so already", **_CODES},
)
NAMES_SHOWN = 20

EnvOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="With the overlay of this environment, DIR/env/NAME.yaml.")
]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the specs, one file per table.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also what breaks those who read a table: you have told them.")
]


def plan_tables(
    folder: FolderArgument,
    env: EnvOption = None,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Show what an apply of a folder would do: tables, topics, lake, Redis, rules, and what it means for subscribers.

    Nothing is made or written. Records that flow already are looked at. Registered tables of no file stay.
    """
    from streams.apply import check_not_refused, plan_folder

    plan = plan_folder(load_config(config, os.environ), folder, env=env)
    _show(plan, as_json=as_json)
    check_not_refused(plan, force=force)


def apply_tables(
    folder: FolderArgument,
    env: EnvOption = None,
    config: ConfigOption = DEFAULT_FILE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    plan_file: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Apply only what this says, as `plan --json` printed it."),
    ] = None,
    force: ForceOption = False,
    by: Annotated[str | None, typer.Option("--by", help="Who applies; left out, this user at this host.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register the tables of a folder: all of them or none. Running workers take them up within seconds.

    The same files again change nothing. Of two people who apply at once one is refused, and told what has changed.
    """
    from streams.apply import apply_plan, check_not_refused, plan_folder

    settings, planned = load_config(config, os.environ), _read_plan(plan_file)
    if planned is None and not yes:
        plan = plan_folder(settings, folder, env=env)
        _show(plan, as_json=as_json)
        check_not_refused(plan, force=force)
        if not plan.changes:
            return
        _ask(plan)
        planned = plan.document()
        apply_plan(settings, folder, env=env, by=by or this_user(), force=force, planned=planned)
    else:
        plan = apply_plan(settings, folder, env=env, by=by or this_user(), force=force, planned=planned)
        _show(plan, as_json=as_json)
    if plan.changes:
        say("applied; workers follow within seconds")


def this_user() -> str:
    """Return who runs this: the user at the host's name."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        user = str(os.getuid())
    return re.sub(r"[^ -~]", "?", f"{user}@{socket.gethostname()}")[:APPLIED_BY_CHARACTERS_MAX]


def _ask(plan: Plan) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("nothing was applied: nobody is there to be asked", hint="--yes, or --plan FILE")
    typer.confirm(f"apply {len(plan.changes)} tables?", abort=True, err=True)


def _read_plan(file: Path | None) -> Mapping[str, Any] | None:
    if file is None:
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        hint = "`headgate tables plan DIR --json > FILE` writes one"
        raise ConfigurationError(f"{file} cannot be read as a plan: {type(exc).__name__}", hint=hint) from exc
    if not isinstance(found, dict):
        raise ConfigurationError(f"{file} is no plan", hint="`headgate tables plan DIR --json > FILE` writes one")
    return found


def _show(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(plan.document())
        return
    for line in lines_of(plan):
        sys.stdout.write(shown(line) + "\n")
    sys.stdout.flush()


def lines_of(plan: Plan) -> Iterator[str]:
    """Yield what people read of a plan."""
    for each in plan.changes:
        yield f"{each.table}: {each.action}, schema version {each.schema_version}"
        yield from (f"    {line}" for line in _of_table(each))
    for notice in plan.notices:
        yield f"look at {notice.rule}: {notice.what} ({notice.hint})"
    counts = plan.document()["counts"]
    yield ", ".join(f"{count} {action}" for action, count in counts.items())
    if plan.left:
        more = f" and {len(plan.left) - NAMES_SHOWN} more" if len(plan.left) > NAMES_SHOWN else ""
        yield f"in no file, and staying: {', '.join(plan.left[:NAMES_SHOWN])}{more}; `headgate tables remove` ends one"


def _of_table(plan: TablePlan) -> Iterator[str]:
    for topic, partitions in plan.made.items():
        yield f"topic     {topic} is made with {partitions} partitions"
    for topic, table in list(plan.foreseen.items())[:NAMES_SHOWN]:
        yield f"table     {table} is made of {topic}"
    for column, what in plan.lake.items():
        yield f"lake      {column or 'the table'} {what}"
    for view, what in plan.views.items():
        yield f"redis     {view} {what}"
    for rule, what in plan.rules.items():
        yield f"rule      {rule} {what}"
    for said in plan.contract:
        yield f"{'contract' if said.compatible else 'BREAKS  '}  {said}"
    for notice in plan.notices:
        yield f"{'REFUSED' if notice.refuses else 'look at'}   {notice.rule}: {notice.what} ({notice.hint})"
