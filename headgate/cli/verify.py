"""`headgate verify TABLE --source DSN`: a table of the source compared with the lake and with Redis, row by row."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import now_and_then, print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import TableStopped

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.table import TableSpec
    from streams.verify.run import Finding, Report

FINDINGS_SHOWN = 50
SETTLE_BEYOND_LAKE_SECONDS = 30.0  # how long after the lake's next commit all stages should have caught up

EPILOG = epilog(
    [
        "headgate verify patients --source postgresql://reader@db:5432/clinic",
        "PGPASSWORD=… headgate verify patients --source postgresql://reader@db/clinic --from 1000 --to 1999",
        "headgate verify orders --source mysql://reader@db/shop --source-table shop.orders --json",
    ],
    {
        ExitCode.OK: "every row that could be judged is the same everywhere",
        ExitCode.FOUND: "rows differ, or there is no such table",
        ExitCode.CONFIGURATION: "the configuration or the source's address is not right",
        ExitCode.UNAVAILABLE: "the source, Kafka, Redis or the lake does not answer",
    },
)


def verify(  # noqa: PLR0917 - typer calls it by name
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="The table's name, as `headgate tables list` shows it.")
    ],
    source: Annotated[
        str,
        typer.Option(
            envvar="HEADGATE_SOURCE",
            metavar="DSN",
            show_envvar=True,
            help="postgresql://… or mysql://…; the password best by PGPASSWORD or MYSQL_PWD.",
        ),
    ],
    source_table: Annotated[
        str | None, typer.Option(metavar="SCHEMA.TABLE", help="The source's table; else the end of the topic's name.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="KEY", help="First value of the first key column.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="KEY", help="Last value of the first key column.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Compare only these columns.")] = None,
    chunk: Annotated[int, typer.Option(min=1, max=100_000, help="Rows read from the source at once.")] = 2_000,
    settle_seconds: Annotated[
        float | None, typer.Option(min=0, help="How long a row may be on its way; else the lake's commit age and 30 s.")
    ] = None,
    rows_a_second: Annotated[
        float | None, typer.Option("--limit-rows-a-second", min=1, help="Read the source no faster than this.")
    ] = None,
    hide_keys: Annotated[bool, typer.Option("--hide-keys", help="Show digests of keys instead of keys.")] = False,
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Compare a table of the source database with the lake and with Redis, while changes flow; nothing is written.

    Rows that differ are looked at again until their change has had time to arrive: only what stays different is
    reported, with its key and columns, never with values.
    """  # fmt: skip
    from connectors.sources.base import KeyRange
    from streams.verify.run import Options
    from streams.verify.table import verify_table

    settings = load_config(config, os.environ)
    spec = _spec(settings, table)
    settle = settle_seconds if settle_seconds is not None else _settling(settings, spec)
    report = verify_table(
        settings, spec, source, source_table=source_table, columns=columns.split(",") if columns else None,
        bounds=KeyRange(first, last), options=Options(chunk, settle, rows_a_second),
        progress=now_and_then("{1:,} of {2:,} rows {0}".format),
    )  # fmt: skip
    if as_json:
        print_json(as_document(report, hide_keys=hide_keys))
    else:
        _print(report, hide_keys=hide_keys)
    return ExitCode.OK if report.equal else ExitCode.FOUND


def as_document(report: Report, *, hide_keys: bool) -> dict[str, Any]:
    """Return what `--json` says; checksums as 32 hexadecimal digits."""
    places = {
        name: {
            **dataclasses.asdict(place),
            "source_checksum": f"{place.source_checksum:032x}",
            "checksum": f"{place.checksum:032x}",
        }
        for name, place in report.places.items()
    }
    findings = [
        {"place": f.place, "kind": f.kind, "key": _key(f, hide_keys=hide_keys), "columns": list(f.columns)}
        for f in report.findings
    ]
    whole = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    return {**whole, "places": places, "findings": findings, "equal": report.equal}


def _spec(settings: Config, table: str) -> TableSpec:
    from streams.registration import load_tables

    tables = load_tables(settings)
    if table not in tables:
        raise TableStopped(
            "no_table", f"no table is called {table!r}", hint=f"there are {', '.join(sorted(tables)) or 'none'}"
        )
    return tables.unmasked(table).spec


def _settling(settings: Config, spec: TableSpec) -> float:
    return SETTLE_BEYOND_LAKE_SECONDS + (settings.lake.commit_age_seconds if spec.lake.enabled else 0.0)


def _key(finding: Finding, *, hide_keys: bool) -> list[str]:
    texts = [str(part) for part in finding.key]
    if hide_keys:
        return [hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]]
    return texts


def _print(report: Report, *, hide_keys: bool) -> None:
    sys.stdout.write(f"{report.table}: {report.rows:,} rows of the source, read from {report.moment or 'its log'} on\n")
    rows = [
        (name, f"{place.rows:,}", "same" if place.checksum == place.source_checksum else "differed at first",
         place.looked_at_again, sum(f.place in {name, "source"} for f in report.findings), place.unavailable)
        for name, place in report.places.items()
    ]  # fmt: skip
    print_table(["place", "rows", "checksum", "looked at again", "different", "values unavailable"], rows)
    if report.findings:
        shown = report.findings[:FINDINGS_SHOWN]
        lines = [(f.place, f.kind, ", ".join(_key(f, hide_keys=hide_keys)), ", ".join(f.columns)) for f in shown]
        print_table(["where", "what", "key", "columns"], lines, title=f"different: {len(report.findings)}")
    for note in _notes(report):
        say(f"note: {note}")


def _notes(report: Report) -> list[str]:
    notes = []
    if report.too_many:
        notes.append("too many rows differ to be judged one by one: is the first load still under way? See `status`")
    elif report.unsettled:
        notes.append(f"{report.unsettled} rows kept changing and were not judged; run it again with --settle-seconds")
    if any(finding.place == "source" for finding in report.findings):
        notes.append("where it says source, all places agree: the source has what no change event told")
    if report.not_compared:
        notes.append(
            "not compared, since the source has no text of them, or not the one that their mask was made of: "
            f"{', '.join(report.not_compared)}"
        )
    if report.behind_masks:
        notes.append(f"compared as their masks leave them: {', '.join(report.behind_masks)}")
    if report.unreadable:
        found = ", ".join(f"{name} ({count})" for name, count in sorted(report.unreadable.items()))
        notes.append(f"values of the source beyond the column's type were taken for null: {found}")
    if report.leaves_open:
        notes.append(
            f"the source has {report.leaves_open}: changes of one transaction do not say their order, and an older one "
            "may win (docs/positions.md)"
        )
    return notes
