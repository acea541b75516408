"""The fast and the slow way of the contract reader: one reading, whatever the values."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import ContractReader
from connectors.contract_rows import UnreadableChange, read_rows
from schemas.table import TableSpec
from tests.unit.contract_reader.columns import TYPES, spec_of
from tests.unit.lake.changes import change, encoded

DATES = st.dates().map(dt.date.isoformat)
TIMES = st.times().map(lambda one: one.isoformat("microseconds"))
VALUES = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1).map(str),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "decimal(12,2)": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda one: f"{Decimal(one).scaleb(-2):.2f}"),
    "date": DATES,
    "time": TIMES,
    "timestamp": st.builds("{}T{}".format, DATES, TIMES),
    "timestamptz": st.builds("{}T{}Z".format, DATES, TIMES),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "json": st.text(st.characters(exclude_categories=["Cs"])),
    "uuid": st.uuids().map(str),
    "binary": st.binary(max_size=20).map(lambda one: b64encode(one).decode()),
    "list<long>": st.lists(st.none() | st.integers(-(2**63), 2**63 - 1).map(str), max_size=3),
    "list<list<decimal(5,1)>>": st.lists(
        st.none() | st.lists(st.integers(-9999, 9999).map(lambda one: f"{Decimal(one).scaleb(-1):.1f}"), max_size=2),
        max_size=2,
    ),
}
ROWS = st.none() | st.fixed_dictionaries({}, optional={name: st.none() | VALUES[text] for name, text in TYPES.items()})


def read_slowly(changes: list[dict[str, Any]], spec: TableSpec | None = None, *, rows: str = "after") -> pa.Table:
    """Read changes row by row."""
    reader = ContractReader(spec or spec_of(), rows=frozenset(rows.split()))
    return read_rows(encoded(changes), reader.rows, reader.schema, first_index=0)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=8))
def test_both_ways_read_the_same(rows: list[dict[str, Any] | None]) -> None:
    """What the fast way reads by column is what the slow way reads by value, whatever the values."""
    changes = [change(number, number, after=row) for number, row in enumerate(rows)]

    fast = ContractReader(spec_of(), rows=frozenset({"after"})).read_fast(encoded(changes))
    assert fast is not None
    assert read_slowly(changes).to_pylist() == fast.to_pylist()


MORE_TYPES = {
    **TYPES,
    "c_whole": "decimal(38,0)",
    "c_small": "decimal(38,38)",
    "c_long_decimal": "decimal(35,10)",
    "c_doubles": "list<double>",
    "c_moments": "list<timestamptz>",
    "c_binaries": "list<binary>",
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -5, 2**31, -(2**31) - 1, 2**63, 2**64, 1.0, -0.0, 1.5, 1e300, 5e-324),
    *("NaN", "Infinity", "-Infinity", "nan", "", "-", "--1", "+1", " 1", "1 ", "0x10", "1e2", "1E-45", "00012", "1_0"),
    *("9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.5", "-.5", "5.", "1.5.5", "\u0663"),
    *("9" * 38, "-" + "9" * 38, "9" * 39, "1" + "0" * 38, "0." + "9" * 38, "-0." + "9" * 38, "9" * 76, "9" * 77),
    *("2024-02-29", "2023-02-29", "2024-2-9", "0001-01-01", "0000-01-01", "-0044-03-15", "9999-12-31", "10000-01-01"),
    *("13:45:06.789123", "13:45:06", "24:00:00", "23:59:60", "13:45:06.7891234", "13:45:06Z"),
    *("2024-02-29T13:45:06.789123", "2024-02-29T13:45:06.789123Z", "2024-02-29T13:45:06", "2024-02-30T13:45:06Z"),
    *("0001-01-01T00:00:00.000000", "0000-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    *("10000-01-01T00:00:00.000000", "+12345-12-31T23:59:59.999999Z", "290000-01-01T00:00:00.000000"),
    *("AP/+", "AP/", "A===", "AQ==AQ==", "AR==", "====", "\u65e5\u672c", "\x00", "a\nb", 'q"\\q', "\U0001f600"),
    *([], [None], ["1"], ["x"], [1], [[]], [["1.5"]], [[None]], [["9" * 39]], {}, {"a": 1}),
]
ODD_VALUES = st.sampled_from(ODD)
ODD_ROWS = st.dictionaries(
    st.sampled_from(sorted(MORE_TYPES)), ODD_VALUES | st.lists(ODD_VALUES, max_size=3), max_size=2
)


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, max_size=3), st.lists(ROWS | ODD_ROWS, min_size=1, max_size=2), st.booleans())
def test_the_fast_way_never_has_an_opinion_of_its_own(
    befores: list[Any], afters: list[Any], ensure_ascii: bool
) -> None:
    """What it takes is what the slow way makes of it; what the slow way refuses, it refuses, in whatever column."""
    pairs = zip_longest(befores, afters)
    changes = [change(number, number, before=row, after=after) for number, (row, after) in enumerate(pairs)]
    values = [json.dumps(one, ensure_ascii=ensure_ascii).encode() for one in changes]
    reader = ContractReader(spec_of(MORE_TYPES, ["c_long"]), rows=frozenset({"key", "before", "after"}))
    try:
        slow = read_rows(values, reader.rows, reader.schema, first_index=0)
    except UnreadableChange as refused:
        assert reader.read_fast(values) is None
        with pytest.raises(UnreadableChange) as caught:
            reader.read(values)
        assert refused.index == caught.value.index  # noqa: PT017
        return

    fast = reader.read_fast(values)
    assert fast is None or slow.equals(fast)
    assert slow.schema == reader.read(values).schema
