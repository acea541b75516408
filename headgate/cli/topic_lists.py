"""A list of topics as people keep it: a CSV file with a line for each, and what they know of it beforehand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError
from schemas.mistakes import nearest

COLUMNS = ("topic", "table", "key", "format", "source_table")
LINES_MAX = 10_000
BYTES_MAX = 4 * 1024 * 1024
_TABLE = re.compile(r"[a-z][a-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list; what it leaves empty is inferred. `place` is its file and line."""

    topic: str
    table: str | None
    key: tuple[str, ...]
    format: str | None
    source_table: str | None
    place: str

    @property
    def is_pattern(self) -> bool:
        """Tell whether it means the topics that a regular expression matches."""
        return self.topic.startswith("^")


def read_list(file: Path) -> list[Listed]:
    """Return the lines of a list.

    Its first line names its columns: `topic`, and any of the others. Fields are parted by commas, or by semicolons
    where the first line has those alone; the columns of a key by spaces.

    Raises:
        ConfigurationError: it names each line that is not right.
    """
    rows = _rows(file)
    if not rows:
        raise ConfigurationError(f"{file} is empty", hint=f"its first line names its columns: {', '.join(COLUMNS)}")
    (line, head), *rest = rows
    names = [name.strip().lower() for name in head]
    problems = [f"{file}:{line}: no column {name!r}; {nearest(name, COLUMNS)}" for name in names if name not in COLUMNS]
    if "topic" not in names:
        problems.append(f"{file}:{line}: there is no column `topic`")
    problems += [f"{file}:{line}: column {name!r} stands there twice" for name in {*names} if names.count(name) > 1]
    found: list[Listed] = []
    seen: dict[tuple[str, str | None], str] = {}
    tables: dict[str, str] = {}
    for number, fields in rest if not problems else ():
        place = f"{file}:{number}"
        if len(fields) > len(names):
            problems.append(f"{place}: {len(fields)} fields, and the list has {len(names)} columns")
            continue
        listed = _listed(dict(zip(names, map(str.strip, fields), strict=False)), place)
        problems += _wrong(listed)
        first = seen.setdefault((listed.topic, listed.source_table), place)
        if first != place:
            problems.append(f"{place}: {listed.topic} stands here again, first in {first}")
        if listed.table is not None and (first := tables.setdefault(listed.table, place)) != place:
            problems.append(f"{place}: table {listed.table} stands here again, first in {first}")
        found.append(listed)
    if problems:
        raise ConfigurationError("\n".join(problems), hint="nothing was read from Kafka")
    return found


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that hold anything, with their numbers."""
    try:
        if file.stat().st_size > BYTES_MAX:
            raise ConfigurationError(f"{file} is above {BYTES_MAX} bytes", hint="name a list of topics")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{file}: not UTF-8", hint="save it as CSV in UTF-8") from exc
    except OSError as exc:
        raise ConfigurationError(f"{file}: {exc.strerror}", hint="name a CSV file") from exc
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        found = [(reader.line_num, fields) for fields in reader if _says_something(fields)]
    except csv.Error as exc:
        raise ConfigurationError(f"{file}:{reader.line_num}: not CSV: {exc}", hint="quotes stand in pairs") from exc
    if len(found) > LINES_MAX:
        raise ConfigurationError(f"{file} has above {LINES_MAX} lines", hint="split it")
    return found


def _says_something(fields: list[str]) -> bool:
    return any(field.strip() for field in fields) and not fields[0].lstrip().startswith("#")


def _listed(fields: dict[str, str], place: str) -> Listed:
    def field(name: str) -> str | None:
        return fields.get(name) or None

    return Listed(
        topic=fields.get("topic", ""),
        table=field("table"),
        key=tuple(fields.get("key", "").split()),
        format=field("format"),
        source_table=field("source_table"),
        place=place,
    )


def _wrong(listed: Listed) -> list[str]:
    from connectors.formats import FORMATS

    found = []
    if not listed.topic:
        found.append("`topic` is empty")
    if listed.table is not None and not _TABLE.fullmatch(listed.table):
        from connectors.inference.names import table_name

        found.append(f"table {listed.table!r} is no name that can be used; write {table_name(listed.table)!r}")
    if listed.format is not None and listed.format not in FORMATS:
        found.append(f"{listed.format!r} is no format; {nearest(listed.format, sorted(FORMATS), cutoff=0.3)}")
    if listed.is_pattern and (listed.table or listed.source_table):
        found.append("a pattern means many topics: it has no table of its own")
    return [f"{listed.place}: {text}" for text in found]
