"""GoldenGate: what an update leaves out, truncates, and places in the trail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import encode_row
from connectors.formats.goldengate import looks_like, table_of
from schemas.batch import Decoded
from tests.unit.formats.event_cases import Record, cases

CASE = cases()["goldengate"]


def operation(kind: str = "I", **fields: Any) -> bytes:
    """Return an operation."""
    document = {"table": "S.T", "op_type": kind, "op_ts": "2020-05-13 15:40:06.000000", "pos": "00000000000000000143"}
    return json.dumps(document | fields).encode()


def decode(*values: bytes, **spec: Any) -> Decoded:
    """Return what the case's decoder makes of the values."""
    return CASE.decode([Record(offset, value) for offset, value in enumerate(values)], **spec)


def test_what_a_row_does_not_have_is_unavailable() -> None:
    """Unless the spec says that it is null, or absent."""
    value = operation("U", before={"ID": 1, "NAME": "a"}, after={"ID": 1, "NAME": "b"})

    assert sorted(decode(value).batch.unavailable[0]) == ["AT", "NOTE", "WEIGHT"]
    assert decode(value, absent="absent").batch.unavailable == [[]]
    assert json.loads(encode_row(decode(value, absent="null").batch.afters[0]))["NOTE"] is None


def test_a_change_of_a_key_is_a_delete_and_an_insert() -> None:
    """One operation has one place in the trail."""
    batch = decode(operation("U", before={"ID": 1}, after={"ID": 2, "NAME": "b"})).batch

    assert batch.operations == ["delete", "insert"]
    assert (encode_row(batch.keys[0]), encode_row(batch.new_keys[0])) == (b'{"ID":"1"}', b'{"ID":"2"}')
    assert (encode_row(batch.keys[1]), encode_row(batch.old_keys[1])) == (b'{"ID":"2"}', b'{"ID":"1"}')
    assert batch.positions == [f"00001{143:040d}0", f"00001{143:040d}1"]


def test_places_of_more_or_fewer_digits_compare_as_numbers() -> None:
    """Also where the formatter writes a number."""
    row = {"ID": 1}
    batch = decode(
        operation(pos=9, after=row), operation(pos="0010", after=row), operation(pos="1" * 40, after=row)
    ).batch

    assert batch.positions == sorted(set(batch.positions))


def test_a_truncate_stops_the_table() -> None:
    """It has neither image."""
    decoded = decode(operation(after={"ID": 1}), operation("T"))

    assert decoded.stop is not None
    assert (decoded.stop.reason, decoded.stop_index) == ("truncate", 1)


def test_before_and_time() -> None:
    """In microseconds, UTC."""
    value = operation("U", op_ts="2020-05-13T15:40:06.123456", before={"ID": 1, "NAME": "a"}, after={"ID": 1})
    batch = decode(value, before="full").batch

    assert batch.ts == ["2020-05-13T15:40:06.123456Z"]
    assert encode_row(batch.befores[0]) == b'{"ID":"1","NAME":"a"}'


def test_operations_are_recognised() -> None:
    """And name their table with all its parts."""
    document = json.loads(operation())

    assert looks_like(document)
    assert table_of(document) == "S.T"
    assert not looks_like({"table": "a", "op": "c"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (operation("X"), "unknown_op"),
        (operation(), "no_row"),
        (operation("D"), "no_key"),
        (operation(pos=None, after={"ID": 1}), "bad_position"),
        (operation(pos="00/1", after={"ID": 1}), "bad_position"),
        (operation(pos="1" * 41, after={"ID": 1}), "bad_position"),
        (operation(op_ts="yesterday", after={"ID": 1}), "bad_time"),
        (operation("U", before={"NAME": "a"}, after={"NAME": "b"}), "no_key"),
        (operation(after={"ID": 1}, table=None), "not_a_change"),
        (b'{"op_type":"I"}', "not_a_change"),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes, reason: str) -> None:
    """By a name of the table of reasons."""
    assert [bad.error.reason for bad in decode(value).rejected] == [reason]  # type: ignore[attr-defined]
