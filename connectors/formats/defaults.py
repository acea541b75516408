"""What a column is taken for where neither the record nor the spec says how it is encoded, by dialect."""

from __future__ import annotations

from schemas.types import Kind

# PostgreSQL with time.precision.mode=adaptive.
_POSTGRESQL: dict[Kind, str] = {
    Kind.BOOLEAN: "boolean",
    Kind.INT: "int",
    Kind.LONG: "int",
    Kind.FLOAT: "double",
    Kind.DOUBLE: "double",
    Kind.DECIMAL: "connect.Decimal",
    Kind.DATE: "time.Date",
    Kind.TIME: "time.MicroTime",
    Kind.TIMESTAMP: "time.MicroTimestamp",
    Kind.TIMESTAMPTZ: "time.ZonedTimestamp",
    Kind.STRING: "string",
    Kind.JSON: "data.Json",
    Kind.UUID: "data.Uuid",
    Kind.BINARY: "base64",
}
DEFAULTS: dict[str, dict[Kind, str]] = {
    "postgresql": _POSTGRESQL,
    # DATETIME has no fraction unless asked for, and there is no boolean of its own.
    "mysql": {**_POSTGRESQL, Kind.TIMESTAMP: "time.Timestamp", Kind.BOOLEAN: "tinyint"},
    # TIME and DATETIME2 have seven digits unless less is asked for; DATETIME and SMALLDATETIME are milliseconds.
    "sqlserver": {**_POSTGRESQL, Kind.TIME: "time.NanoTime", Kind.TIMESTAMP: "time.NanoTimestamp"},
    # A NUMBER is sent in four ways by its digits, DATE has a time of day, and there is no boolean of its own.
    "oracle": {
        **_POSTGRESQL,
        Kind.BOOLEAN: "tinyint",
        Kind.DATE: "time.Timestamp",
        Kind.DECIMAL: "oracle.NUMBER",
    },
    "db2": {**_POSTGRESQL, Kind.TIME: "time.Time"},
    "plain": dict.fromkeys(_POSTGRESQL, "plain"),
    "bson": dict.fromkeys(_POSTGRESQL, "bson"),
}
