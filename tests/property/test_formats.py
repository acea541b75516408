"""What holds of every input to a decoder, whatever its bytes are."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import PartitionMemory, encode_row, format_of
from connectors.formats.decimals import bytes_column, bytes_text
from connectors.formats.encodings import ENCODINGS
from connectors.formats.forms import Conversion
from connectors.formats.reasons import Rejection
from connectors.formats.temporal import (
    date_column,
    date_text,
    days_of,
    micros_of,
    timestamp_column,
    timestamp_text,
    zoned_column,
)
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from schemas.types import Kind
from tests.unit.formats.made import GOOD, ROW, MadeRun, compact, envelope, spec, with_row

COLUMNS = (
    "keys",
    "old_keys",
    "new_keys",
    "befores",
    "afters",
    "positions",
    "ts",
    "unavailable",
    "transactions",
    "snapshots",
    "operations",
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good record with some of its bytes changed, cut out or doubled."""
    value = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value) - 1))
        piece = draw(
            st.binary(max_size=4)
            | st.sampled_from([b'"', b"{", b"}", b",", b":", b"[", b"\\", b"null", b"\xff", b"1e400", b"-"])
        )
        value[at : at + draw(st.integers(0, 6))] = piece
    return bytes(value) or b"x"


@st.composite
def misshapen(draw: st.DrawFn) -> bytes:
    """An envelope in which any field of it, of its source or of its row holds anything."""
    made = json.loads(GOOD)
    target = draw(st.sampled_from([made, made["source"], made["after"]]))
    for _ in range(draw(st.integers(1, 3))):
        target[draw(st.sampled_from(sorted(target)) | st.text(max_size=4))] = draw(json_values)
    return compact_any(made)


def compact_any(document: Any) -> bytes:
    """Return JSON in which half surrogates stay escapes."""
    return json.dumps(document, separators=(",", ":")).encode()


values = st.none() | st.binary(max_size=40) | spoiled() | misshapen() | st.just(GOOD) | json_values.map(compact_any)
keys = st.none() | st.binary(max_size=12) | st.just(b'{"id":1}')


def decoded(records: list[tuple[bytes | None, bytes | None]]) -> Decoded:
    """Return what a new decoder makes of records."""
    decoder = format_of("debezium-json").decoder(TableEntry(spec=spec()), LimitsConfig())
    return decoder.decode(MadeRun(records), PartitionMemory())


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(keys, values), max_size=12))
def test_no_bytes_make_a_decoder_raise_and_each_record_is_in_one_place(
    records: list[tuple[bytes | None, bytes | None]],
) -> None:
    """Poison is data: it is rejected, skipped, or stops the table, and what goes through can be written."""
    got = decoded(records)
    end = len(records) if got.stop_index is None else got.stop_index
    batch = got.batch

    assert end == len(batch) + len(got.rejected) + sum(got.skipped.values())
    assert len(set(batch.offsets)) == len(batch)
    assert {len(batch)} == {len(getattr(batch, name)) for name in COLUMNS}
    assert set() == {offset - 100 for offset in batch.offsets} & {rejected.index for rejected in got.rejected}
    assert all(isinstance(json.loads(encode_row(row)), dict) for row in batch.afters if row is not None)
    assert all(position.isdecimal() and len(position) == 45 for position in batch.positions)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(keys, values), max_size=10))
def test_a_record_becomes_the_same_whatever_stands_around_it(records: list[tuple[bytes | None, bytes | None]]) -> None:
    """What a decoder has learned makes it faster, never different: runs may be cut anywhere."""
    together = decoded(records)
    end = len(records) if together.stop_index is None else together.stop_index
    alone = [decoded([record]) for record in records[:end]]

    assert [encode_row(row) for row in together.batch.afters] == [
        encode_row(row) for one in alone for row in one.batch.afters
    ]
    assert [r.error.message for r in together.rejected] == [r.error.message for one in alone for r in one.rejected]


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=30), st.sampled_from(sorted(ROW)), st.booleans())
def test_a_key_named_twice_is_always_seen(text: str, column: str, spaced: bool) -> None:
    """Whatever the texts hold: colons, quotes, JSON; and however the second one is written."""
    clean = with_row(name=text.encode("utf-8", "replace").decode())
    again = json.dumps({column: ROW[column]})[1:-1].replace(": ", " : " if spaced else ":").encode()
    twice = clean.replace(b'"after":{', b'"after":{' + again + b",")
    got = decoded([(b'{"id":1}', value) for value in (GOOD, clean, twice, clean)])

    assert [2] == [rejected.index for rejected in got.rejected]
    assert "duplicate_keys" == got.rejected[0].error.reason  # type: ignore[attr-defined]


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_a_decimal_keeps_every_digit(number: int, scale: int) -> None:
    """From unscaled bytes to text and back; by column as one by one."""
    raw = number.to_bytes(8, "big", signed=True)
    one, many = bytes_text(scale, 15, scale), bytes_column(scale, 15, scale)

    assert many is not None
    assert Decimal(number).scaleb(-scale) == Decimal(one(raw))
    assert [one(raw)] == many([raw])


@given(st.dates(), st.datetimes())
def test_times_are_written_the_same_by_column_and_alone_and_read_back(date: dt.date, moment: dt.datetime) -> None:
    """Two ways to convert must not be two answers."""
    days = date.toordinal() - dt.date(1970, 1, 1).toordinal()
    micros = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)  # noqa: DTZ001 - zoneless on purpose
    text = moment.isoformat(timespec="microseconds")

    assert date.isoformat() == date_text(days) == date_column([days])[0]
    assert text == timestamp_text(micros) == timestamp_column(1)([micros])[0]
    assert (days, micros) == (days_of(date.isoformat()), micros_of(text))
    assert [text + "Z"] == zoned_column([text + "Z"])


@given(st.integers(-(2**70), 2**70))
def test_any_number_is_a_time_or_out_of_range(number: int) -> None:
    """Years beyond 9999 and before 1 have a form with a sign; beyond what PostgreSQL holds there is none."""
    try:
        text = timestamp_text(number)
    except Rejection as exc:
        assert "out_of_range" == exc.reason  # noqa: PT017 - either is right, and this says when
    else:
        assert number == micros_of(text)


@given(st.lists(st.integers(-5, 5), max_size=60))
def test_a_column_with_bad_values_loses_those_only(numbers: list[int]) -> None:
    """The faster way may give up on a whole column; each value is judged alone then."""

    def each(number: int) -> str:
        if number < 0:
            raise Rejection("out_of_range")
        return str(number)

    def column(many: list[int]) -> list[str]:
        return [each(number) for number in many]

    converted, faults = Conversion(each, column).apply(numbers)

    assert {index for index, number in enumerate(numbers) if number < 0} == set(faults)
    assert [str(number) for number in numbers if number >= 0] == [text for text in converted if text is not None]


TYPES = {Kind.DECIMAL: "decimal(20,4)"}
EVERY = {
    f"{encoding} {kind}": {
        "type": TYPES.get(kind, str(kind)),
        "encoding": "connect.Decimal(4)" if "Dec" in encoding else encoding,
    }
    for encoding, kinds in ENCODINGS.items()
    for kind in kinds
}
wire_values = (
    json_values
    | st.integers(-(2**64), 2**64)
    | st.sampled_from(
        [
            "NaN",
            "Infinity",
            "-infinity",
            "NAN",
            "24:00:00Z",
            "+10000-01-01T00:00:00Z",
            "2024-02-29Z",
            "1E+9999999",
            "-0",
        ]
    )
    | st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode())
    | st.builds(
        lambda scale, raw: {"scale": scale, "value": base64.b64encode(raw).decode()},
        st.integers(-(2**31), 2**31),
        st.binary(max_size=9),
    )
    | st.sampled_from([10**4200, -(2**63), 2**63 - 1, 1e300, -1e-300])
)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(EVERY)), st.lists(wire_values, min_size=1, max_size=4))
def test_any_value_in_any_encoding_is_taken_or_refused(name: str, given_values: list[Any]) -> None:
    """No number is too large and no text too odd to be refused in peace, alone or as an element of a list."""
    as_list = {"type": f"list<{EVERY[name]['type']}>", "encoding": EVERY[name]["encoding"]}
    decoder = format_of("debezium-json").decoder(
        TableEntry(spec=spec(columns={"id": "int", "one": EVERY[name], "many": as_list})), LimitsConfig()
    )
    rows = [{"id": 1, "one": value, "many": None} for value in given_values] + [
        {"id": 1, "one": None, "many": given_values}
    ]
    got = decoder.decode(MadeRun([(b'{"id":1}', compact_any(envelope(after=row))) for row in rows]), PartitionMemory())

    assert len(rows) == len(got.batch) + len(got.rejected)
    assert all(json.loads(encode_row(row))["id"] == 1 for row in got.batch.afters)


@given(st.binary(max_size=40))
def test_bytes_go_through_unchanged(raw: bytes) -> None:
    """Base64, its variant for addresses, and hex are one value."""
    columns = {"id": "int", **{name: {"type": "binary", "encoding": name} for name in ("base64", "base64url", "hex")}}
    row = {
        "id": 1,
        "base64": base64.b64encode(raw).decode(),
        "base64url": base64.urlsafe_b64encode(raw).decode(),
        "hex": raw.hex(),
    }
    decoder = format_of("debezium-json").decoder(TableEntry(spec=spec(columns=columns)), LimitsConfig())
    batch = decoder.decode(MadeRun([(b'{"id":1}', compact(envelope(after=row)))]), PartitionMemory()).batch
    got = json.loads(encode_row(batch.afters[0]))

    assert [raw] * 3 == [base64.b64decode(got[name]) for name in ("base64", "base64url", "hex")]
