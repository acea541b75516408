"""Names of tables as Headgate has them, made of what a source calls them."""

from __future__ import annotations

import re
from collections.abc import Container

NAME_CHARACTERS_MAX = 128
_OTHER = re.compile(r"[^a-z0-9_.-]")


def table_name(source: str, taken: Container[str] = ()) -> str:
    """Return the name of a source's table, in lower case and of allowed characters, with a number if it is taken."""
    name = _OTHER.sub("_", source.lower())
    if not name[:1].isascii() or not name[:1].isalpha():
        name = f"t_{name}"
    name = name[:NAME_CHARACTERS_MAX]
    number, found = 1, name
    while found in taken:
        number += 1
        ending = f"_{number}"
        found = name[: NAME_CHARACTERS_MAX - len(ending)] + ending
    return found
