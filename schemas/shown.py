"""Texts from anywhere, made harmless for whoever looks at them: on a terminal, in a log, in a document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# What a terminal obeys, but for tab and line feed; what turns the direction of a line around, so that it is read as
# another one; and halves of a character, which cannot be written.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTE = 0x100


def shown(text: str) -> str:
    r"""Return `text` with each such character as its number, `\x1b` or `\u202e`."""
    return _OBEYED.sub(_by_number, text)


def shown_json(document: str) -> str:
    """Return a JSON document with each such character escaped: the same document."""
    # Outside of its strings JSON holds none of these.
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def shown_yaml(dump: Callable[..., str], value: Any, **options: Any) -> str:
    """Return what one of PyYAML's dumps makes of a value; where it holds such a character all but ASCII is escaped."""
    text = dump(value, allow_unicode=True, **options)
    return dump(value, allow_unicode=False, **options) if _OBEYED.search(text) else text


def _by_number(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < _BYTE else f"\\u{number:04x}"
