"""`headgate tables lint`: what is risky in specs, why, and how it is settled; for people, and for CI."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.inferring import schemas_of_file
from headgate.cli.printing import print_json, say, shown
from headgate.cli.proposals import Progress
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config

if TYPE_CHECKING:
    from connectors.transport.sampling import SampleBounds
    from connectors.wire import Schemas
    from schemas.config import Config
    from schemas.risk import Risk
    from streams.lint import Linted
    from streams.specs import Specs

EPILOG = epilog(
    [
        "headgate tables lint tables/",
        "headgate tables lint tables/ --env prod --json",
        "headgate tables lint tables/lab_results.yaml --topic-samples",
    ],
    {
        ExitCode.OK: "no spec has a risk but those that it accepts, and notes",
        ExitCode.FOUND: "a risk is open: settle it, or accept it in the spec's accepted_risks",
        ExitCode.CONFIGURATION: "a spec or the configuration is not right; with file and line",
        ExitCode.UNAVAILABLE: "Kafka or the schema registry does not answer; only with --topic-samples",
    },
)


def lint_tables(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR", help="Specs, or folders of them.")],
    *,
    env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With the overlay of this environment, DIR/env/NAME.yaml.")
    ] = None,
    topic_samples: Annotated[bool, typer.Option("--topic-samples", help="Look at samples of the topics, too.")] = False,
    records: Annotated[int, typer.Option(min=2, max=1_000_000, help="At most so many of each topic.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="At most so long for all topics.")] = 45.0,
    schemas: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Schemas by id, {"1": {…}}, instead of a registry\'s: Avro or JSON.'),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show notes, and the risks that are accepted, as well.")
    ] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Say what is risky in specs: each risk with its file and line, what it means, and how it is settled.

    A risk that the spec lists in `accepted_risks`, with a reason, is no failure. Without a configuration the specs are
    looked at alone; --topic-samples needs one.
    """
    from connectors.transport.sampling import SampleBounds
    from streams.apply import check_specs
    from streams.lint import risks_of
    from streams.lint_samples import joined
    from streams.specs import read_given

    settings = _config(config, needed=topic_samples)
    specs = read_given(paths, env=env)
    known = None if schemas is None else schemas_of_file(schemas)
    with specs.naming_places():
        check_specs(specs, settings or _nothing(), alone=settings is None, schemas=known)
    sampled: Mapping[str, list[Risk]] = {}
    if topic_samples and settings is not None:
        sampled = _sampled(specs, settings, SampleBounds(records_max=records, seconds_max=seconds), known)
    risks = {table: joined([*risks_of(spec), *sampled.get(table, ())]) for table, spec in specs.items()}
    return _tell(specs, risks, everything=everything, as_json=as_json, is_sampled=topic_samples)


def _config(path: Path, *, needed: bool) -> Config | None:
    """Return the configuration, None where none was named and none is there."""
    if not needed and path == DEFAULT_FILE and not path.exists():
        return None
    return load_config(path, os.environ)


def _nothing() -> Config:
    from schemas.config import Config

    return Config()


def _sampled(specs: Specs, settings: Config, bounds: SampleBounds, schemas: Schemas | None) -> dict[str, list[Risk]]:
    from connectors.registry import registry_of
    from streams.lint_samples import sampled_risks
    from streams.registration import open_admin

    return sampled_risks(
        specs,
        settings,
        open_admin(settings),
        bounds,
        schemas=schemas or registry_of(settings.registry),
        on_wave=Progress(sum(len(spec.topics) for spec in specs.values())),
    )


def _tell(
    specs: Specs, risks: Mapping[str, Sequence[Risk]], *, everything: bool, as_json: bool, is_sampled: bool
) -> int:
    """Print what was found, and return the exit code."""
    from schemas.risk import FROM_RECORDS
    from streams.lint import linted, unused

    found = [each for table in specs for each in linted(specs[table], risks[table])]
    left = [
        (table, specs.place(table, "accepted_risks", name, column), name, column)
        for table in specs
        for name, column in unused(specs[table], risks[table])
        if is_sampled or name not in FROM_RECORDS
    ]
    open_ = [each for each in found if each.is_open]
    if as_json:
        print_json(
            {
                "risks": [_document(each, specs) for each in found],
                "unused": [
                    {"table": table, "risk": name, "column": column, "place": place}
                    for table, place, name, column in left
                ],
            }
        )
    else:
        sys.stdout.writelines(_lines(each, specs) for each in (found if everything else open_))
        sys.stdout.flush()
    for _, place, name, column in left:
        of = "" if column == "*" else f" of {column}"
        say(shown(f"{place}: accepted_risks: {name}{of} is not there, and need not be accepted"))
    tables = len({each.table for each in open_})
    hidden = "" if everything else "; --all shows notes and what is accepted"
    say(f"{len(specs)} tables, {len(open_)} open risks of {tables} of them{hidden}")
    return ExitCode.FOUND if open_ else ExitCode.OK


def _lines(each: Linted, specs: Specs) -> str:
    risk = each.risk
    mark = "" if each.is_open else "accepted: " if each.accepted is not None else "note: "
    of = f" ({', '.join(risk.columns)})" if risk.columns else ""
    said = f"{specs.place(each.table, *risk.path)}: {mark}{risk.name}{of}: {risk.what}"
    how = f"reason: {each.accepted}" if each.accepted is not None else f"settle: {risk.settle}"
    return f"{shown(said)}\n    {shown(how)}\n"


def _document(each: Linted, specs: Specs) -> dict[str, Any]:
    risk = each.risk
    place = specs.place(each.table, *risk.path)
    file, _, line = place.rpartition(":")
    return {
        "table": each.table,
        "file": file,
        "line": int(line),
        "risk": risk.name,
        "level": risk.level,
        "columns": list(risk.columns),
        "what": risk.what,
        "settle": risk.settle,
        "accepted": each.accepted,
        "open": each.is_open,
    }
