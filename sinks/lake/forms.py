"""Values of the lake as the contract writes them, in DuckDB's SQL."""

from __future__ import annotations

from schemas.types import ColumnType, Kind
from sinks.lake.types import element_of

_YEAR_MAX = 9_999
_FLOATS = frozenset({Kind.FLOAT, Kind.DOUBLE})
_BARE = frozenset({Kind.INT, Kind.BOOLEAN})  # what is its own text in JSON


def contract_sql(value: str, column: ColumnType) -> str:
    """Return the expression that writes `value`, an expression too, as the contract's JSON has it."""
    match column.kind:
        case Kind.LONG | Kind.DECIMAL:
            return f"CAST({value} AS VARCHAR)"
        case Kind.DATE:
            return _dated_sql(value, "")
        case Kind.TIME:
            return f"strftime(make_timestamp(epoch_us({value})), '%H:%M:%S.%f')"
        case Kind.TIMESTAMP:
            return _dated_sql(value, "T%H:%M:%S.%f")
        case Kind.TIMESTAMPTZ:
            return _dated_sql(f"make_timestamp(epoch_us({value}))", "T%H:%M:%S.%fZ")
        case Kind.BINARY:
            return f"to_base64({value})"
        case Kind.FLOAT:  # by its shortest text: as a double it would show digits that nobody wrote
            return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)"
        case Kind.LIST:
            return f"list_transform({value}, lambda x: {contract_sql('x', element_of(column))})"
        case _:
            return value


def _dated_sql(value: str, time_format: str) -> str:
    """Return the expression of an ISO date and time; years beyond 9999 and before 0 have a sign and four digits."""
    rest = f"'-%m-%d{time_format}'"
    return f"""CASE WHEN year({value}) BETWEEN 0 AND {_YEAR_MAX} THEN strftime({value}, '%Y' || {rest})
        ELSE format('{{:+05d}}', year({value})) || strftime({value}, {rest}) END"""


def text_sql(value: str, column: ColumnType) -> str:
    """Return the expression of the text of `value`: of what the contract has as text that, of all else the JSON."""
    if column.kind in _FLOATS:
        return _number_sql(value, quote="")
    if column.kind in _BARE or column.kind is Kind.LIST:
        return _json_sql(value, column)
    return contract_sql(value, column)


def _json_sql(value: str, column: ColumnType) -> str:
    if column.kind in _BARE:
        return f"CAST({value} AS VARCHAR)"
    if column.kind in _FLOATS:
        return _number_sql(value, quote='"')
    if column.kind is Kind.LIST:
        items = f"list_transform({value}, lambda x: coalesce({_json_sql('x', element_of(column))}, 'null'))"
        return f"CASE WHEN {value} IS NOT NULL THEN '[' || array_to_string({items}, ',') || ']' END"
    return f"CAST(to_json({contract_sql(value, column)}) AS VARCHAR)"


def _number_sql(value: str, *, quote: str) -> str:
    """Return the expression of a float's text; what is no number is in quotes.

    DuckDB writes 1e+22, 1e-07 and 1.5e-05 where the contract has 1e22, 1e-7 and 0.000015.
    """
    text = f"CAST({contract_sql(value, ColumnType(Kind.FLOAT))} AS VARCHAR)"
    plain = rf"regexp_replace({text}, '^(-?)(\d)(?:\.(\d+))?e-05$', '\10.0000\2\3')"
    short = rf"regexp_replace(regexp_replace({plain}, 'e\+', 'e'), 'e-0', 'e-')"
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    whens = " ".join(f"WHEN '{found}' THEN '{quote}{name}{quote}'" for found, name in names.items())
    return f"CASE {text} {whens} ELSE {short} END"
