"""`headgate decode`: what Headgate makes of records of a file, standard input or a topic; nothing else runs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, load_config
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.captured import OneRecord
    from schemas.config import Config
    from schemas.table import TableSpec
    from streams.final_rows import FinalRows

EPILOG = epilog(
    [
        "headgate decode events.jsonl --spec tables/",
        "headgate decode --topic clinic.public.patients --spec patients.yaml --last 100",
        "headgate decode --topic clinic.public.patients --rows > rows.jsonl",
        "gunzip -c events.jsonl.gz | headgate decode - --spec tables/ --table patients",
    ],
    {
        ExitCode.OK: "every record was decoded, or is known to be none of a row",
        ExitCode.CONFIGURATION: "a record would go to quarantine; or a spec, the configuration or a line is not right",
        ExitCode.UNAVAILABLE: "Kafka does not answer",
    },
)


def decode(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A JSON object per line: topic, partition, offset, key, …; - is stdin."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Read this topic instead, as far as it goes now.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many offsets of each partition.")] = None,
    spec: Annotated[
        list[Path] | None,
        typer.Option(help="A table's spec, or a folder of them; else, with --topic, those that are registered."),
    ] = None,
    table: Annotated[str | None, typer.Option(help="Print only this table.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Print the rows that it all comes to.")] = False,
    config: ConfigOption = DEFAULT_FILE,
) -> int:
    """Show what Headgate makes of records: a line of JSON each, in their order; nothing is written anywhere.

    A record of several changes has a line for each of them.

    A line has origin, kind (change, tombstone, transaction, heartbeat, schema, signal, notification, message or
    quarantine), table, the change as subscribers get it, and what is wrong. With --rows it is a row of a table instead:
    table, key, row. Both hold the values of rows.
    """
    from streams.looked import QUARANTINE, Looker

    if (file is None) == (topic is None):
        raise typer.BadParameter("name a FILE or a --topic: one of them")
    settings = load_config(config, os.environ) if topic is not None else None
    specs = _specs(spec or [], settings)
    looker, final, counts = Looker(specs, _limits(settings)), _final(specs, table), Counter[str]()
    encode, write = msgspec.json.encode, sys.stdout.buffer.write
    for record in _records(file, topic, last, settings):
        found = looker.look(record)
        counts[found[0].kind] += 1
        for looked in found:
            if rows:
                if looked.change is not None and looked.table in final:
                    final[looked.table].apply(bytes(looked.change))
            elif table is None or looked.table == table:
                write(encode(looked) + b"\n")
    for of_table in final.values() if rows else ():
        for document in of_table.documents():
            write(encode(document) + b"\n")
    sys.stdout.flush()
    say(", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no records")
    return ExitCode.CONFIGURATION if counts[QUARANTINE] else ExitCode.OK


def _specs(paths: list[Path], settings: Config | None) -> dict[str, TableSpec]:
    """Return the specs of files and folders, else the registered ones."""
    from streams.apply import read_spec, read_specs
    from streams.registration import load_tables

    if not paths and settings is not None:
        return {name: entry.spec for name, entry in load_tables(settings).items()}
    if not paths:
        raise ConfigurationError("no --spec", hint="name the tables' specs: --spec patients.yaml, or a folder of them")
    found: dict[str, TableSpec] = {}
    for path in paths:
        some = read_specs(path) if path.is_dir() else {(one := read_spec(path)).table: one}
        if twice := sorted(found.keys() & some.keys()):
            raise ConfigurationError(f"{path}: table {twice[0]} stands in another file as well", hint="name it once")
        found |= some
    return found


def _limits(settings: Config | None) -> Any:
    from schemas.config import LimitsConfig

    return LimitsConfig() if settings is None else settings.limits


def _final(specs: dict[str, TableSpec], table: str | None) -> dict[str | None, FinalRows]:
    from streams.final_rows import FinalRows

    return {name: FinalRows(spec) for name, spec in specs.items() if spec.key and table in {None, name}}


def _records(file: str | None, topic: str | None, last: int | None, settings: Config | None) -> Iterator[OneRecord]:
    """Yield the records one by one, however many there are.

    Raises:
        ConfigurationError: there is no such file or topic, or a line is no record.
        SourceUnavailable: Kafka does not answer.
    """
    from connectors.captured import read_captured

    if topic is not None:
        assert settings is not None, "a topic is read as the configuration says"
        yield from _of_topic(topic, last, settings)
    elif file == "-":
        yield from read_captured(sys.stdin.buffer, name="standard input")
    else:
        assert file is not None, "a file or a topic"
        try:
            with Path(file).open("rb") as lines:
                yield from read_captured(lines, name=file)
        except OSError as exc:
            raise ConfigurationError(f"{file}: {exc.strerror}", hint="name a file, or - for standard input") from exc


def _of_topic(topic: str, last: int | None, settings: Config) -> Iterator[OneRecord]:
    from connectors.captured import OneRecord
    from connectors.transport.scan import scan
    from streams.registration import open_admin
    from streams.settings import client_settings

    admin = open_admin(settings)
    if topic not in admin.describe([topic]):
        raise ConfigurationError(f"there is no topic {topic}", hint="look at its name, and at kafka.bootstrap")
    for read in scan(topic, client_settings(settings), admin, last=last, headers=True):
        yield OneRecord(topic, read.partition, read.offset, read.key, read.value, read.headers)
