"""UUIDs in the contract's form."""

from __future__ import annotations

import uuid

from connectors.formats.reasons import Rejection


def uuid_text(value: str) -> str:
    """Return a UUID in lower case with hyphens."""
    try:
        found = uuid.UUID(value)
    except ValueError:
        raise Rejection("bad_type") from None
    if found.hex not in value.lower().replace("-", ""):  # digits of other scripts, underscores
        raise Rejection("bad_type")
    return str(found)


def uuid_column(values: list[str]) -> list[str]:
    """Return the very list if each text is a UUID in the contract's form; else raise."""
    count = len(values)
    joined = "\n".join(values) + "\n"
    rest = joined.encode("ascii").translate(None, b"0123456789abcdef")
    in_place = all(joined[at::37] == "-" * count for at in (8, 13, 18, 23)) and joined[36::37] == "\n" * count
    if len(joined) != 37 * count or rest != b"----\n" * count or not in_place:
        raise Rejection("bad_type")
    return values
