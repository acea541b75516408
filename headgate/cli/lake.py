"""`headgate lake sql` and `headgate lake verify`: the lake asked, and proved complete. Neither needs Kafka or Redis."""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
from typing import Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import now_and_then, print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import ConfigurationError

app = typer.Typer(help="The lake: query it, prove it complete.", no_args_is_help=True, rich_markup_mode=None)

ROWS_SHOWN = 1_000

_CODES = {ExitCode.CONFIGURATION: "the configuration is not right", ExitCode.UNAVAILABLE: "the lake does not answer"}


@app.command(
    "sql",
    epilog=epilog(
        [
            'headgate lake sql "SELECT count(*) FROM patients_latest"',
            'headgate lake sql "SELECT _hg_op, count(*) FROM patients GROUP BY ALL" --json',
            'headgate lake sql "SELECT * FROM patients_latest" --csv > patients.csv',
        ],
        {ExitCode.OK: "the query ran", ExitCode.USAGE: "the query is not right", **_CODES},
    ),
)
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="SQL of DuckDB over the tables of the lake.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all rows, one at a time.")] = False,
) -> None:
    """Ask the lake: `TABLE` has a row per change, `TABLE_latest` the current row per key."""
    import duckdb

    from sinks.lake.view import open_lake_sql

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv do not go together")
    connection = open_lake_sql(load_config(config, os.environ).lake)
    try:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description or []]
        if as_csv:
            _print_csv(names, cursor)
        elif as_json:
            print_json([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])
        else:
            _print_rows(names, cursor)
    except duckdb.Error as exc:
        # The text is about the query, which whoever reads it has written.
        raise typer.BadParameter(f"{_tables_hint(connection, str(exc).strip())}") from exc
    finally:
        connection.close()


@app.command(
    "verify",
    epilog=epilog(
        ["headgate lake verify patients", "headgate lake verify patients --json"],
        {
            ExitCode.OK: "every change is there exactly once",
            ExitCode.FOUND: "a gap or an overlap, or no such table",
            **_CODES,
        },
    ),
)
def verify(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of the lake.")],
    config: ConfigOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> int:
    """Prove that the lake holds every change of a table once: by the chain of offsets that the changes carry."""
    from sinks.lake.storage import open_catalog
    from sinks.lake.table import load_table
    from sinks.lake.verify import verify as verify_table

    lake = load_config(config, os.environ).lake
    catalog = open_catalog(lake)
    report = verify_table(
        load_table(catalog, lake.namespace, table), progress=now_and_then("{} of {} files, {:,} rows".format)
    )
    if as_json:
        print_json({**dataclasses.asdict(report), "ok": report.ok})
    else:
        _print_report(report)
    return ExitCode.OK if report.ok else ExitCode.FOUND


def _print_report(report: Any) -> None:
    verdict = "every change is there exactly once" if report.ok else f"{report.gaps} gaps, {report.overlaps} overlaps"
    sys.stdout.write(
        f"{report.table}: {report.rows:,} rows in {report.files:,} files, {report.streams} origin streams: {verdict}\n"
    )
    if report.late_starts:
        say(f"note: {report.late_starts} origin streams began before the lake did")
    if report.findings:
        headings = ["kind", "origin topic", "generation", "partition", "at offset", "after", "which names", "file"]
        rows = [
            (
                f.kind, f.topic, f.generation, f.partition, _place(f.offset, f.row), _place(f.expected, f.expected_row),
                f.previous, f.file.rpartition("/")[2],
            )
            for f in report.findings
        ]  # fmt: skip
        print_table(headings, rows, title=f"the first {len(rows)}")


def _place(offset: int | None, row: int) -> int | str | None:
    """Return where a change stands in its origin stream: of a record of several, which one it is too."""
    return f"{offset} row {row}" if row else offset


def _print_rows(names: list[str], cursor: Any) -> None:
    rows = cursor.fetchmany(ROWS_SHOWN)
    print_table(names, rows)
    if cursor.fetchone() is not None:
        say(f"only the first {ROWS_SHOWN} rows are shown; --csv and --json print all")


def _print_csv(names: list[str], cursor: Any) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(names)
    while rows := cursor.fetchmany(10_000):
        writer.writerows(rows)


def _tables_hint(connection: Any, message: str) -> str:
    """Return the message, with the tables that there are where it is about one that is not."""
    if not message.startswith("Catalog Error"):
        return message
    names = [
        row[0]
        for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1").fetchall()
    ]
    if not names:
        raise ConfigurationError(
            "the lake has no table yet", hint="is `lake.warehouse` right? The first commit makes the table"
        )
    return f"{message}\nthe lake has {', '.join(names[:40])}"
