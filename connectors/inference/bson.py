"""MongoDB's values for inference: what stands in a wrapper of extended JSON, as JSON would write it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from connectors.formats import bson
from connectors.formats.reasons import Rejection
from connectors.inference.fitting import UNREADABLE

_NUMBERS = ("$numberInt", "$numberLong")


def plain_values(row: dict[str, Any]) -> dict[str, Any]:
    """Return a document whose fields are as inference reads them; what no wrapper is stays as it is."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if not isinstance(value, dict) or not next(iter(value), "").startswith("$"):
        return value
    for name in _NUMBERS:
        if name in value:
            return int(value[name])
    for name in ("$numberDecimal", "$numberDouble"):
        if name in value:
            number = Decimal(str(value[name]))
            return number if number.is_finite() else str(number)
    try:
        return bson.text_of(msgspec.json.encode(value))
    except (Rejection, *UNREADABLE):
        return value
