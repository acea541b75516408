"""Types of columns as records of other tools state them beside the rows, in the words of specs.

What a tool's word leaves open, such as whether a time has a zone, is not said here: then the values decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from schemas.types import DECIMAL_PRECISION_MAX

_MYSQL = re.compile(r"([a-z]+)(?:\((\d+)(?:,\s*(\d+))?\))?(.*)", re.DOTALL)
_OF_MYSQL = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "year"), "int"),
    "bigint": "long",
    **dict.fromkeys(("float", "double", "real"), "double"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum"), "string"),
    "json": "json",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
}
_WIDER_UNSIGNED = {"int": "long", "bigint": None}  # a bigint without a sign has no type of whole numbers here
_OF_DMS = {
    **dict.fromkeys(("INT1", "INT2", "INT4", "INT8", "INT16", "INT32", "UINT8", "UINT16"), "int"),
    **dict.fromkeys(("INT64", "UINT32"), "long"),
    "REAL4": "float",
    "REAL8": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    **dict.fromkeys(("STRING", "WSTRING", "CLOB", "NCLOB"), "string"),
}


def of_canal(document: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what `mysqlType` of a record of Canal states."""
    stated = document.get("mysqlType")
    if not isinstance(stated, dict):
        return None
    found = {name: _of_mysql(text) for name, text in stated.items() if isinstance(text, str)}
    return {name: type_ for name, type_ in found.items() if type_ is not None}


def of_dms(document: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what a control record of AWS DMS states of a table's columns."""
    control = document.get("control")
    table = control.get("table-def") if isinstance(control, dict) else None
    columns = table.get("columns") if isinstance(table, dict) else None
    if not isinstance(columns, dict):
        return None
    found = {name: _of_dms(column) for name, column in columns.items() if isinstance(column, dict)}
    return {name: type_ for name, type_ in found.items() if type_ is not None}


def _of_mysql(text: str) -> str | None:
    match = _MYSQL.fullmatch(text.strip().lower())
    if match is None:
        return None
    name, unsigned = match[1], "unsigned" in match[4]
    if name in {"decimal", "numeric"}:
        return _decimal(int(match[2] or 10), int(match[3] or 0))
    return _WIDER_UNSIGNED[name] if unsigned and name in _WIDER_UNSIGNED else _OF_MYSQL.get(name)


def _of_dms(column: Mapping[str, Any]) -> str | None:
    name, precision, scale = column.get("type"), column.get("precision"), column.get("scale")
    if name == "NUMERIC" and type(precision) is int and type(scale) is int:
        return _decimal(precision, scale)
    return _OF_DMS.get(name) if isinstance(name, str) else None


def _decimal(precision: int, scale: int) -> str | None:
    fits = 1 <= precision <= DECIMAL_PRECISION_MAX and 0 <= scale <= precision
    return f"decimal({precision},{scale})" if fits else None
