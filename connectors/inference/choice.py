"""How a column is to be read, how sure that is, and why."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from connectors.inference.fitting import ANY_TEXT, Way
from schemas.types import ColumnType, Kind


class Sure(StrEnum):
    """How much a proposal is worth: the source stated it, values agree on it, or it only harms nothing."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Choice(msgspec.Struct, frozen=True):
    """A way to read a column, with the reason; `warning` is what somebody should look at."""

    way: Way
    sure: Sure
    why: str
    warning: str = ""


# What a column is of which nothing but the placeholder was seen, by the placeholder's form.
_OF_PLACEHOLDER: dict[str, Way] = {
    "text": Way(ColumnType(Kind.STRING), "string"),
    "base64": Way(ColumnType(Kind.BINARY), "base64"),
    "document": Way(ColumnType(Kind.JSON), "data.Json"),
    "map": Way(ColumnType(Kind.JSON), "map"),
    "list of texts": Way(ColumnType(Kind.LIST, element=ColumnType(Kind.STRING)), "string"),
    "list of bytes": Way(ColumnType(Kind.LIST, element=ColumnType(Kind.BINARY)), "base64"),
    "list of integers": Way(ColumnType(Kind.LIST, element=ColumnType(Kind.LONG)), "int"),
    "list of UUIDs": Way(ColumnType(Kind.LIST, element=ColumnType(Kind.UUID)), "data.Uuid"),
}


def of_nothing(unavailable: Mapping[str, Any], nulls: int) -> Choice:
    """Return the choice for a column of which no value was seen; with nulls alone, one that takes any value later."""
    if len(unavailable) == 1:
        (form,) = unavailable
        return Choice(_OF_PLACEHOLDER[form], Sure.LOW, f"only the placeholder of values not sent, as {form}")
    why = (
        "only nulls: whatever comes later is kept as its text" if nulls else "no value: whatever comes is kept as text"
    )
    return Choice(ANY_TEXT, Sure.LOW, why, "no value was seen, so its type is not known")
