"""Changes of older schema versions read as what their columns are now: value by value, and seldom.

A column only ever becomes wider (docs/contract.md, Schema versions), so each value that it had has a value of what it
is now: an int is a long, and of what became a text it is the text that the contract wrote, or else its JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson
import pyarrow as pa

from connectors.contract_rows import DoesNotFit, Types, read_column, table_of
from schemas.change import ChangeValue
from schemas.types import ColumnType, Kind

_TEXTS = frozenset({Kind.STRING, Kind.JSON})
_NULL = b"null"

Row = dict[str, msgspec.Raw] | None  # by column, as it is written


class _OlderChange(ChangeValue, gc=False):
    """A change whose columns are still the JSON that was written."""

    key: Row
    old_key: Row
    new_key: Row
    before: Row
    after: Row


_decode = msgspec.json.Decoder(_OlderChange).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_older_rows(
    values: Sequence[bytes], rows: Mapping[str, Types], schema: pa.Schema, *, first_index: int
) -> pa.Table:
    """Return values of this or an older schema version as a table of `schema`: a `contract_rows.RowsReader`."""
    return table_of(values, rows, schema, _decode, read_older_row, first_index=first_index)


def read_older_row(row: Row, types: Types) -> dict[str, Any] | None:
    """Return the values of a row object, by column; raises `DoesNotFit`."""
    if row is None or not types:
        return None
    return {name: _column(row.get(name), type_, name) for name, type_ in types.items()}


def _column(raw: msgspec.Raw | None, type_: ColumnType, name: str) -> Any:
    if raw is None:
        return None
    try:
        return read_column(as_now(bytes(raw), type_), type_, name)
    except (ValueError, TypeError, msgspec.MsgspecError, RecursionError):
        raise DoesNotFit(f"column {name} does not fit {type_}") from None


def as_now(raw: bytes, type_: ColumnType) -> Any:
    """Return a piece of JSON, of any type that can become `type_`, as the contract writes the same value of `type_`.

    Raises:
        ValueError: it is no JSON.
    """
    if raw == _NULL:
        return None
    if type_.kind is Kind.LIST and raw.startswith(b"["):
        assert type_.element is not None, "a list has an element"
        return [as_now(bytes(item), type_.element) for item in _decode_list(raw)]
    if type_.kind in _TEXTS and not raw.startswith(b'"'):
        return raw.decode()
    value = orjson.loads(raw)
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if type_.kind is Kind.LONG and is_int else value
