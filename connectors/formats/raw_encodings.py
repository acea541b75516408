"""Encodings whose values come as raw JSON, `plain` and `bson`: which type is read how."""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.formats import bson, plain
from connectors.formats.forms import Column, Conversion, Each, Form, Maker, by
from connectors.formats.uuids import uuid_column, uuid_text
from schemas.types import ColumnType, Kind


def _raw(each: Each, column: Column | None = None) -> Maker:
    return by(msgspec.Raw, each, None if column is None else plain.with_nulls(column))


def _raw_decimal(type_: ColumnType, _scale: int | None) -> Form:
    each, column = plain.decimal_maker(type_.precision, type_.scale)
    return Form(msgspec.Raw, Conversion(each, plain.with_nulls(column)))


def _bson(each: Each, column: Column | None = None) -> Maker:
    return _raw(each, None if column is None else bson.ordinary(column))


def _bson_decimal(type_: ColumnType, _scale: int | None) -> Form:
    each, column = bson.decimal_maker(type_.precision, type_.scale)
    return Form(msgspec.Raw, Conversion(each, plain.with_nulls(column)))


def _bson_float(*, single: bool) -> Maker:
    each, column = plain.float_maker(single=single)
    return _bson(bson.unwrapped(each), column)


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
    Kind.TIME: _raw(plain.time_of),
    Kind.TIMESTAMP: _raw(plain.stamp_of, plain.stamps),
    Kind.TIMESTAMPTZ: _raw(plain.zoned_of, plain.zoned),
    Kind.STRING: _raw(plain.text_of, plain.texts),
    Kind.JSON: _raw(plain.document_of),
    Kind.UUID: _raw(_raw_uuid, lambda raws: uuid_column(plain.texts(raws))),
    Kind.BINARY: _raw(plain.bytes_of, plain.binaries),
}
BSON: dict[Kind, Maker] = {
    Kind.BOOLEAN: _bson(bson.boolean_of, plain.booleans),
    Kind.INT: _bson(bson.unwrapped(plain.int_of), plain.ints),
    Kind.LONG: _bson(bson.unwrapped(plain.long_of), plain.longs),
    Kind.FLOAT: _bson_float(single=True),
    Kind.DOUBLE: _bson_float(single=False),
    Kind.DECIMAL: _bson_decimal,
    Kind.DATE: _bson(bson.date_of),
    Kind.TIMESTAMP: _bson(bson.stamp_of),
    Kind.TIMESTAMPTZ: _bson(bson.zoned_of),
    Kind.STRING: _bson(bson.text_of, plain.texts),
    Kind.JSON: _bson(bson.document_of),
    Kind.UUID: _bson(bson.uuid_of),
    Kind.BINARY: _bson(bson.bytes_of),
}
