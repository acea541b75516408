"""`headgate tables show|export`: one table as it runs, with the columns that workers found beside its spec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from headgate.cli.tables import TableArgument, describe, entry_of, entry_or_template
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.config import Config
    from schemas.table import TableEntry

_CODES = {
    ExitCode.OK: "done",
    ExitCode.FOUND: "no such table",
    ExitCode.CONFIGURATION: "the configuration is not right",
    ExitCode.UNAVAILABLE: "Kafka does not answer",
}
SHOW_EPILOG = epilog(["headgate tables show patients", "headgate tables show patients --json"], _CODES)
EXPORT_EPILOG = epilog(
    ["headgate tables export patients > tables/patients.yaml", "headgate tables export --out tables/"],
    {**_CODES, ExitCode.CONFIGURATION: "the configuration is not right, or files of the folder say something else"},
)
FILES_SHOWN = 20


def show_table(table: TableArgument, config: ConfigOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Show the columns of one table as workers run it, and which of them were found in its records, since when."""
    entry = entry_of(load_config(config, os.environ), table)
    rows = columns_of(entry)
    if as_json:
        print_json({**describe(entry), "columns": rows})
        return
    headings = {"column": "column", "type": "type", "encoding": "encoding", "registered": "registered"}
    headings |= {"sent_as": "sent as", "since": "since"}
    if any("mask" in row for row in rows):
        headings |= {"mask": "mask", "written": "written"}
    lines = [{**row, "sent_as": ", ".join(row["sent_as"]) or None} for row in rows]
    print_table(list(headings.values()), [[line.get(name) for name in headings] for line in lines])
    if any(row["since"] is not None for row in rows):
        say(f"version {entry.schema_version}; `headgate tables export {table}` prints the spec with what was found")


def export_table(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="The table's name; left out, all of them, with --out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a file of each table that no file of this folder has yet."),
    ] = None,
    config: ConfigOption = DEFAULT_FILE,
) -> None:
    """Print the spec of a table as YAML, with the columns that were found, for whoever keeps it in a repository.

    With --out all tables, and templates, get files in a folder. No file that is there is changed: one that says
    something else is named, and nothing is written.
    """
    if table is None and out is None:
        raise typer.BadParameter("name a TABLE, or a folder for all of them with --out")
    settings = load_config(config, os.environ)
    if out is None:
        assert table is not None, "one of them was named"
        sys.stdout.write(as_yaml(entry_or_template(settings, table)))
        sys.stdout.flush()
        return
    entries = _all_entries(settings) if table is None else [entry_or_template(settings, table)]
    files = files_for(entries, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, "utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{out} cannot be written to: {exc}", hint="name another folder with --out") from exc
    say(f"{len(files)} specs written to {out}, {len(entries) - len(files)} were there")


def _all_entries(settings: Config) -> list[TableEntry]:
    from streams.registration import load_tables

    tables = load_tables(settings)
    return [*tables.templates.values(), *(tables.unmasked(table) for table in sorted(tables))]


def files_for(entries: Sequence[TableEntry], folder: Path) -> dict[Path, str]:
    """Return the files that a folder lacks of these tables: their paths and texts.

    Raises:
        ConfigurationError: a file has one of the tables and says something else, or cannot be read.
    """
    from schemas.document import read_document
    from schemas.table import TableSpec
    from streams.specs import read_specs, spec_files

    known = read_specs(folder) if folder.is_dir() and spec_files(folder) else None
    files, differing = {}, []
    for entry in entries:
        table, text = entry.spec.table, as_yaml(entry)
        path = folder / f"{table}.yaml"
        if known is None or table not in known:
            files[path] = text
        elif known[table] != read_document(text, TableSpec, name=str(path)):
            differing.append(str(known.file(table)))
    if differing:
        more = f" and {len(differing) - FILES_SHOWN} more" if len(differing) > FILES_SHOWN else ""
        raise ConfigurationError(
            f"{', '.join(differing[:FILES_SHOWN])}{more}: what runs is not what these files say; nothing was written",
            hint="`headgate tables plan DIR` shows the difference; move the files away, or name another folder",
        )
    return files


def columns_of(entry: TableEntry) -> list[dict[str, Any]]:
    """Return what `tables show` says of each column; `registered` is its type in the spec that was applied.

    Of a masked one it says the mask, and the type that is written (None: the column is not).
    """
    from schemas.evolution import EvolvedEntry
    from schemas.mask import masked_type
    from schemas.masked import masks_of

    masks = masks_of(entry.spec)

    def behind(name: str) -> dict[str, Any]:
        if name not in masks:
            return {}
        left = masked_type(entry.spec.columns[name].type, masks[name])
        return {"mask": masks[name].how, "written": None if left is None else str(left)}

    registered, since = (entry.registered, entry.since) if isinstance(entry, EvolvedEntry) else (entry, {})
    known = registered.spec.columns
    return [
        {
            "column": name,
            "type": str(column.type),
            "encoding": column.encoding,
            "registered": str(known[name].type) if name in known else None,
            "sent_as": column.sent_as,
            "since": since.get(name),
            **behind(name),
        }
        for name, column in entry.spec.columns.items()
    ]


def as_yaml(entry: TableEntry) -> str:
    """Return a spec as people write it: without defaults, and without views that were not written but made."""
    import yaml

    from schemas.output import latest_view_name
    from schemas.shown import shown_yaml
    from schemas.table import own_view_name

    spec = entry.spec
    own = {latest_view_name(spec.table), *(own_view_name(spec, rule.rule) for rule in spec.rules)}
    document = spec.model_copy(update={"features": [view for view in spec.features if view.view not in own]})
    content = document.model_dump(mode="json", exclude_defaults=True)
    content["columns"] = {
        name: column["type"] if column.keys() == {"type"} else column for name, column in content["columns"].items()
    }
    return shown_yaml(yaml.safe_dump, content, sort_keys=False, width=120)
