"""What verbs print: JSON for scripts, tables for people, colours only on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas import shown as texts

WIDTH_UNSEEN = 160  # columns of a table that goes to a file or a pipe
PROGRESS_SECONDS = 1.0


def console() -> Console:
    """Return the console of stdout; without a terminal it has no colours and a fixed width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_UNSEEN)


def print_json(value: Any) -> None:
    """Print one JSON document; what JSON has no form for, such as a date, is written as text."""
    sys.stdout.write(texts.shown_json(json.dumps(value, indent=2, ensure_ascii=False, default=str)) + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows under headings; None is shown as a dash, a control character of a value by its number."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(shown(cell)) for cell in row))
    console().print(table)


def shown(cell: Any) -> str:
    """Return a value's text, without what a terminal obeys: rows come from anywhere."""
    return "–" if cell is None else texts.shown(str(cell))


def say(text: str) -> None:
    """Print one line for people on stderr, where it does not mix with what is printed for scripts.

    A control character in it is shown by its number: names in errors come from files and records.
    """
    sys.stderr.write(shown(text) + "\n")
    sys.stderr.flush()


def now_and_then(text_of: Callable[..., str]) -> Callable[..., None]:
    """Return what says on a terminal, once a second and not within the first, how far long work has come.

    It is called with whatever `text_of` makes a line of.
    """
    last = time.monotonic()

    def tell(*done: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS and sys.stderr.isatty():
            last = time.monotonic()
            say(text_of(*done))

    return tell


def duration(seconds: float | None) -> str | None:
    """Return seconds as people read them: 0.4 s, 12 s, 3 min, 2.1 h."""
    if seconds is None:
        return None
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004  a decimal says nothing beyond
