"""Texts as typed columns, so that values of three places can be compared as values and not as spellings. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import arrow_type
from schemas.types import ColumnType, Kind

_SPELLED = frozenset({Kind.STRING, Kind.JSON, Kind.UUID, Kind.LIST})  # compared as text, in one spelling


def compared_type(column: ColumnType) -> pa.DataType:
    """Return the Arrow type that a column is compared in: its own, of JSON and lists the text in one spelling."""
    return pa.string() if column.kind in _SPELLED else arrow_type(column)


def typed(texts: pa.Table, columns: Mapping[str, ColumnType]) -> tuple[pa.Table, dict[str, int]]:
    """Return the columns of `texts` that `columns` names, typed, and how many values of each could not be read.

    Such a value becomes null. Texts are those of `schemas/types.py`; of dates and times with a blank or a `T`.
    """
    arrays: dict[str, pa.Array] = {}
    unreadable: dict[str, int] = {}
    for name, column in columns.items():
        source = texts[name].combine_chunks() if isinstance(texts[name], pa.ChunkedArray) else texts[name]
        arrays[name] = _column(source, column)
        if lost := arrays[name].null_count - source.null_count:
            unreadable[name] = lost
    return pa.table(arrays), unreadable


def spelled(table: pa.Table, columns: Mapping[str, ColumnType]) -> pa.Table:
    """Return a table of the lake's own types as `typed` would have read it."""
    arrays = {}
    for name, column in columns.items():
        values = table[name].combine_chunks()
        if column.kind in _SPELLED and column.kind is not Kind.STRING:
            values = pa.array(
                [None if v is None else _one_spelling(v, column) for v in values.to_pylist()], pa.string()
            )
        arrays[name] = values.cast(compared_type(column))
    return pa.table(arrays)


def _column(texts: pa.Array, column: ColumnType) -> pa.Array:
    if column.kind is Kind.STRING:
        return texts
    if column.kind in _SPELLED or column.kind is Kind.BINARY:
        return pa.array([None if t is None else _read(t, column) for t in texts.to_pylist()], compared_type(column))
    cast = _CASTS.get(column.kind, _plain)
    type_ = arrow_type(column)
    try:
        return cast(texts, type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # one of them is not what the type knows: each by itself
        return pa.concat_arrays([_one(texts.slice(at, 1), cast, type_) for at in range(len(texts))])


def _one(text: pa.Array, cast: Callable[[pa.Array, pa.DataType], pa.Array], type_: pa.DataType) -> pa.Array:
    try:
        return cast(text, type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(1, type_)


def _plain(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    return texts.cast(type_)


def _time(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return times: Arrow casts no text to one, so it becomes one of the first day."""
    return pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp("us")).cast(type_)


def _float(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return floats as they are kept: the text of a 32-bit one may have more digits than it has."""
    return texts.cast(pa.float64()).cast(type_, safe=False)


_CASTS: dict[Kind, Callable[[pa.Array, pa.DataType], pa.Array]] = {Kind.TIME: _time, Kind.FLOAT: _float}


def _read(text: str, column: ColumnType) -> Any:
    if column.kind is Kind.BINARY:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
    return _one_spelling(text, column)


def _one_spelling(value: Any, column: ColumnType) -> str:
    """Return JSON, a list or a UUID as the one text that all its spellings share."""
    if column.kind is Kind.UUID:
        return str(value).lower()
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:  # beyond what it reads, such as a number of 30 digits: as it is
            return str(value)
    if column.kind is Kind.LIST:
        value = _as_texts(value)  # the contract has a long as text, the source as a number
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _as_texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_texts(each) for each in value]
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
