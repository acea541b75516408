"""From a schema of Kafka Connect to columns: what a schema block says exactly, and what it can be widened to.

`way_of` is the type and encoding of one field, `ways_of` the same with all that is wider, the last of which takes
whatever Connect lets the field hold. `spec_of_fields` makes a whole spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.formats.encodings import ENCODINGS
from connectors.formats.keys import wire_encoding
from connectors.formats.reasons import Rejection
from connectors.formats.schemablock import encoding_of
from connectors.inference.fitting import ANY_JSON, ANY_TEXT, Way, exists
from schemas.table import Column, TableSpec
from schemas.types import DECIMAL_PRECISION_MAX, ColumnType, Kind

_PHYSICAL = {
    "int8": Kind.INT,
    "int16": Kind.INT,
    "int32": Kind.INT,
    "int64": Kind.LONG,
    "float": Kind.FLOAT,
    "double": Kind.DOUBLE,
    "boolean": Kind.BOOLEAN,
    "string": Kind.STRING,
    "bytes": Kind.BINARY,
    "struct": Kind.JSON,
    "map": Kind.JSON,
}
# Of the types that an encoding with a name is read as, the first of these is what it means.
_MEANT = (
    *(Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.DATE, Kind.TIME, Kind.UUID, Kind.JSON, Kind.BINARY, Kind.BOOLEAN),
    *(Kind.INT, Kind.LONG, Kind.DOUBLE, Kind.STRING),
)
_TEXTS = frozenset({"data.VariableScaleDecimal", "time.StructuredDuration"})  # else a decimal, and an object
_WIDER = (Kind.LONG, Kind.DOUBLE, Kind.STRING)
_PRECISION = "connect.decimal.precision"


def way_of(field: Mapping[str, Any]) -> Way:
    """Return the type, encoding and scale that a field of a schema block states.

    Raises:
        Rejection: `bad_schema`, for a type that Kafka Connect does not have.
    """
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return way_of(field["items"]).in_list()
    encoding, scale = encoding_of(dict(field))
    kinds = ENCODINGS.get(encoding)
    if kinds is None:
        raise Rejection("bad_schema", "a field of the schema block has a semantic type that is not known")
    if encoding == "connect.Decimal":
        return Way(_decimal(field, scale), encoding, scale)
    plain = _PHYSICAL[str(field["type"])]
    if "." not in encoding and plain in kinds:
        return Way(ColumnType(plain), encoding)
    if encoding in _TEXTS:
        return Way(ColumnType(Kind.STRING), encoding)
    return Way(ColumnType(next(kind for kind in _MEANT if kind in kinds)), encoding)


def _decimal(field: Mapping[str, Any], scale: int | None) -> ColumnType:
    """Return the decimal type; a string where its digits are not known, or are more than the type has."""
    parameters = field.get("parameters")
    text = str(parameters.get(_PRECISION, "")) if isinstance(parameters, Mapping) else ""
    precision = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0  # noqa: PLR2004 - 0 to 9999
    if scale is None or not 0 <= scale <= precision or not 1 <= precision <= DECIMAL_PRECISION_MAX:
        return ColumnType(Kind.STRING)
    return ColumnType(Kind.DECIMAL, precision, scale)


def ways_of(field: Mapping[str, Any]) -> list[Way]:
    """Return what a field states, then ever wider ways to read it: what one takes, the next one takes as well.

    Raises:
        Rejection: `bad_schema`, for a type that Kafka Connect does not have.
    """
    depth, inner = 0, dict(field)
    while inner.get("type") == "array" and isinstance(inner.get("items"), dict):
        depth, inner = depth + 1, inner["items"]
    stated = way_of(inner)
    named = isinstance(inner.get("name"), str) and "." in stated.encoding
    ways = [stated, *_wider(stated, named=named)]
    if not named and stated != ANY_JSON and stated.encoding != "map":
        ways += [ANY_TEXT]
    for _ in range(depth):
        ways = [way.in_list() for way in ways]
    if not named:
        ways += [ANY_JSON]
    return [way for at, way in enumerate(ways) if exists(way) and way not in ways[:at]]


def _wider(stated: Way, *, named: bool) -> list[Way]:
    """Return what a single value can be widened to in its own encoding, whether or not there is such a way."""
    text = ColumnType(Kind.STRING)
    if stated.encoding == "connect.Decimal":  # decimal.format=NUMERIC writes numbers, whatever the block says
        return [Way(text, stated.encoding, stated.scale), Way(stated.type, "number"), Way(text, "number")]
    if stated.type.kind is Kind.JSON:
        return [Way(text, stated.encoding)] if named else []
    kinds = _WIDER[_WIDER.index(stated.type.kind) + 1 :] if stated.type.kind in _WIDER else _WIDER
    ways = [Way(ColumnType(kind), stated.encoding, stated.scale) for kind in kinds]
    return [*ways, Way(ColumnType(Kind.JSON), stated.encoding)] if named else ways


def column_of(way: Way, dialects: Sequence[str] = ("postgresql",)) -> Column:
    """Return the column of a spec; its encoding is left out where it is the default of all `dialects`."""
    encoding = way.spelled
    if all(wire_encoding(way.type, None, dialect) == encoding for dialect in dialects):
        return Column(type=way.type)
    return Column(type=way.type, encoding=encoding)


def spec_of_fields(
    fields: Mapping[str, Mapping[str, Any]],
    *,
    table: str,
    topics: Sequence[str],
    key: Sequence[str] = (),
    **more: Any,
) -> TableSpec:
    """Return the spec of a table whose rows have these fields of Kafka Connect, by name.

    Raises:
        Rejection: `bad_schema`, for a type that Kafka Connect does not have.
        pydantic.ValidationError: a name is not one that a spec may have.
    """
    columns = {name: column_of(way_of(field)) for name, field in fields.items()}
    return TableSpec(table=table, topics=list(topics), key=list(key), columns=columns, **more)
