"""What is wrong with a document, in words of ours, and the nearest thing that would be right.

No text repeats a value, for a configuration holds secrets: names of keys alone, and what they may be.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

KNOWN_SHOWN = 20
_MAPPING = "a mapping is wanted here, lines of `key: value`"
_WANTED: dict[str, str] = {
    "string_type": "text is wanted here",
    "list_type": "a list is wanted here, such as [a, b]",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false is wanted here"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number is wanted here"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number is wanted here"),
}
_GIVEN: tuple[tuple[type, str], ...] = (  # the first that fits: true is an int, too
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (dt.date, "a date"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
    (type(None), "nothing"),
)
_UNQUOTED = frozenset({"true or false", "a number", "a date"})
_CHOICE = re.compile(r"'([^']*)'")
_ENDS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}


class Misplaced(ValueError):
    """A mistake that a look at the whole shows, and the place in it where it stands: keys, and numbers in lists."""

    def __init__(self, message: str, *path: str | int) -> None:
        """Keep `path`, from where the validator looks."""
        super().__init__(message)
        self.path = path


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """Return `did you mean …?` with the nearest of what is known, else the first of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if not near:  # as written by whoever comes from a database, where case says nothing
        near = [each for each in names if each.lower() == name.lower()]
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(names) - KNOWN_SHOWN} more" if len(names) > KNOWN_SHOWN else ""
    return f"known here: {', '.join(names[:KNOWN_SHOWN])}{more}" if names else "there is none"


def path_of(error: Any) -> tuple[Any, ...]:
    """Return where an error of pydantic's stands, in keys and numbers."""
    deeper = getattr((error.get("ctx") or {}).get("error"), "path", ())
    return (*(part for part in error["loc"] if not _is_tag(part)), *deeper)


def wrong(error: Any, model: type[BaseModel]) -> str:
    """Return what is wrong where, and the nearest that would be right."""
    path = path_of(error)
    if isinstance((error.get("ctx") or {}).get("error"), Misplaced):
        return _what(error, model, path)  # it says itself what it is about
    where = ".".join(str(part) for part in path) or "the document"
    return f"{where}: {_what(error, model, path)}"


def _what(error: Any, model: type[BaseModel], path: tuple[Any, ...]) -> str:
    kind, context, given = error["type"], error.get("ctx") or {}, error.get("input")
    match kind:
        case "extra_forbidden":
            key = str(path[-1])
            return f"unknown key {key!r}; {nearest(key, sorted(_known(model, path[:-1])))}"
        case "missing":
            return "this key is wanted and is not there"
        case "literal_error" | "enum":
            return _choice(error["msg"], _CHOICE.findall(str(context.get("expected", ""))), given)
        case "string_pattern_mismatch":
            return _pattern(str(context.get("pattern", "")), given)
        case "too_short":
            return "nothing stands in it; at least one is wanted" if context.get("min_length") == 1 else error["msg"]
        case "string_too_short":
            return "the text is empty"
        case "string_too_long" | "too_long":
            return f"it is longer than {context.get('max_length')}"
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
    if kind in _ENDS:
        side = "at least" if kind.startswith("greater") else "at most"
        return f"the number is {side} {context.get(_ENDS[kind])}"
    return _type(_WANTED[kind], given) if kind in _WANTED else str(error["msg"])


def _choice(message: str, choices: list[str], given: Any) -> str:
    if not choices:
        return message
    word = {True: "on", False: "off", None: "null"}.get(given, given) if not isinstance(given, list | dict) else ""
    near = difflib.get_close_matches(str(word).lower(), choices, n=1, cutoff=0.4)
    said = f"; did you mean {near[0]!r}?" if near else ""
    more = f" and {len(choices) - KNOWN_SHOWN} more" if len(choices) > KNOWN_SHOWN else ""
    return f"one of {', '.join(choices[:KNOWN_SHOWN])}{more} is wanted here{said}"


def _pattern(pattern: str, given: Any) -> str:
    """Say what a name is made of, with one that the pattern takes."""
    text = str(given)
    for other in (r"[^a-z0-9_.-]", r"[^a-z0-9_-]", r"[^a-z0-9_]"):
        name = re.sub(other, "_", text.lower()).lstrip("_.-0123456789")
        if re.fullmatch(pattern, name):
            return f"no name that can be used; write {name!r}"
    return f"no name that can be used: it must match {pattern}"


def _type(wanted: str, given: Any) -> str:
    found = next((words for type_, words in _GIVEN if isinstance(given, type_)), "something else")
    quote = "; quote it" if found in _UNQUOTED and wanted.startswith("text") else ""
    return f"{wanted}, and this is {found}{quote}"


def _is_tag(part: Any) -> bool:
    return isinstance(part, str) and (part.startswith(("function-", "tagged-")) or part.endswith("]"))


def _known(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model below `path` takes."""
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            current = _model_in(current)
            continue  # an index or a key of a mapping, not a field
        field = current.model_fields.get(str(part))
        current = field.annotation if field is not None else None
    found = current if isinstance(current, type) and issubclass(current, BaseModel) else _model_in(current)
    return [f.alias or n for n, f in found.model_fields.items()] if found is not None else []


def _model_in(annotation: Any) -> Any:
    """Return the first model inside an annotation such as `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
