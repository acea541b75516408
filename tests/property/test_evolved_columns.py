"""Columns that were of another type take any JSON there is: each value has one text, or one place of two."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.encodings import form_of
from connectors.formats.evolved import RawForm, put_parted, text_form, texts_of
from connectors.formats.rows import list_form
from schemas.types import ColumnType, Kind, parse_type

READ = [
    ("int", "int"), ("long", "int"), ("double", "double"), ("boolean", "boolean"), ("decimal(6,2)", "number"),
    ("decimal(6,2)", "connect.Decimal"), ("timestamp", "time.MicroTimestamp"), ("timestamptz", "time.ZonedTimestamp"),
    ("date", "time.Date"), ("json", "data.Json"), ("binary", "base64"), ("uuid", "data.Uuid"), ("string", "string"),
    ("list<int>", "int"), ("long", "plain"), ("timestamptz", "plain"), ("long", "bson"), ("binary", "bson"),
]  # fmt: skip
_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
_documents = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_wrapped = st.builds(lambda name, value: {name: value}, st.sampled_from(["$oid", "$date", "$numberLong"]), _scalars)
values = st.lists(st.one_of(_documents, _wrapped), min_size=1, max_size=6)


class Row:
    """A decoded row of a column and its rest."""

    def __init__(self, raw: Any) -> None:
        """Hold what was decoded."""
        self.c, self.rest = raw, msgspec.UNSET


def raws_of(found: list[Any]) -> list[Any]:
    """Return values as a decoder hands them over."""
    return [msgspec.Raw(json.dumps(value).encode()) for value in found]


@pytest.mark.parametrize(("type_", "encoding"), READ)
@given(found=values)
def test_each_value_has_one_text_whatever_stands_beside_it(type_: str, encoding: str, found: list[Any]) -> None:
    """A null has none; the column as a whole says the same as each value alone."""
    column, scale = parse_type(type_), parse_type(type_).scale or None
    text = texts_of(form_of(ColumnType(Kind.STRING), encoding, scale=scale))
    conversion = text_form(list_form(column, encoding, scale=scale), text).conversion
    assert conversion is not None
    raws = raws_of(found)
    together, faults = conversion.apply(raws)

    assert {} == faults
    assert [conversion.each(raw) for raw in raws] == together
    assert all(isinstance(each, str) for each, value in zip(together, found, strict=True) if value not in (None, {}))


@pytest.mark.parametrize(("type_", "encoding"), READ)
@given(found=values)
def test_each_value_is_in_its_column_or_in_the_one_beside_it(type_: str, encoding: str, found: list[Any]) -> None:
    """Never in both, and in neither where it is null."""
    column, scale = parse_type(type_), parse_type(type_).scale or None
    own = RawForm(list_form(column, encoding, scale=scale))
    text = texts_of(form_of(ColumnType(Kind.STRING), encoding, scale=scale))
    rows = [Row(raw) for raw in raws_of(found)]

    assert {} == put_parted(rows, "c", "rest", own, text)
    assert all(row.c is None or row.rest is None for row in rows)
    assert all(row.c is None for row, value in zip(rows, found, strict=True) if value is None)
