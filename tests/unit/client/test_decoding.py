"""Records of an output topic as a subscriber is given them."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from headgate.client.decoding import EventDecoder
from headgate.client.errors import ContractMismatch
from headgate.client.events import Change, Floor, Origin, Tombstone
from schemas.change import HEADER_REPLAY, HEADER_SCHEMA_VERSION
from tests.unit.contracts.made import OUTPUT, ROW, contract, typed
from tests.unit.lake.changes import TOPIC

CANARY = "canary-4711"


@dataclass(frozen=True)
class Stored:
    """A record as a consumer has it."""

    data: bytes | None
    its_key: bytes | None = None
    its_headers: list[tuple[str, bytes | None]] = field(default_factory=list)

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.data

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.its_headers or None

    def topic(self) -> str:
        return OUTPUT

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 4711


def decode(value: Any, *headers: tuple[str, bytes | None], key: bytes | None = None) -> Any:
    """Return what a record with this value is."""
    data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return EventDecoder(contract()).decode(Stored(data, key, list(headers)))


def test_a_change_is_typed_and_says_where_it_stands() -> None:
    """With its place in the source, and on the output topic."""
    change = decode(typed(unavailable=["note"]), (HEADER_SCHEMA_VERSION, b"3"))

    assert isinstance(change, Change)
    assert ("update", {"c_long": 2**63 - 1}, ("note",)) == (change.op, change.key, change.unavailable)
    assert dt.datetime(2026, 11, 20, 19, 45, 57, 123456, tzinfo=dt.UTC) == change.ts
    assert (Origin(TOPIC, 0, 0, 7), 6, 1, None) == (change.origin, change.previous, change.rows, change.first_origin)
    assert (2, 4711, 3, False) == (change.partition, change.offset, change.schema_version, change.replay)


def test_headers_of_others_are_passed_over() -> None:
    """CloudEvents', and whatever a tool that copies topics adds; ours without a sensible value, too."""
    cloud = [("ce_specversion", b"1.0"), ("ce_id", b"x"), ("content-type", b"application/json"), ("ce_time", None)]
    change = decode(typed(), *cloud, (HEADER_REPLAY, b"true"), (HEADER_SCHEMA_VERSION, b"three"))

    assert (True, None) == (change.replay, change.schema_version)
    assert decode(typed(), (HEADER_SCHEMA_VERSION, None)).schema_version is None


def test_one_change_of_several_of_a_record_says_which() -> None:
    """And where a redriven one was read at first."""
    source = {"origin": ["s", 1, 2, 3, 1], "previous": 3, "first_origin": ["t", 0, 0, 9], "rows": 2}
    change = decode(typed(source=source))

    assert (Origin("s", 1, 2, 3, 1), Origin("t", 0, 0, 9), 2) == (change.origin, change.first_origin, change.rows)


def test_floors_and_tombstones_are_given_as_what_they_are() -> None:
    """A floor has no row, a tombstone has only its key."""
    floor = decode(typed(op="floor", key=None, after=None, position="0002"))
    tombstone = decode(None, key=b'{"c_long":"5"}')

    assert isinstance(floor, Floor)
    assert ("0002", 2, 4711) == (floor.position, floor.partition, floor.offset)
    assert Tombstone(key={"c_long": 5}, partition=2, offset=4711) == tombstone
    assert Tombstone(key=None, partition=2, offset=4711) == decode(None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00\x00\x00\x00\x07avro",
        b"[]",
        b"{}",
        b'{"op":"' + CANARY.encode(),
        b"[" * 100_000,
        {**typed(), "ts": CANARY},
        {**typed(), "unavailable": CANARY},
        {**typed(), "after": CANARY},
        typed(after={**ROW, "c_int": CANARY}),
        typed(key={"c_long": CANARY}),
        typed(source={"origin": ["s", 0, 0]}),
        typed(source={"origin": ["s", 0, 0, CANARY]}),
        typed(source={"origin": [0, 0, 0, 0]}),
        typed(source={"origin": ["s", 0, 0, -1]}),
        typed(source={"origin": ["s", 0, 0, 2**63]}),
        typed(source={"origin": ["s", 0, 0, 1, 2], "rows": 2}),
        typed(source={"previous": CANARY}),
    ],
)
def test_what_is_no_change_of_the_contract_is_refused(value: Any) -> None:
    """By where it stands; no error has a piece of it."""
    with pytest.raises(ContractMismatch) as caught:
        decode(value)

    assert f"{OUTPUT} partition 2 offset 4711" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_change_of_a_newer_version_asks_for_the_newer_contract() -> None:
    """The column became what the contract of before does not say."""
    with pytest.raises(ContractMismatch) as caught:
        decode(typed(after={**ROW, "c_int": "five"}), (HEADER_SCHEMA_VERSION, b"4"))

    assert "column c_int does not fit int" in caught.value.message
    assert "of version 4, the contract of 3" in caught.value.hint


def test_a_tombstone_with_a_broken_key_is_refused() -> None:
    """As any other record that is none of ours."""
    with pytest.raises(ContractMismatch):
        decode(None, key=b"\xff")
