"""Captures of real connectors: their records as runs, and specs of tables made from the types of the database."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.table import TableSpec

FOLDER = Path(__file__).parents[2] / "fixtures" / "formats"


class CapturedRun:
    """Captured records of one topic partition; it fits `Records`."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        """Keep `records` of one partition, in the order of their offsets."""
        self.topic: str = records[0]["topic"]
        self.partition: int = records[0]["partition"]
        self._records = records
        self._values = [_bytes(record["value"]) for record in records]
        self._keys = [_bytes(record["key"]) for record in records]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return self._values

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return self._keys

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return [record["offset"] for record in self._records]

    def timestamps(self) -> list[int]:
        """Return the times that Kafka has of them, in milliseconds."""
        return [-1 if record["timestamp"] is None else record["timestamp"] for record in self._records]

    def time_ms(self, index: int, /) -> int:
        """Return the time that Kafka has of one record."""
        return self.timestamps()[index]

    def headers(self, index: int, /) -> Sequence[tuple[str, bytes | None]]:
        """Return the headers of one record."""
        return [(name, value.encode()) for name, value in self._records[index]["headers"]]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


@functools.cache
def records(case: str) -> list[dict[str, Any]]:
    """Return all records of a case, by topic, partition and offset."""
    lines = gzip.decompress((FOLDER / case / "events.jsonl.gz").read_bytes()).splitlines()
    return sorted(
        (json.loads(line) for line in lines),
        key=lambda record: (record["topic"], record["partition"], record["offset"]),
    )


@functools.cache
def oracle(case: str) -> dict[str, Any]:
    """Return the tables of a case as their database ends up with them."""
    found: dict[str, Any] = json.loads(gzip.decompress((FOLDER / case / "rows.json.gz").read_bytes()))
    return found


def configuration(case: str) -> dict[str, str]:
    """Return the configuration of a case's connector."""
    found: dict[str, str] = json.loads((FOLDER / case / "connector.json").read_text())
    return found


def is_envelope_json(case: str) -> bool:
    """Tell whether the records of a case are Debezium's envelopes as JSON; others are cases of event_cases.py."""
    return configuration(case).get("value.converter", "").endswith(".JsonConverter")


@functools.cache
def registered(case: str) -> dict[int, str]:
    """Return the schemas of a case's registry by id, as texts."""
    found = json.loads((FOLDER / case / "schemas.json").read_text())
    return {int(number): json.dumps(schema) for number, schema in found.items()}


def runs(case: str, topic: str) -> list[CapturedRun]:
    """Return the runs of a topic, one for each partition."""
    mine = [record for record in records(case) if record["topic"] == topic]
    return [
        CapturedRun([r for r in mine if r["partition"] == number]) for number in sorted({r["partition"] for r in mine})
    ]


def topic_of(case: str, table: str) -> str:
    """Return the topic of a table, named as Debezium does."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{configuration(case)['topic.prefix']}.{table}")


def spec_of(case: str, table: str, **changes: Any) -> TableSpec:
    """Return the spec of a captured table, as a person would write it who knows database and connector."""
    return spec_of_table(oracle(case)[table], configuration(case), **changes)


def spec_of_table(known: dict[str, Any], settings: dict[str, str], **changes: Any) -> TableSpec:
    """Return the spec of a table by what its database says of it, and how its connector was set."""
    typing = _mysql_column if "Postgres" not in settings["connector.class"] else _postgres_column
    columns = {name: typing(sql.removesuffix(" not null"), settings) for name, sql in known["columns"].items()}
    document = {"table": "captured", "topics": ["t"], "key": known["primary_key"], "columns": columns}
    if settings.get("unavailable.value.placeholder"):
        document["unavailable_placeholder"] = settings["unavailable.value.placeholder"]
    if any(value.endswith(".ExtractNewRecordState") for value in settings.values()):
        document["format"] = "debezium-flat"
    return TableSpec.model_validate(document | changes)


_PLAIN = {
    "smallint": "int",
    "integer": "int",
    "posint": "int",
    "oid": "long",
    "bigint": "long",
    "boolean": "boolean",
    "real": "float",
    "double precision": "double",
    "uuid": "uuid",
    "json": "json",
    "jsonb": "json",
}
_TIMES = {
    "time": ("Time", "MicroTime", "NanoTime", "IsoTime", "connect.Time", "StructuredTime"),
    "timestamp": (
        *("Timestamp", "MicroTimestamp", "NanoTimestamp", "IsoTimestamp"),
        *("connect.Timestamp", "StructuredTimestamp"),
    ),
}
_GEOMETRY = {"point", "line", "lseg", "box", "path", "polygon", "circle"}
MILLI, MICRO, NANO, ISO, CONNECT, STRUCTURED = range(6)
_DATES = {"isostring": "time.IsoDate", "connect": "connect.Date", "structured": "time.StructuredDate"}
MILLI_DIGITS_MAX = 3


def _column(type_: str, encoding: str | None = None) -> dict[str, str]:
    return {"type": type_} if encoding is None else {"type": type_, "encoding": encoding}


def _postgres_column(sql: str, settings: dict[str, str]) -> dict[str, str]:
    if sql.endswith("[]"):
        element = _postgres_column(sql.removesuffix("[]"), settings)
        return _column(f"list<{element['type']}>", element.get("encoding"))
    if match := re.fullmatch(r"(time|timestamp)(?:\((\d)\))? without time zone", sql):
        return _column(
            match[1], _temporal(match[1], int(match[2] or 6), settings.get("time.precision.mode", "adaptive"))
        )
    mode = settings.get("time.precision.mode", "adaptive")
    zoned = "time.StructuredZoned" if mode == "structured" else "time.Zoned"
    if re.fullmatch(r"timestamp.* with time zone", sql):
        return _column("timestamptz", f"{zoned}Timestamp")
    if re.fullmatch(r"time.* with time zone", sql):
        return _column("time", f"{zoned}Time")
    if sql == "date":
        return _column("date", _DATES.get(mode))
    return _postgres_timeless(sql, settings)


def _postgres_timeless(sql: str, settings: dict[str, str]) -> dict[str, str]:
    if sql.startswith(("numeric", "money")):
        return _numeric(sql, settings)
    if sql.startswith("bit"):
        return _column("boolean") if sql == "bit(1)" else _column("binary", "data.Bits")
    match sql:
        case "interval" if settings.get("time.precision.mode") == "structured":
            return _column("string", "time.StructuredDuration")
        case "interval":
            by_text = settings.get("interval.handling.mode") == "string"
            return _column("string", "time.Interval") if by_text else _column("long", "time.MicroDuration")
        case "bytea":
            return _column(
                "binary", {"base64-url-safe": "base64url", "hex": "hex"}.get(settings.get("binary.handling.mode", ""))
            )
        case "hstore":
            return _column("json", "map" if settings.get("hstore.handling.mode") == "map" else None)
        case _ if sql in _GEOMETRY:
            return _column("json", "struct")
        case _:
            return _column(_PLAIN.get(sql, "string"))


def _temporal(name: str, digits: int, mode: str) -> str:
    places = {
        "microseconds": MICRO,
        "nanoseconds": NANO,
        "isostring": ISO,
        "connect": CONNECT,
        "structured": STRUCTURED,
    }
    place = places.get(mode)
    if place is None:
        place = (
            MILLI
            if digits <= MILLI_DIGITS_MAX and not (name == "time" and mode == "adaptive_time_microseconds")
            else MICRO
        )
    encoding = _TIMES[name][place]
    return encoding if "." in encoding else f"time.{encoding}"


def _numeric(sql: str, settings: dict[str, str]) -> dict[str, str]:
    mode = settings.get("decimal.handling.mode", "precise")
    match = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", sql)
    precision, scale = (
        (int(match[1]), int(match[2])) if match else (19, int(settings.get("money.fraction.digits", "2")))
    )
    if mode == "double":
        return _column("double")
    if sql == "numeric" or (precision > 38 or scale < 0):
        return _column(
            "string",
            {"precise": "data.VariableScaleDecimal" if sql == "numeric" else f"connect.Decimal({scale % 2048})"}.get(
                mode
            ),
        )  # Debezium's form of a negative scale
    return _column(f"decimal({precision},{scale})", "string" if mode == "string" else None)


def _mysql_column(sql: str, settings: dict[str, str]) -> dict[str, str]:  # noqa: C901, PLR0912 - a table of types
    name = sql.partition("(")[0]
    digits = int(match[1]) if (match := re.search(r"\((\d+)", sql)) else 0
    mode = settings.get("time.precision.mode", "adaptive_time_microseconds")
    match name:
        case "int" | "bigint":
            unsigned = "unsigned" in sql
            precise = settings.get("bigint.unsigned.handling.mode") == "precise"
            if name == "bigint" and unsigned and precise:
                return _column("decimal(20,0)")
            return _column("long" if name == "bigint" or unsigned else "int")
        case "tinyint" | "smallint" | "mediumint" | "year":
            return _column("int")
        case "float" | "double":
            return _column(name)
        case "decimal":
            return _mysql_decimal(sql, settings)
        case "bit":
            return _column("boolean") if digits == 1 else _column("binary", "data.Bits")
        case "binary" | "varbinary" | "tinyblob" | "blob" | "longblob":
            return _column("binary", "hex" if settings.get("binary.handling.mode") == "hex" else None)
        case "json" | "uuid":
            return _column(name)
        case "date":
            return _column("date", _DATES.get(mode))
        case "time":
            return _column("time", _temporal("time", digits, mode))
        case "datetime":
            return _column("timestamp", _temporal("timestamp", digits, mode))
        case "timestamp":
            return _column("timestamptz")
        case "point" | "geometry":
            return _column("json", "struct")
        case _:
            return _column("string", "data.EnumEscaped" if name == "enum" else None)


def _mysql_decimal(sql: str, settings: dict[str, str]) -> dict[str, str]:
    mode = settings.get("decimal.handling.mode", "precise")
    precision, scale = map(int, re.findall(r"\d+", sql))
    if mode == "double":
        return _column("double")
    if precision > 38:
        return _column("string", f"connect.Decimal({scale})" if mode == "precise" else None)
    return _column(f"decimal({precision},{scale})", "string" if mode == "string" else None)
