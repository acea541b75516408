"""`headgate decode`: what Headgate makes of records of a file, standard input or a topic; nothing else runs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.inferring import AUTO, propose, recognized, schemas_of_file
from headgate.cli.printing import say
from headgate.cli.records import Records, opened
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, load_config
from schemas.errors import ConfigurationError, HeadgateError

if TYPE_CHECKING:
    from connectors.inference import Proposal
    from connectors.wire import Schemas
    from schemas.config import Config, LimitsConfig
    from schemas.table import TableSpec
    from streams.final_rows import FinalRows
    from streams.looked import Life, Looker
    from streams.mask_keys import MaskKeys

EPILOG = epilog(
    [
        "headgate decode events.jsonl",
        "headgate decode events.jsonl --print-spec > tables.yaml",
        "headgate decode events.jsonl --spec tables/",
        "headgate decode avro.jsonl --schemas schemas.json --rows",
        "headgate decode --topic clinic.public.patients --spec patients.yaml --last 100",
        "headgate decode --topic clinic.public.patients --rows > rows.jsonl",
        "gunzip -c events.jsonl.gz | headgate decode - --spec tables/ --table patients",
    ],
    {
        ExitCode.OK: "every record was decoded, or is known to be none of a row",
        ExitCode.CONFIGURATION: "a record would go to quarantine; or a spec, the configuration or a line is not right",
        ExitCode.UNAVAILABLE: "Kafka or the schema registry does not answer",
    },
)
SAMPLED_MAX = 20_000  # records of a topic from whose start specs are proposed, unless --last says how many


def decode(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A JSON object per line: topic, partition, offset, key, …; - is stdin."),
    ] = None,
    *,
    topic: Annotated[str | None, typer.Option(help="Read this topic instead, as far as it goes now.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many offsets of each partition.")] = None,
    spec: Annotated[
        list[Path] | None,
        typer.Option(help="A table's spec, or a folder of them; else what is registered, or proposed from records."),
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", metavar="NAME", help="The format of all records, where no spec says it.")
    ] = AUTO,
    print_spec: Annotated[
        bool, typer.Option("--print-spec", help="Print the specs that the records propose, and nothing else.")
    ] = False,
    schemas: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Schemas by id, {"1": {…}}, instead of a registry\'s: Avro or JSON.'),
    ] = None,
    table: Annotated[str | None, typer.Option(help="Print only this table.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Print the rows that it all comes to.")] = False,
    config: ConfigOption = DEFAULT_FILE,
) -> int:
    """Show what Headgate makes of records: a line of JSON each, in their order; nothing is written anywhere.

    A record of several changes has a line for each of them.

    A line has origin, kind (change, tombstone, transaction, heartbeat, schema, signal, notification, message,
    truncate, where its table ignores it, or quarantine), table, the change as subscribers get it, and what is wrong.
    With --rows it is a row of a table instead: table, key, row. Both hold the values of rows, behind the masks of their
    specs. Without --spec the records themselves say what their tables are; of a --topic that registered tables read,
    these do, and a table that was resynced has the epochs that workers give it.
    """
    from streams.looked import NO_LIFE, Looker

    if (file is None) == (topic is None):
        raise typer.BadParameter("name a FILE or a --topic: one of them")
    if spec and print_spec:
        raise typer.BadParameter("--print-spec is for records without --spec")
    settings = load_config(config, os.environ) if topic is not None else None
    specs, life = _in_format(_written(spec), format_name) if spec else {}, NO_LIFE
    if not specs and settings is not None and topic is not None and format_name == AUTO and not print_spec:
        life = _registered(settings, topic)
        specs = {name: entry.spec for name, entry in life.entries.items()}
    unknown = any(each.format == AUTO for each in specs.values())
    with opened(file, topic, last, settings, twice=unknown or not specs) as records:
        if unknown:
            specs = recognized(records, specs)
        known = _schemas(schemas, specs, settings, config)
        if not specs:
            proposals = propose(
                records, format_name, records_max=SAMPLED_MAX if topic and not last else None, schemas=known
            )
            if print_spec:
                return _print_specs(proposals, table)
            shown = [proposal.spec for proposal in proposals if rows or not proposal.signals]
            specs = {spec.table: spec for spec in shown}
        keys = _mask_keys(specs, settings, config)
        looker = Looker(specs, _limits(settings), known, past_stops=rows, mask_keys=keys, life=life)
        return _print(records, looker, specs, table=table, rows=rows)


def _print(records: Records, looker: Looker, specs: dict[str, TableSpec], *, table: str | None, rows: bool) -> int:
    """Print each record, or at last the rows; return the exit code."""
    from streams.looked import QUARANTINE

    final, counts = _final(specs, table), Counter[str]()
    encode, write = msgspec.json.encode, sys.stdout.buffer.write
    for record in records():
        found = looker.look(record)
        counts[found[0].kind] += 1
        for looked in found:
            if rows:
                if looked.change is not None and looked.table in final:
                    if (evolved := looker.evolved.get(str(looked.table))) is not None:
                        final[looked.table].follow(evolved)
                    final[looked.table].apply(bytes(looked.change))
            elif table is None or looked.table == table:
                write(encode(looked) + b"\n")
    floors = looker.floors()
    for name, of_table in final.items() if rows else ():
        if name in floors:
            of_table.raise_floor(floors[name])
        for document in of_table.documents():
            write(encode(document) + b"\n")
    sys.stdout.flush()
    say(_listed(counts) or "no records")
    if looker.stopped:
        say(f"stops its table: {_listed(looker.stopped)}")
    if looker.noted:
        say(f"noted: {_listed(looker.noted)}")
    return ExitCode.CONFIGURATION if counts[QUARANTINE] else ExitCode.OK


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def _print_specs(proposals: list[Proposal], table: str | None) -> int:
    from connectors.inference.writing import as_yaml

    all_of_them = [proposal for proposal in proposals if not proposal.signals]
    wanted = [proposal for proposal in proposals if proposal.spec.table == table] if table else all_of_them
    sys.stdout.write("---\n".join(map(as_yaml, wanted)))
    sys.stdout.flush()
    if not wanted:
        say("no table was recognised" if table is None else f"no table {table} was recognised")
    return ExitCode.OK if wanted else ExitCode.CONFIGURATION


def _registered(settings: Config, topic: str) -> Life:
    """Return all registered tables if one of them reads the topic, as that lives now; else none."""
    from streams.looked import NO_LIFE, Life
    from streams.registration import load_tables, open_admin

    tables = load_tables(settings)
    with suppress(HeadgateError):  # two tables read it: each record says so
        if tables.of_topic(topic) is None:
            return NO_LIFE
    found = open_admin(settings).describe([topic]).get(topic)
    return Life("" if found is None else found.topic_id, {name: tables.unmasked(name) for name in tables})


def _written(paths: list[Path]) -> dict[str, TableSpec]:
    """Return the specs of files, which may hold several documents, and of folders."""
    from streams.specs import read_given

    return dict(read_given(paths))


def _in_format(specs: dict[str, TableSpec], name: str) -> dict[str, TableSpec]:
    """Return the specs with a format for those that do not say theirs."""
    from connectors.formats import format_of

    if name == AUTO:
        return specs
    format_of(name)
    for spec in specs.values():
        if "format" in spec.model_fields_set and spec.format not in {AUTO, name}:
            raise ConfigurationError(
                f"table {spec.table} has the format {spec.format}, not {name}", hint="leave --format out"
            )
    return {table: spec.model_copy(update={"format": name}) for table, spec in specs.items()}


def _limits(settings: Config | None) -> LimitsConfig:
    from schemas.config import LimitsConfig

    return LimitsConfig() if settings is None else settings.limits


def _schemas(file: Path | None, specs: dict[str, TableSpec], settings: Config | None, config: Path) -> Schemas | None:
    """Return the schemas of a file, else of the registry; the configuration is read only if a table needs one."""
    from connectors.formats import Asking, format_of
    from connectors.registry import registry_of

    if file is not None:
        return schemas_of_file(file)
    if settings is None and any(isinstance(format_of(spec.format), Asking) for spec in specs.values()):
        settings = load_config(config, os.environ)
    return None if settings is None else registry_of(settings.registry)


def _mask_keys(specs: dict[str, TableSpec], settings: Config | None, config: Path) -> MaskKeys | None:
    """Return the keys of masks; the configuration is read only if a table needs one."""
    from schemas.masked import keys_of
    from streams.mask_keys import mask_keys_of

    if settings is None and any(map(keys_of, specs.values())):
        settings = load_config(config, os.environ)
    return None if settings is None else mask_keys_of(settings.masks)


def _final(specs: dict[str, TableSpec], table: str | None) -> dict[str | None, FinalRows]:
    from schemas.masked import masked_spec
    from streams.final_rows import FinalRows

    return {name: FinalRows(masked_spec(spec)) for name, spec in specs.items() if spec.key and table in {None, name}}
