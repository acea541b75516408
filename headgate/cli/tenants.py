"""`headgate tenants list|add|rights`: those who share an installation, each with tables of its own."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.table import TableSpec
    from streams.tenant_rights import Rights, Role

app = typer.Typer(help="Tenants: list, add, print their rights.", no_args_is_help=True, rich_markup_mode=None)

_CODES = {
    ExitCode.OK: "done",
    ExitCode.CONFIGURATION: "the configuration, a name or a template is not right; nothing was written",
    ExitCode.UNAVAILABLE: "Kafka does not answer",
}
_RIGHTS_CODES = {**_CODES, ExitCode.FOUND: "no table of this tenant is registered (for a worker's rights)"}
TenantArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The tenant's name: small letters, digits and dashes, 31 at most.")
]


@app.command(
    "list",
    short_help="List the tenants.",
    epilog=epilog(["headgate tenants list", "headgate tenants list --json"], _CODES),
)
def list_tenants(config: ConfigOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """List the tenants that have tables: how many, with how many views and rules, and how many are paused."""
    from streams.registration import load_tables
    from streams.tenants import tenants_of

    rows = [asdict(each) for each in tenants_of(load_tables(load_config(config, os.environ)))]
    if as_json:
        print_json(rows)
    elif not rows:
        say("no registered table names a tenant; docs/tenants.md")
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])


@app.command(
    "add",
    short_help="Make the specs of new tenants.",
    epilog=epilog(
        [
            "headgate tenants add ward-3 --template templates",
            "headgate tenants add ward-3 ward-4 --template templates --into tables --apply",
        ],
        {
            **_CODES,
            ExitCode.FOUND: "what --apply would change is refused, or others have applied meanwhile: specs are written",
            ExitCode.CONFIGURATION: "the configuration, a name or a template is not right: nothing was written; "
            "or a mistake that --apply found: specs are written, none is applied",
        },
    ),
)
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The tenants' names.")],
    template: Annotated[Path, typer.Option(metavar="DIR", help="The folder with a template for each table, as YAML.")],
    into: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of specs: files go to DIR/NAME/.", show_default="tables")
    ] = Path("tables"),
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply that folder, all of it, as `headgate tables apply --yes` does.")
    ] = False,
    env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With the overlay of this environment, DIR/env/NAME.yaml.")
    ] = None,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Make a spec of each template for each tenant: `{tenant}` in it stands for the name.

    All or nothing: no file is written while one of them would not be right. A file that is there already stays as it
    is, and is refused where it says something else. Where --apply is refused the files stay; the same command again
    applies them.
    """
    from streams.tenants import made_for, read_templates, write_specs

    if env is not None and not apply:
        raise typer.BadParameter("--env goes with --apply")
    settings = load_config(config, os.environ) if apply else None
    templates = read_templates(template)
    made = {path: text for name in names for path, text in made_for(name, templates, template).items()}
    written = write_specs(made, into)
    if not as_json:  # before they are applied: that may be refused, and they are there
        say(f"{len(written)} specs written below {into}, {len(made) - len(written)} were there")
    applied = _applied(settings, into, env) if settings is not None else None
    if as_json:
        document = {"written": [str(into / path) for path in written], "unchanged": len(made) - len(written)}
        print_json(document if applied is None else {**document, "applied": applied})
        return
    if applied is None:
        say(f"`headgate tables apply {into}` registers them")
    else:
        say(f"{applied['added']} tables added, {applied['changed']} changed, {applied['unchanged']} as before")


def _applied(settings: Config, folder: Path, env: str | None) -> dict[str, int]:
    """Apply a folder, and return how many tables were added, changed or as before."""
    from headgate.cli.tables_plan import this_user
    from streams.apply import apply_folder
    from streams.patience import telling_soon

    with telling_soon(lambda: say(f"waiting for Kafka at {settings.kafka.bootstrap}")):
        actions = [change.action for change in apply_folder(settings, folder, env=env, by=this_user())]
    return {action: actions.count(action) for action in ("added", "changed", "unchanged")}


@app.command(
    "rights",
    short_help="Print a template of rights.",
    epilog=epilog(
        [
            "headgate tenants rights ward-3",
            "headgate tenants rights ward-3 --user ward-3-app --standings",
            "headgate tenants rights ward-3 --role worker --json",
        ],
        _RIGHTS_CODES,
    ),
)
def rights(
    name: TenantArgument,
    role: Annotated[
        Literal["reader", "worker"],
        typer.Option(help="Who reads what is the tenant's, or the workers, what they need for it beside their own."),
    ] = "reader",
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="The user of Kafka and Redis.", show_default="NAME-ROLE")
    ] = None,
    standings: Annotated[
        bool,
        typer.Option(
            "--standings", help="A reader may see which views are complete: of all tenants, with their names."
        ),
    ] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Print what a tenant's user may do in Kafka, Redis and on S3, for the tools of each; nothing is changed.

    For a worker its registered tables are read, of which it needs the source topics.
    """
    from streams.tenant_rights import rights_of
    from streams.tenants import check_tenant

    settings = load_config(config, os.environ)
    check_tenant(name)
    found = rights_of(name, role, settings, _specs_of(settings, name, role), standings=standings)
    who = user or f"{name}-{role}"
    if as_json:
        print_json(as_document(name, role, who, found))
    else:
        _print(settings, who, found)


def _specs_of(settings: Config, tenant: str, role: Role) -> list[TableSpec]:
    from streams.registration import load_tables
    from streams.tenants import specs_of

    return specs_of(tenant, load_tables(settings).registered) if role == "worker" else []


def as_document(tenant: str, role: str, user: str, found: Rights) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "tenant": tenant,
        "role": role,
        "user": user,
        "kafka": [right.document() for right in found.kafka],
        "kafka_uncovered": list(found.uncovered),
        "redis": ["ACL", "SETUSER", user, *found.redis],
        "s3": found.s3,
        "files": found.files,
    }


def _print(settings: Config, user: str, found: Rights) -> None:
    import json
    import shlex

    lines = ["# Kafka", *(right.command(user, settings.kafka.bootstrap) for right in found.kafka)]
    lines += [f"# source topics by a pattern that begins with no text, to be given by hand: {shlex.quote(each)}"
              for each in found.uncovered]  # fmt: skip
    lines += ["", "# Redis; the user is off until it has a password: ACL SETUSER NAME on '>PASSWORD'"]
    lines += [shlex.join(["redis-cli", "ACL", "SETUSER", user, *found.redis])]
    lines += ["", "# the lake's files"]
    lines += json.dumps(found.s3, indent=2).splitlines() if found.s3 else [f"# a folder: {found.files}*"]
    for line in lines:
        typer.echo(line)
