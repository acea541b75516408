"""Encodings whose values come as raw JSON, `plain` and `bson`: which type is read how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.formats import bson, bson_columns, plain
from connectors.formats.forms import Column, Conversion, Each, Form, Maker, by
from connectors.formats.uuids import uuid_column, uuid_text
from schemas.types import ColumnType, Kind


def _raw(each: Each, column: Column | None = None) -> Maker:
    return by(msgspec.Raw, each, None if column is None else plain.with_nulls(column))


def _raw_decimal(type_: ColumnType, _scale: int | None) -> Form:
    each, column = plain.decimal_maker(type_.precision, type_.scale)
    return Form(msgspec.Raw, Conversion(each, plain.with_nulls(column)))


def _bson_decimal(type_: ColumnType, _scale: int | None) -> Form:
    each, column = plain.decimal_maker(type_.precision, type_.scale, bson_columns.bare_numbers)
    return Form(msgspec.Raw, Conversion(bson.unwrapped(each), plain.with_nulls(column)))


def _bson_float(*, single: bool) -> Maker:
    each, column = plain.float_maker(single=single, as_list=bson_columns.bare_numbers)
    return _raw(bson.unwrapped(each), column)


def _bare(column: Callable[[list[Any], plain.Lister], list[Any]]) -> Column:
    return lambda raws: column(raws, bson_columns.bare_numbers)


def _raw_uuid(raw: Any) -> str | None:
    text = plain.text_of(raw)
    return None if text is None else uuid_text(text)


PLAIN: dict[Kind, Maker] = {
    Kind.BOOLEAN: _raw(plain.boolean_of, plain.booleans),
    Kind.INT: _raw(plain.int_of, plain.ints),
    Kind.LONG: _raw(plain.long_of, plain.longs),
    Kind.FLOAT: _raw(*plain.float_maker(single=True)),
    Kind.DOUBLE: _raw(*plain.float_maker(single=False)),
    Kind.DECIMAL: _raw_decimal,
    Kind.DATE: _raw(plain.date_of, plain.dates),
    Kind.TIME: _raw(plain.time_of, plain.times),
    Kind.TIMESTAMP: _raw(plain.stamp_of, plain.stamps),
    Kind.TIMESTAMPTZ: _raw(plain.zoned_of, plain.zoned),
    Kind.STRING: _raw(plain.text_of, plain.as_texts),
    Kind.JSON: _raw(plain.document_of, plain.documents),
    Kind.UUID: _raw(_raw_uuid, lambda raws: uuid_column(plain.texts(raws))),
    Kind.BINARY: _raw(plain.bytes_of, plain.binaries),
}
BSON: dict[Kind, Maker] = {
    Kind.BOOLEAN: _raw(bson.boolean_of, plain.booleans),
    Kind.INT: _raw(bson.unwrapped(plain.int_of), _bare(plain.ints)),
    Kind.LONG: _raw(bson.unwrapped(plain.long_of), _bare(plain.longs)),
    Kind.FLOAT: _bson_float(single=True),
    Kind.DOUBLE: _bson_float(single=False),
    Kind.DECIMAL: _bson_decimal,
    Kind.DATE: _raw(bson.date_of, bson_columns.dates),
    Kind.TIMESTAMP: _raw(bson.stamp_of, bson_columns.stamps),
    Kind.TIMESTAMPTZ: _raw(bson.zoned_of, bson_columns.zoned),
    Kind.STRING: _raw(bson.text_of, bson_columns.texts),
    Kind.JSON: _raw(bson.document_of, bson_columns.documents),
    Kind.UUID: _raw(bson.uuid_of, bson_columns.uuids),
    Kind.BINARY: _raw(bson.bytes_of, bson_columns.binaries),
}
