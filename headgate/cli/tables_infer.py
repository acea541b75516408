"""`headgate tables infer`: specs proposed from what flows, a file for each table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.given import given_of, settled, unread
from headgate.cli.inferring import schemas_of_file
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.proposals import HEADINGS, Progress, document, row, tell, write, yaml_of
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.topic_lists import Listed, read_list
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.inference import Proposal
    from connectors.transport.sampling import SampleBounds
    from connectors.wire import Schemas
    from schemas.config import Config
    from streams.proposing import Chosen, Inferred
    from streams.specs import Specs

EPILOG = epilog(
    [
        "headgate tables infer clinic.public.lab_results",
        "headgate tables infer '^clinic[.]public[.]' --out tables/ --without clinic.public.",
        "headgate tables infer --list tables.csv --out tables/",
        "headgate tables infer '^clinic[.]' --out tables/      # again later: only topics that no file reads",
    ],
    {
        ExitCode.OK: "a spec is proposed for every topic that was asked for",
        ExitCode.FOUND: "a named topic has no rows, there was no time for one, or a file was there; the rest is done",
        ExitCode.CONFIGURATION: "there is no such topic; or the list, a spec or the configuration is not right",
        ExitCode.UNAVAILABLE: "Kafka or the schema registry does not answer",
    },
)


def infer_tables(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC|REGEX", help="Topics; a pattern begins with ^.")
    ] = None,
    *,
    listed: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="A CSV of topics: topic, table, key, format, source_table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a file for each table; else print them all.")
    ] = None,
    without: Annotated[
        str, typer.Option(metavar="PREFIX", help="What topics' names begin with and tables' names leave out.")
    ] = "",
    records: Annotated[int, typer.Option(min=2, max=1_000_000, help="At most so many of each topic.")] = 1_000,
    mebibytes: Annotated[int, typer.Option(min=1, max=1_024, help="At most so much of each topic.")] = 2,
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="At most so long for all of them.")] = 45.0,
    schema_changes: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="A topic that says what tables are, if it has another name; repeatable."),
    ] = None,
    schemas: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Schemas by id, {"1": {…}}, instead of a registry\'s: Avro or JSON.'),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Infer what files say already, and replace them.")] = (
        False
    ),
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Propose a spec for each table of some topics: format, key, columns and types, with how sure it is and why.

    The oldest and the newest records of each topic are looked at, and what a schema registry, schema blocks and the
    connector's schema-change topic say. Nothing is applied, and no file that is there is changed unless --overwrite
    says so: topics that the specs in --out read already are passed over.
    """
    from connectors.transport.sampling import SampleBounds

    if not topics and listed is None:
        raise typer.BadParameter("name a TOPIC, a pattern such as '^clinic[.]', or a --list")
    settings = load_config(config, os.environ)
    lines = read_list(listed) if listed is not None else []
    known = known_specs(out)
    asked = _Asked(topics or [], lines, schema_changes or [], overwrite, without)
    bounds = SampleBounds(records, mebibytes * 1024 * 1024, seconds)
    started = time.monotonic()
    found, proposals, named = _inferred(settings, asked, known, bounds, _schemas(schemas, settings))
    looked = time.monotonic() - started
    files, kept = write(proposals, out, known, overwrite=overwrite) if out is not None else ({}, [])
    if as_json:
        print_json(document(found, proposals, files))
    elif out is None:
        sys.stdout.write("---\n".join(map(yaml_of, proposals)))
        sys.stdout.flush()
    else:
        print_table(HEADINGS, map(row, proposals))
    missing = tell(found, proposals, named, kept, looked)
    return ExitCode.FOUND if missing or kept else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line and the list ask for."""

    topics: Sequence[str]
    lines: Sequence[Listed]
    schema_changes: Sequence[str]
    overwrite: bool
    without: str


def _inferred(
    settings: Config, asked: _Asked, known: Specs | None, bounds: SampleBounds, schemas: Schemas | None
) -> tuple[Inferred, list[Proposal], frozenset[str]]:
    """Return what was read, the proposals with their names and keys, and the topics that were asked for by name."""
    from streams.proposing import choose, infer, may_define
    from streams.registration import open_admin

    admin = open_admin(settings)
    there, own_prefix = admin.names(), settings.kafka.topic_prefix
    chosen = _chosen(asked, there, own_prefix)
    given = given_of(asked.lines, there, known, overwrite=asked.overwrite)
    wanted = chosen.topics if asked.overwrite else unread(chosen.topics, known)
    if left := len(chosen.topics) - len(wanted):
        say(f"{left} topics are read by specs that are there already; --overwrite infers them anew")
    found = infer(
        settings,
        admin,
        wanted,
        bounds=bounds,
        formats=given.formats,
        defining=[*choose(asked.schema_changes, there, own_prefix).topics, *may_define(wanted, there)],
        schemas=schemas,
        on_wave=Progress(len(wanted)),
    )
    return found, settled(found.proposals, given, asked.without), chosen.named


def _chosen(asked: _Asked, there: Sequence[str], own_prefix: str) -> Chosen:
    """Return the topics that are meant by the command line and by the list, whose errors name its line."""
    from streams.proposing import Chosen, choose

    found = choose(asked.topics, there, own_prefix)
    named, every, problems = set(found.named), set(found.topics), []
    for line in asked.lines:
        try:
            some = choose([line.topic], there, own_prefix)
        except ConfigurationError as exc:
            problems.append(f"{line.place}: {exc}")
            continue
        named |= some.named
        every |= set(some.topics)
    if problems:
        raise ConfigurationError("\n".join(problems), hint="nothing was read from Kafka")
    return Chosen(sorted(every), frozenset(named))


def known_specs(out: Path | None) -> Specs | None:
    """Return the specs that are in the folder already, None where there are none."""
    from streams.specs import read_specs, spec_files

    if out is None or not out.exists():
        return None
    if not out.is_dir():
        raise ConfigurationError(f"{out} is no folder", hint="name a folder for a file of each table")
    return read_specs(out) if spec_files(out) else None


def _schemas(file: Path | None, settings: Config) -> Schemas | None:
    from connectors.registry import registry_of

    return schemas_of_file(file) if file is not None else registry_of(settings.registry)
