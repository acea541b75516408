"""Whether a value in the contract's form is what the database says; it shares nothing with the decoder."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any


def differences(sql_type: str, ours: Any, text: str | None) -> str | None:
    """Return how `ours` differs from the database's text of a column, None if it does not."""
    if text is None or ours is None:
        return None if ours is None and text is None else f"{ours!r} is not {text!r}"
    sql_type = sql_type.removesuffix(" not null")
    expected = _plain(sql_type, text)
    got = _ours(sql_type, ours)
    return None if expected == got else f"{ours!r} is not {text!r}"


def _plain(sql_type: str, text: str) -> Any:  # noqa: C901, PLR0912 - a table of types
    if sql_type.endswith("[]"):
        return [None if element is None else _plain(sql_type[:-2], element) for element in _array(text)]
    name = re.sub(r"[(\s].*", "", sql_type)
    match name:
        case "boolean":
            return {"t": True, "true": True, "f": False, "false": False}[text]
        case "numeric" | "decimal" | "money":
            return _number(text.replace("$", "").replace(",", "") if name == "money" else text)
        case "real" | "double" | "float":
            return _number(text) if text in {"NaN", "Infinity", "-Infinity"} else float(text)
        case "bytea":
            return bytes.fromhex(text.removeprefix("\\x"))
        case "binary" | "varbinary" | "tinyblob" | "blob" | "longblob":
            return bytes.fromhex(text.removeprefix("0x"))
        case "bit":
            bits = text.removeprefix("b")
            if sql_type == "bit(1)":
                return bits == "1"
            return int(bits, 2).to_bytes((len(bits) + 7) // 8, "little").rstrip(b"\0") if bits else b""
        case "timestamp" | "datetime" | "date":
            return _moment(text)
        case "time":
            return _clock(text)
        case "hstore":
            return dict(re.findall(r'"([^"]*)"=>(?:"([^"]*)"|NULL)', text))
        case "oid" | "smallint" | "integer" | "bigint" | "tinyint" | "mediumint" | "int" | "year" | "posint":
            return int(text)
        case _:
            return text


def _ours(sql_type: str, value: Any) -> Any:
    if sql_type.endswith("[]"):
        return [None if element is None else _ours(sql_type[:-2], element) for element in value]
    name = re.sub(r"[(\s].*", "", sql_type)
    match name:
        case "numeric" | "decimal" | "money":
            return _number(str(value))
        case "real" | "double" | "float":
            return _number(value) if isinstance(value, str) else float(value)
        case "bytea" | "binary" | "varbinary" | "tinyblob" | "blob" | "longblob":
            return base64.b64decode(value, validate=True)
        case "bit" if sql_type != "bit(1)":
            return base64.b64decode(value, validate=True).rstrip(b"\0")
        case "timestamp" | "datetime" | "date":
            return _moment(value)
        case "time":
            return _clock(value)
        case "hstore":
            return {key: item or "" for key, item in json.loads(value).items()}
        case "oid" | "smallint" | "integer" | "bigint" | "tinyint" | "mediumint" | "int" | "year" | "posint":
            assert isinstance(value, str) == (
                name in {"oid", "bigint"} or "int(10) unsigned" in sql_type or "zerofill" in sql_type
            )
            return int(value)
        case _:
            return value


def _number(text: str) -> Any:
    named = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}.get(text, text)
    return named if named in {"NaN", "Infinity", "-Infinity"} else Decimal(named)


def _moment(text: str) -> tuple[int, ...]:
    """Return year (astronomical), month, day, and the time of day in microseconds, all in UTC."""
    match = re.fullmatch(r"([+-]?\d+)-(\d\d)-(\d\d)(?:[ T](\d\S*?)(?:\+00|Z)?)?( BC)?", text)
    assert match, f"{text} is no date"
    year = 1 - int(match[1]) if match[5] else int(match[1])
    return (year, int(match[2]), int(match[3]), *(_clock(match[4]) if match[4] else ()))


def _clock(text: str) -> tuple[int, int]:
    """Return microseconds since midnight, in UTC, and days beyond."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d)(?:\.(\d+))?(?:([+-])(\d\d)(?::(\d\d))?|Z)?", text)
    assert match, f"{text} is no time"
    micros = ((int(match[1]) * 60 + int(match[2])) * 60 + int(match[3])) * 1_000_000 + int(
        (match[4] or "").ljust(6, "0")
    )
    if match[5]:
        offset = (int(match[6]) * 60 + int(match[7] or 0)) * 60_000_000
        micros = (micros - offset if match[5] == "+" else micros + offset) % 86_400_000_000
    return micros, 0


def _array(text: str) -> list[str | None]:
    """Return the elements of PostgreSQL's text of an array of one dimension."""
    found: list[str | None] = []
    for quoted, bare in re.findall(r'(?:[{,])(?:"((?:[^"\\]|\\.)*)"|([^",{}]+))', text):
        found.append(re.sub(r"\\(.)", r"\1", quoted) if not bare else (None if bare == "NULL" else bare))
    return found
