"""Formats that say their changes as events: typed rows, keys from rows, and one place for each record."""

from __future__ import annotations

import json
from typing import Any, Literal, cast

import msgspec

from connectors.formats.base import PartitionMemory, Records, encode_row
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.raw_rows import RawRows
from connectors.formats.reasons import Rejection
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec

COLUMNS = {
    "id": "int", "n": "long", "s": "string", "d": "decimal(10,2)", "b": "boolean", "at": "timestamptz", "day": "date",
    "f": "double", "j": "json", "u": "uuid", "l": "list<string>", "z": "timestamp", "bin": "binary",
}  # fmt: skip
ROW: dict[str, Any] = {
    "id": 1, "n": 123, "s": "a:b", "d": 1.5, "b": True, "at": "2020-01-01T10:00:00Z", "day": "2020-01-01", "f": 1.5,
    "j": {"a": [1]}, "u": "b68a35a7-17ad-35b3-af2a-ae46edb4545a", "l": ["a", None], "z": "2020-01-01 10:00:00.5",
    "bin": "AAEC",
}  # fmt: skip


class _Toy(msgspec.Struct):
    op: Literal["c", "u", "d", "r", "t"]
    row: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    at: int | msgspec.UnsetType = msgspec.UNSET


class _Unwrapper:
    """A format of this test's own: `op`, `row`, and the position as a number."""

    def __init__(self, _entry: TableEntry, limits: LimitsConfig) -> None:
        self._envelopes = Envelopes(_Toy, limits, self._judge)

    @staticmethod
    def _judge(document: Any) -> str:
        if document == "beat":
            return "heartbeat"
        raise Rejection("not_a_change", "no toy")

    def unwrap(self, records: Records) -> Events:
        events = Events(connector="toy", source_name="shop", source_table="public.toys")
        for index, toy in self._envelopes.read(records.values(), events):
            row = None if toy.row is msgspec.UNSET or bytes(toy.row) == b"null" else toy.row
            at = toy.at or 0
            side: dict[str, Any] = {"before": row} if toy.op == "d" else {"after": row}
            place = events.add(index, toy.op, f"{at:04d}", at, snapshot=toy.op == "r", **side)
            if toy.op == "r":
                events.initial.add(place)
        return events


class _Run:
    topic, partition = "toys", 0

    def __init__(self, values: list[bytes | None]) -> None:
        self._values = values

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        return [None] * len(self._values)

    def offsets(self) -> list[int]:
        return list(range(100, 100 + len(self._values)))

    def time_ms(self, _index: int, /) -> int:
        return -1

    def headers(self, _index: int, /) -> None:
        return None


def toy(op: str = "c", at: int = 1, **changed: Any) -> bytes:
    """Return a record whose row differs from the ordinary one as said."""
    return json.dumps({"op": op, "row": ROW | changed, "at": at}).encode()


def decode(*values: bytes | None, **spec: Any) -> Decoded:
    """Return what a decoder makes of the values."""
    table = TableSpec(table="toys", topics=["toys"], key=["id"], columns=COLUMNS, **spec)  # type: ignore[arg-type]  # pydantic reads types
    decoder = EventFormat("toy", _Unwrapper).decoder(TableEntry(spec=table), LimitsConfig())
    return decoder.decode(_Run(list(values)), PartitionMemory())


def after(decoded: Decoded, place: int = 0) -> dict[str, Any]:
    """Return a row as the contract has it."""
    found: dict[str, Any] = json.loads(encode_row(decoded.batch.afters[place]))
    return found


def test_each_type_has_the_form_of_the_contract() -> None:
    """As in schemas/types.py, whatever JSON the tool wrote."""
    found = after(decode(toy()))

    assert found == ROW | {
        "n": "123", "d": "1.50", "at": "2020-01-01T10:00:00.000000Z", "z": "2020-01-01T10:00:00.500000",
        "j": '{"a": [1]}',
    }  # fmt: skip


def test_numbers_may_be_texts_and_texts_numbers() -> None:
    """Tools differ, and one tool differs from version to version."""
    found = after(decode(toy(n="9007199254740993", d="12.50", s=12, b=1, f="2.5")))

    assert (found["n"], found["d"], found["s"], found["b"], found["f"]) == (
        "9007199254740993",
        "12.50",
        "12",
        True,
        2.5,
    )


def test_a_large_integer_with_an_exponent_keeps_all_its_digits() -> None:
    """AWS DMS writes integers of more than 16 digits so."""
    value = toy().replace(b'"n": 123', b'"n": 1.234567890123456789E+18')

    assert after(decode(value))["n"] == "1234567890123456789"


def test_an_absent_column_is_what_the_spec_says() -> None:
    """Null and absent are not the same, and only people know what their tool means."""
    bare = b'{"op":"c","row":{"id":5},"at":5}'

    assert after(decode(bare)) == {"id": 5}
    assert after(decode(bare, absent="null")) == {"id": 5} | {name: None for name in COLUMNS if name != "id"}
    unavailable = decode(bare, absent="unavailable")
    assert after(unavailable) == {"id": 5}
    assert sorted(unavailable.batch.unavailable[0]) == sorted(COLUMNS.keys() - {"id"})


def test_the_key_of_a_delete_is_that_of_the_row_before() -> None:
    """A delete has no other row."""
    decoded = decode(b'{"op":"d","row":{"id":7},"at":5}')

    assert encode_row(decoded.batch.keys[0]) == b'{"id":7}'
    assert decoded.batch.operations == ["delete"]
    assert decoded.batch.afters == [None]


def test_each_bad_record_is_rejected_by_itself() -> None:
    """Its neighbours are as if it were not there."""
    bad = {
        "broken_json": b"xx",
        "not_utf8": b"\xff\xfe{}",
        "duplicate_keys": b'{"op":"c","row":{"id":5,"id":6},"at":5}',
        "no_key": b'{"op":"c","row":{"n":5},"at":5}',
        "out_of_range": toy(d="1.234"),
        "bad_type": toy(d="1_0"),
        "not_a_change": b'{"op":"x"}',
        "no_row": b'{"op":"c"}',
    }
    values = [value for one in bad.values() for value in (toy(), one)]
    decoded = decode(*values)

    assert [rejected.error.reason for rejected in decoded.rejected] == list(bad)  # type: ignore[attr-defined]
    assert [rejected.index for rejected in decoded.rejected] == list(range(1, 2 * len(bad), 2))
    assert decoded.batch.offsets == list(range(100, 100 + 2 * len(bad), 2))
    assert all(after(decoded, place)["n"] == "123" for place in range(len(bad)))


def test_unknown_columns_are_named_and_pass_or_go_to_quarantine() -> None:
    """Also in the middle of a run, where rows before it are typed already."""
    decoded = decode(toy(), toy(more=1, other="x:y"), toy())

    assert decoded.unknown_columns == {"more", "other"}
    assert [after(decoded, place) for place in range(3)] == [after(decode(toy()))] * 3
    assert [r.index for r in decode(toy(), toy(more=1), unknown_columns="quarantine").rejected] == [1]


def test_an_unknown_column_whose_name_cannot_be_read_refuses_its_row_alone() -> None:
    """And the names that were learned before stay."""
    decoded = decode(toy(more=1), toy(**cast("Any", {"a\x1f": 1})), toy(more=2))

    assert [(bad.index, bad.error.reason) for bad in decoded.rejected] == [(1, "bad_schema")]  # type: ignore[attr-defined]
    assert decoded.batch.offsets == [100, 102]
    assert decoded.unknown_columns == {"more"}


def test_however_many_columns_are_ignored_no_row_is_refused_for_them() -> None:
    """Beyond a thousand names rows are looked at in full: a name that stands twice is found, and a bad value told."""

    def wide(number: int, value: Any) -> bytes:
        return toy(**{f"m{number}_{i}": value for i in range(50)})

    many = [wide(n, n) for n in range(22)]
    twice, bad = toy(more=1).replace(b'"more"', b'"id": 1, "more"'), toy(more=1, n="many")

    decoded = decode(*many, twice, bad, toy(more=1))

    assert [(22, "duplicate_keys"), (23, "bad_type")] == [(each.index, each.error.reason) for each in decoded.rejected]  # type: ignore[attr-defined]
    assert [100 + n for n in (*range(22), 24)] == decoded.batch.offsets
    assert [after(decode(toy()))] * 23 == [after(decoded, place) for place in range(23)]
    assert {"more", *(f"m{n}_{i}" for n in range(22) for i in range(50))} == decoded.unknown_columns
    assert 2 == len(decode(*(wide(n, None) for n in range(22)), unknown_columns="add").rejected)


def test_half_a_surrogate_pair_in_the_name_of_a_column_refuses_its_row_alone() -> None:
    """Also where the columns of the record would be taken up, or refused by their names; nobody is told such a name."""
    raws = [msgspec.Raw(b'{"id":1}'), msgspec.Raw(b'{"id":2,"\\ud800":1}')]
    for unknown_columns in ("ignore", "add", "quarantine"):
        table = TableSpec(table="t", topics=["t"], key=["id"], columns=COLUMNS, unknown_columns=unknown_columns)  # type: ignore[arg-type]
        read = RawRows(table, LimitsConfig(), "plain").read(raws)

        assert {1: "broken_json"} == {index: fault.reason for index, fault in read.faults.items()}
        assert set() == read.unknown


def test_what_is_no_change_is_counted_by_name() -> None:
    """A tombstone, and what the format itself knows."""
    assert decode(b'"beat"', None, toy()).skipped == {"heartbeat": 1, "tombstone": 1}


def test_a_load_that_begins_again_after_changes_stops_the_table() -> None:
    """Rows that were deleted in between are in neither."""
    decoded = decode(toy("r"), toy("c", 2), toy("r", 3, id=4), toy("c", 4))

    assert decoded.stop is not None
    assert (decoded.stop.reason, decoded.stop_index, decoded.batch.offsets) == ("source_read_anew", 2, [100, 101])


def test_a_truncate_stops_the_table() -> None:
    """What stands before it goes out."""
    decoded = decode(toy(), b'{"op":"t"}', toy())

    assert decoded.stop is not None
    assert (decoded.stop.reason, decoded.stop_index, len(decoded.batch)) == ("truncate", 1, 1)
