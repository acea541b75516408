"""`headgate contract TABLE`: what a table's subscribers are given; `contract diff`: what a change means for them.

Where a verb takes a table it takes a file, too: a table's spec, or a contract that was generated. So a repository can
be compared with what runs, or with itself before a change.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from schemas.compatibility import Difference

GENERATE = "generate"


class TableOrVerb(typer.core.TyperGroup):
    """`headgate contract TABLE` is `headgate contract generate TABLE`."""

    default_verb = GENERATE

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in where none is named."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = [GENERATE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=TableOrVerb,
    help="The contract of a table with its subscribers: generate it (`headgate contract TABLE`), compare two.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    GENERATE,
    short_help="Generate contract documents and sample consumers.",
    epilog=epilog(
        [
            "headgate contract patients                         # the AsyncAPI document",
            "headgate contract patients --out contracts         # all of it, each in a file",
            "headgate contract tables/patients.yaml --json      # of a spec that is not applied yet",
        ],
        {
            ExitCode.OK: "done",
            ExitCode.FOUND: "no such table",
            ExitCode.CONFIGURATION: "the configuration or the spec is not right, or a file cannot be written",
            ExitCode.UNAVAILABLE: "Kafka does not answer",
        },
    ),
)
def generate(
    table: Annotated[str, typer.Argument(metavar="TABLE|FILE", help="A registered table, or the file of a spec.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write all documents into this folder.")] = None,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Generate the contract of one table: what subscribers and their tools need to know of its output topic.

    That is an AsyncAPI 3 and an ODCS 3.1 document, JSON Schemas (draft 2020-12) and Avro schemas of the change and of
    its key, and consumers to begin with in Python and Java; with `output: {latest_schema: true}` the settings of a sink
    of Kafka Connect, too. The same table gives the same files.
    """
    from headgate.cli.tables import tables_with
    from headgate.contracts.documents import as_yaml, documents, files
    from headgate.contracts.loading import contracts_of
    from schemas.topics import TopicNames

    settings = load_config(config, os.environ)
    (named,) = contracts_of([table], lambda name: tables_with(settings, name), TopicNames(settings.kafka.topic_prefix))
    contract = named.contract
    made = documents(contract, settings.kafka, registry=settings.registry, spec=named.spec)
    if out is not None:
        count = _write(out, files(contract.table, made))
        say(f"{count} files of {contract.table}, version {contract.schema_version}, are in {out}")
    if as_json:
        print_json(made)
    elif out is None:
        sys.stdout.write(as_yaml(made["asyncapi"]))
        sys.stdout.flush()
        say("this is the AsyncAPI document; --out DIR writes the others and the sample consumers, too")


def _write(folder: Path, contents: Mapping[str, str]) -> int:
    """Write files, over those that are there; return how many."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"{folder} cannot be written to: {type(exc).__name__}", hint="name another folder with --out"
        ) from exc
    return len(contents)


@app.command(
    "diff",
    short_help="Compare two contracts, for CI.",
    epilog=epilog(
        [
            "headgate contract diff patients tables/patients.yaml         # what runs, and what is proposed",
            "headgate contract diff old/patients.yaml new/patients.yaml --json",
            "headgate contract diff contracts/patients.value.schema.json patients",
        ],
        {
            ExitCode.OK: "compatible, or the same",
            ExitCode.FOUND: "not compatible, by the rules named; or no such table",
            ExitCode.CONFIGURATION: "a file or the configuration is not right",
            ExitCode.UNAVAILABLE: "Kafka does not answer",
        },
    ),
)
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A table, a spec's file, or TABLE.value.schema.json.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, of what is to come.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Say what differs between two contracts for subscribers, by which rule, and whether they may be left to it.

    Two files need no configuration and no Kafka. A spec is compared with a table that runs as it would run there: with
    the columns that workers found in the table's records.
    """
    from headgate.contracts.loading import contracts_of
    from schemas.compatibility import compare, incompatible
    from schemas.topics import TopicNames

    def running(table: str) -> Any:
        from headgate.cli.tables import tables_with

        return tables_with(load_config(config, os.environ), table)

    before, after = contracts_of([old, new], running, TopicNames())
    found = compare(before.contract, after.contract)
    broken = incompatible(found)
    if as_json:
        print_json({"compatible": not broken, "differences": [_described(each) for each in found]})
    elif found:
        print_table(["rule", "column", "was", "is", "compatible", "why"], [_row(each) for each in found])
    else:
        say("nothing differs for subscribers")
    if broken:
        say(f"error: not compatible: {', '.join(sorted({each.rule.value for each in broken}))}")
        say("hint: keep the column and add one beside it, or register the table under another name beside this one")
    return ExitCode.FOUND if broken else ExitCode.OK


def _described(difference: Difference) -> dict[str, Any]:
    """Return what `diff --json` says of one difference."""
    names = ("rule", "column", "old", "new", "compatible", "why")
    return {name: getattr(difference, name) for name in names}


def _row(difference: Difference) -> list[Any]:
    compatible = "yes" if difference.compatible else "no"
    return [difference.rule.value, difference.column, difference.old, difference.new, compatible, difference.why]
