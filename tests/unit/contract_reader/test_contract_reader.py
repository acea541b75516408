"""The contract read as columns: two ways that agree, and nothing that is not the contract."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest

from connectors.contract import CHANGE_FIELDS, VALUES_SLOW_MAX, ContractReader, arrow_type
from connectors.contract_rows import UnreadableChange, read_rows
from schemas.errors import PoisonRecord
from schemas.table import TableSpec
from schemas.types import parse_type
from tests.unit.contract_reader.columns import TYPES, spec_of
from tests.unit.lake.changes import TOPIC, change, deletion, encoded

ROW = {
    "c_boolean": True,
    "c_int": -5,
    "c_long": "9223372036854775807",
    "c_float": 0.5,
    "c_double": 1.25,
    "c_decimal": "1234567890.12",
    "c_date": "2024-02-29",
    "c_time": "13:45:06.789123",
    "c_timestamp": "2024-02-29T13:45:06.789123",
    "c_timestamptz": "2024-02-29T13:45:06.789123Z",
    "c_string": 'quote " and "origin":["x",',
    "c_json": '{"origin":["clinic.public.patients",0]}',
    "c_uuid": "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
    "c_binary": "AP/+",
    "c_list": ["1", None, "-3"],
    "c_lists": [["1.5"], None, []],
}
EXPECTED = {
    "c_boolean": True,
    "c_int": -5,
    "c_long": 2**63 - 1,
    "c_float": 0.5,
    "c_double": 1.25,
    "c_decimal": Decimal("1234567890.12"),
    "c_date": dt.date(2024, 2, 29),
    "c_time": dt.time(13, 45, 6, 789123),
    "c_timestamp": dt.datetime(2024, 2, 29, 13, 45, 6, 789123),  # noqa: DTZ001  zoneless on purpose
    "c_timestamptz": dt.datetime(2024, 2, 29, 13, 45, 6, 789123, tzinfo=dt.UTC),
    "c_string": 'quote " and "origin":["x",',
    "c_json": '{"origin":["clinic.public.patients",0]}',
    "c_uuid": "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
    "c_binary": b"\x00\xff\xfe",
    "c_list": [1, None, -3],
    "c_lists": [[Decimal("1.5")], None, []],
}


def read(changes: list[dict[str, Any]], spec: TableSpec | None = None, *, rows: str = "after") -> pa.Table:
    """Read changes by the reader."""
    return ContractReader(spec or spec_of(), rows=frozenset(rows.split())).read(encoded(changes))


def test_every_type_is_read_as_its_arrow_type() -> None:
    """What the spec calls a date is a date, in Arrow's own type."""
    table = read([change(0, 1, after=ROW), change(1, 2, after=dict.fromkeys(ROW)), deletion(2, 1)])

    assert [EXPECTED, dict.fromkeys(ROW), None] == table.column("after").to_pylist()
    types = {field.name: field.type for field in table.schema.field("after").type}
    assert {name: arrow_type(parse_type(text)) for name, text in TYPES.items()} == types


def test_the_fields_of_the_change_are_columns() -> None:
    """Identity, order and source are there under the names that stages use."""
    value = change(7, 1, unavailable=["note"], source={"previous": None, "origin": [TOPIC, 2, 3, 7]})
    table = read([value], spec_of({"name": "string"}))

    expected = {
        "op": "update",
        "position": f"{7:045d}",
        "ts": dt.datetime(2026, 11, 20, 19, 45, 57, 123456, tzinfo=dt.UTC),
        "tx": "7",
        "snapshot": False,
        "unavailable": ["note"],
        "origin_topic": TOPIC,
        "origin_generation": 2,
        "origin_partition": 3,
        "origin_offset": 7,
        "origin_row": 0,
        "previous": None,
        "rows": 1,
        "after": {"name": "name 7"},
    }
    assert [expected] == table.to_pylist()
    assert CHANGE_FIELDS.names == table.column_names[:-1]


def test_only_the_wanted_columns_are_converted() -> None:
    """A column that nobody asked for cannot fail."""
    reader = ContractReader(spec_of(), rows=frozenset({"after"}), columns=["c_int"])
    table = reader.read(encoded([change(0, 1, after={**ROW, "c_date": "not a date"})]))

    assert [{"c_int": -5}] == table.column("after").to_pylist()


def test_key_rows_have_the_columns_of_the_key() -> None:
    """`key`, `old_key` and `new_key` are structs of the key columns, null where the change has none."""
    value = change(0, 1, old_key={"id": "8"}, after={"id": "1", "name": "x"})
    table = read([value], spec_of({"id": "long", "name": "string"}, ["id"]), rows="key old_key new_key before")

    assert [{"id": 1}] == table.column("key").to_pylist()
    assert [{"id": 8}] == table.column("old_key").to_pylist()
    assert [None] == table.column("new_key").to_pylist()
    assert [None] == table.column("before").to_pylist()


def test_a_table_without_a_key_has_empty_keys() -> None:
    """No key is no error."""
    table = read([change(0, 1, key=None, after=ROW)], rows="key after")

    assert [None] == table.column("key").to_pylist()
    assert [EXPECTED] == table.column("after").to_pylist()


def test_origins_of_several_topics_in_one_batch() -> None:
    """Each row keeps its own topic, also one seen for the first time."""
    topics = ["a", "b", "a", "c.d"]
    changes = [change(n, n, source={"origin": [topic, 0, 0, n]}) for n, topic in enumerate(topics)]
    reader = ContractReader(spec_of({"name": "string"}), rows=frozenset({"after"}))

    assert topics[:1] == reader.read(encoded(changes[:1])).column("origin_topic").to_pylist()
    assert topics == reader.read(encoded(changes)).column("origin_topic").to_pylist()


def test_a_column_called_origin_is_not_mistaken_for_one() -> None:
    """A list that begins with the topic's name stays what it is."""
    spec = spec_of({"origin": "list<string>"})
    table = read([change(3, 1, after={"origin": [TOPIC, "0", "0"]})], spec)

    assert [{"origin": [TOPIC, "0", "0"]}] == table.column("after").to_pylist()
    assert [3] == table.column("origin_offset").to_pylist()


@pytest.mark.parametrize(
    "text",
    [
        "10000-01-01T00:00:00.000000",
        "0001-01-01T00:00:00.000000",
        "0000-02-29T01:02:03.000004",
        "-0044-03-15T12:00:00.500000Z",
        "+12345-12-31T23:59:59.999999Z",
        "1969-12-31T23:59:59.999999",
    ],
)
def test_years_that_datetime_does_not_know(text: str) -> None:
    """Years beyond 9999 and before 1 are kept."""
    table = read([change(0, 1, after={"c_timestamp": text, "c_date": text.split("T", maxsplit=1)[0]})])
    row = table.column("after").combine_chunks()

    assert [_microseconds(text)] == row.field("c_timestamp").cast(pa.int64()).to_pylist()
    assert [_microseconds(text) // 86_400_000_000] == row.field("c_date").cast(pa.int32()).to_pylist()


def test_the_last_day_and_the_last_moment_that_normalize_writes_are_read() -> None:
    """The last day of PostgreSQL, and of microseconds the last but one that 64 bits hold."""
    last = {"c_date": "+5874897-12-31", "c_timestamptz": "+294247-01-10T04:00:54.775806Z"}
    row = read([change(0, 1, after=last)]).column("after").combine_chunks()

    assert [2_145_042_905] == row.field("c_date").cast(pa.int32()).to_pylist()
    assert [2**63 - 2] == row.field("c_timestamptz").cast(pa.int64()).to_pylist()


@pytest.mark.parametrize(
    "row",
    [
        {"c_timestamp": "+294247-01-10T04:00:54.775808"},
        {"c_timestamp": "-290308-12-21T19:59:05.224191"},
        {"c_date": "+5881580-07-12"},
        {"c_date": "-5877641-06-22"},
    ],
)
def test_a_year_beyond_the_bits_of_its_type_is_refused(row: dict[str, str]) -> None:
    """It would wrap around to another year."""
    with pytest.raises(UnreadableChange):
        read([change(0, 1, after=row)])


def _microseconds(text: str) -> int:
    """Return microseconds since 1970 by counting days, year by year."""
    sign = -1 if text.startswith("-") else 1
    year, month, day = (int(part) for part in text.lstrip("+-").split("T")[0].split("-"))
    hours, minutes, seconds = text.split("T")[1].removesuffix("Z").split(":")
    days = _days_before(sign * year) + (
        dt.date(2000 if _leap(sign * year) else 2001, month, day).timetuple().tm_yday - 1
    )
    whole, fraction = seconds.split(".")
    return ((days * 24 + int(hours)) * 60 + int(minutes)) * 60 * 10**6 + int(whole) * 10**6 + int(fraction)


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_before(year: int) -> int:
    if year >= 1970:
        return sum(366 if _leap(one) else 365 for one in range(1970, year))
    return -sum(366 if _leap(one) else 365 for one in range(year, 1970))


def test_not_a_number_and_infinities_are_read() -> None:
    """They are texts in the contract, which JSON's readers do not know as numbers."""
    texts = ["NaN", "Infinity", "-Infinity", 1.5]
    table = read([change(n, n, after={"c_double": text, "c_float": text}) for n, text in enumerate(texts)])
    row = table.column("after").combine_chunks()

    assert ["nan", "inf", "-inf", "1.5"] == [str(value) for value in row.field("c_double").to_pylist()]
    assert ["nan", "inf", "-inf", "1.5"] == [str(value) for value in row.field("c_float").to_pylist()]


BROKEN = {
    "broken JSON": b'{"op": "upd',
    "empty": b"",
    "an array": b"[1]",
    "null": b"null",
    "not UTF-8": orjson.dumps(change(1, 1)).replace(b"name 1", b"name \xff"),
    "deep": b'{"op":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "two values": orjson.dumps(change(1, 1)) + orjson.dumps(change(2, 2)),
    "no op": orjson.dumps({name: value for name, value in change(1, 1).items() if name != "op"}),
    "position null": orjson.dumps(change(1, 1, position=None)),
    "unavailable null": orjson.dumps({**change(1, 1), "unavailable": None}),
    "no source": orjson.dumps({**change(1, 1), "source": None}),
    "short origin": orjson.dumps(change(1, 1, source={"origin": [TOPIC, 0, 0]})),
    "origin without topic": orjson.dumps(change(1, 1, source={"origin": [5, 0, 0, 1]})),
    "origin null": orjson.dumps(change(1, 1, source={"origin": None})),
    "offset is text": orjson.dumps(change(1, 1, source={"origin": [TOPIC, 0, 0, "1"]})),
    "ts is no time": orjson.dumps(change(1, 1, ts="yesterday")),
    "int too large": orjson.dumps(change(1, 1, after={"c_int": 2**31})),
    "int with fraction": orjson.dumps(change(1, 1, after={"c_int": 1.5})),
    "long as number": orjson.dumps(change(1, 1, after={"c_long": 5})),
    "long too large": orjson.dumps(change(1, 1, after={"c_long": str(2**63)})),
    "long in hexadecimal": orjson.dumps(change(1, 1, after={"c_long": "0x10"})),
    "decimal that 128 bits take for 5": orjson.dumps(change(1, 1, after={"c_decimal": str(2**128 + 500)})),
    "decimal too small for its scale": orjson.dumps(change(1, 1, after={"c_decimal": "5e-30"})),
    "day for a timestamp": orjson.dumps(change(1, 1, after={"c_timestamp": "2024-02-29"})),
    "minutes for a time": orjson.dumps(change(1, 1, after={"c_time": "13:45"})),
    "decimal beyond its scale": orjson.dumps(change(1, 1, after={"c_decimal": "1.234"})),
    "decimal beyond its precision": orjson.dumps(change(1, 1, after={"c_decimal": "12345678901.00"})),
    "date that is none": orjson.dumps(change(1, 1, after={"c_date": "2023-02-29"})),
    "time that is none": orjson.dumps(change(1, 1, after={"c_time": "24:00:01"})),
    "not base64": orjson.dumps(change(1, 1, after={"c_binary": "%%%"})),
    "text is a number": orjson.dumps(change(1, 1, after={"c_string": 1})),
    "boolean is text": orjson.dumps(change(1, 1, after={"c_boolean": "true"})),
    "list is none": orjson.dumps(change(1, 1, after={"c_list": "1"})),
    "element does not fit": orjson.dumps(change(1, 1, after={"c_list": ["x"]})),
    "after is an array": orjson.dumps(change(1, 1, after=None)).replace(b'"after":null', b'"after":[]'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_value_is_named_by_its_index(name: str) -> None:
    """It is poison, its place is known, and nothing of its content is in the message."""
    good = encoded([change(n, n, after=ROW) for n in range(700)])
    values = [*good[:500], BROKEN[name], *good[500:]]

    with pytest.raises(PoisonRecord) as caught:
        ContractReader(spec_of(), rows=frozenset({"after"})).read(values)
    assert isinstance(caught.value, UnreadableChange)
    assert caught.value.index == 500
    assert "patients" not in str(caught.value)


def test_odd_values_do_not_slow_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """One NaN among thousands costs one small block of slow reading."""
    slow: list[int] = []

    def counting(values: Any, *args: Any, **options: Any) -> pa.Table:
        slow.append(len(values))
        return read_rows(values, *args, **options)

    monkeypatch.setattr("connectors.contract.read_rows", counting)
    changes = [change(n, n, after={"c_double": "NaN" if n == 1000 else 1.0}) for n in range(3000)]
    table = read(changes)

    assert 3000 == table.num_rows
    assert [VALUES_SLOW_MAX] == slow


def test_no_values_are_an_empty_table() -> None:
    """With the schema of all others."""
    reader = ContractReader(spec_of(), rows=frozenset({"after"}))

    assert reader.schema == reader.read([]).schema
    assert 0 == reader.read([]).num_rows


def test_the_last_of_two_columns_of_one_name_counts() -> None:
    """As everywhere where JSON is read, and in both ways."""
    value = orjson.dumps(change(1, 1, after={"c_int": 2})).replace(b'{"c_int":2}', b'{"c_int":1,"c_\\u0069nt":2}')
    reader = ContractReader(spec_of(), rows=frozenset({"after"}), columns=["c_int"])
    slow = read_rows([value], reader.rows, reader.schema, first_index=0)

    assert [{"c_int": 2}] == slow.column("after").to_pylist()
    assert [{"c_int": 2}] == reader.read([value]).column("after").to_pylist()


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "two\nlines", "größe in cm", "c0", ""])
def test_a_column_may_have_any_name(name: str) -> None:
    """Also one that no struct of msgspec can have."""
    spec = spec_of({name: "long", "c1": "string"})

    assert [{name: 7, "c1": "x"}] == read([change(1, 1, after={"c1": "x", name: "7"})], spec).column(
        "after"
    ).to_pylist()


@pytest.mark.parametrize("text", [1.5, "NaN"])
def test_only_the_wanted_fields_are_there(text: Any) -> None:
    """In both ways, in the order of `CHANGE_FIELDS`."""
    values = encoded([change(7, 1, after={"c_double": text})])
    reader = ContractReader(spec_of(), rows=frozenset({"after"}), columns=["c_double"], fields=["origin_offset", "op"])

    assert ["op", "origin_offset", "after"] == reader.schema.names
    assert reader.schema == reader.read(values).schema
    assert [("update", 7)] == [(row["op"], row["origin_offset"]) for row in reader.read(values).to_pylist()]


def test_decimals_of_all_their_digits_are_read_by_column() -> None:
    """Sign and point beside 38 digits are no reason to read value by value."""
    spec = spec_of({"whole": "decimal(38,0)", "part": "decimal(38,38)"})
    reader = ContractReader(spec, rows=frozenset({"after"}))
    row = {"whole": "-" + "9" * 38, "part": "-0." + "9" * 38}
    table = reader.read_fast(encoded([change(1, 1, after=row)]))

    assert table is not None
    assert [{name: Decimal(text) for name, text in row.items()}] == table.column("after").to_pylist()
