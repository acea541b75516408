"""Where in a spec a mistake stands that a decoder or a rule's compiler found: told by what the message names."""

from __future__ import annotations

import re
from collections.abc import Callable

from schemas.table import TableSpec

Path = tuple[str | int, ...]
_Match = re.Match[str]


def _of_rule(spec: TableSpec, found: _Match) -> Path:
    at = next((at for at, rule in enumerate(spec.rules) if rule.rule == found[1]), None)
    return () if at is None else ("rules", at, *filter(None, (found[2], found[3])))


def _of_column(spec: TableSpec, found: _Match) -> Path:
    return ("columns", found[1], "encoding") if found[1] in spec.columns else ("columns",)


def _of_option(_spec: TableSpec, found: _Match) -> Path:
    return ("options", *found[1].split("."))


_NAMED: tuple[tuple[re.Pattern[str], Callable[[TableSpec, _Match], Path]], ...] = (
    (re.compile(r"^rule ([a-z][a-z0-9_-]*)(?:: ([a-z_]+)(?:\.(\w+))?)?"), _of_rule),
    (re.compile(r"^column ([^:]+):"), _of_column),
    (re.compile(r" does not say a column '(.+)'$"), _of_column),
    (re.compile(r"\bis no format$|^format\b"), lambda _spec, _found: ("format",)),
    (re.compile(r"options of [a-z0-9-]+: ([A-Za-z_.]+)"), _of_option),
    (re.compile(r": options[:.] ?([A-Za-z_]+)"), _of_option),
    (re.compile(r"^(key|source_table|unavailable_placeholder)\b"), lambda _spec, found: (found[1],)),
)


def place_in(spec: TableSpec, message: str) -> Path:
    """Return the place in the spec, in keys and numbers; the spec as a whole where the message names none."""
    for pattern, path in _NAMED:
        if (found := pattern.search(message)) is not None:
            return path(spec, found)
    return ()
