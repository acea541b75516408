"""Frames: each known form is parted from its payload, and what is none is refused, record by record."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.reasons import Rejection
from connectors.wire import Framing, IdKind, SchemaId, of_headers, part, unframe
from tests.unit.formats.captures import CapturedRun, records, registered

GUID = UUID("89791762-2336-4186-9674-299b90a802e2")
PLAIN = Framing()
CASE = "pg-avro-confluent"


def number(value: int, kind: IdKind = IdKind.NUMBER) -> SchemaId:
    """The id of a number."""
    return SchemaId(kind, value)


@pytest.mark.parametrize(
    ("value", "framing", "expected"),
    [
        (b"\0\0\0\0\x07rest", PLAIN, (number(7), b"rest")),
        (b"\0\xff\xff\xff\xff", PLAIN, (number(2**32 - 1), b"")),
        (b'\0\0\0\0\x07{"op":"c"}', PLAIN, (number(7), b'{"op":"c"}')),
        (b"\0" + bytes(7) + b"\x07rest", Framing(id_size=8), (number(7), b"rest")),
        (b"\x01" + GUID.bytes + b"rest", PLAIN, (SchemaId(IdKind.GUID, str(GUID)), b"rest")),
        (b"\x03\x00" + GUID.bytes + b"rest", PLAIN, (SchemaId(IdKind.GLUE, str(GUID)), b"rest")),
        (b"\x03\x05" + GUID.bytes + zlib.compress(b"rest"), PLAIN, (SchemaId(IdKind.GLUE, str(GUID)), b"rest")),
    ],
)
def test_each_form_of_a_frame_is_known(value: bytes, framing: Framing, expected: tuple[SchemaId, bytes]) -> None:
    """Confluent's two, Apicurio's long one, AWS Glue's two; alone, and in a run of equals."""
    together = unframe([value, value], framing)

    assert expected == part(value, framing)
    assert {expected[0]: [0, 1]} == together.ids
    assert [expected[1]] * 2 == together.payloads


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0",
        b"\0\0\0\x07",
        b"\x01" + GUID.bytes[:15],
        b"\x03",
        b"\x03\x00" + GUID.bytes[:15],
        b"\x03\x04" + GUID.bytes + b"rest",
        b"\x03\x05" + GUID.bytes + b"rest",
        b"\x03\x05" + GUID.bytes + zlib.compress(b"rest")[:-3],
        b"\x03\x05" + GUID.bytes + zlib.compress(b"rest") + b"more",
        b'{"op":"c"}',
        b"\x02rest",
    ],
)
def test_what_is_no_frame_is_refused_and_its_neighbours_are_not(value: bytes) -> None:
    """One record in quarantine, the others parted."""
    good = b"\0\0\0\0\x07rest"

    found = unframe([good, value, None, good], PLAIN)

    assert {1: "bad_framing"} == {index: fault.reason for index, fault in found.faults.items()}
    assert {number(7): [0, 3]} == found.ids
    assert [b"rest", None, None, b"rest"] == found.payloads


def test_a_zip_bomb_is_refused_before_it_is_inflated() -> None:
    """A limit that is a setting; at the limit a value goes through."""
    bomb = b"\x03\x05" + GUID.bytes + zlib.compress(bytes(40_000_000))
    tracemalloc.start()
    with pytest.raises(Rejection) as caught:
        part(bomb, Framing(inflated_bytes_max=1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fitting = b"\x03\x05" + GUID.bytes + zlib.compress(bytes(1_000))

    assert "zip_bomb" == caught.value.reason
    assert peak < 4_000_000
    assert bytes(1_000) == part(fitting, Framing(inflated_bytes_max=1_000))[1]
    with pytest.raises(Rejection, match="zip_bomb"):
        part(fitting, Framing(inflated_bytes_max=999))


@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("__{}_schema_id", b"\x01" + GUID.bytes, SchemaId(IdKind.GUID, str(GUID))),
        ("__{}_schema_id", b"\0\0\0\0\x07", number(7)),
        ("apicurio.{}.globalId", bytes(7) + b"\x07", number(7, IdKind.GLOBAL)),
        ("apicurio.{}.contentId", bytes(7) + b"\x07", number(7, IdKind.CONTENT)),
    ],
)
def test_headers_give_the_id_of_a_key_or_a_value(side: Any, name: str, raw: bytes, expected: SchemaId) -> None:
    """The payload is then all of the value, whatever it begins with; the other side's header says nothing."""
    other: Any = {"key": "value", "value": "key"}[side]
    headers = [("x", b"\0"), (name.format(side), raw), (f"apicurio.{side}.encoding", b"BINARY")]

    found = unframe([b"\0rest"], Framing(ids_in="headers"), side=side, headers=lambda _: headers)

    assert {expected: [0]} == found.ids
    assert [b"\0rest"] == found.payloads
    assert of_headers(headers, other) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\0\0\0\0\x07rest", (number(7), b"rest")),
        (bytes(8) + b"\x07rest", (number(7), b"rest")),
        (bytes(8) + b"\x08rest", (number(0), bytes(3) + b"\x08rest")),  # unknown either way
    ],
)
def test_where_all_numbers_are_known_they_tell_how_long_an_id_is(
    value: bytes, expected: tuple[SchemaId, bytes]
) -> None:
    """Four bytes, if they are one of them; else eight, if those are."""
    assert expected == part(value, Framing(numbers=frozenset({7})))


def test_a_run_may_have_ids_in_headers_and_in_payloads() -> None:
    """As while producers change over: a header, where there is one, is right."""
    headers: list[Any] = [None, [("__value_schema_id", b"\x01" + GUID.bytes)], []]
    values: list[bytes | None] = [b"\0\0\0\0\x07a", b"\0\0\0\0\x07b", b"\0\0\0\0\x08c"]

    found = unframe(values, Framing(ids_in="either"), headers=headers.__getitem__)

    assert [b"a", b"\0\0\0\0\x07b", b"c"] == found.payloads
    assert {number(7): [0], SchemaId(IdKind.GUID, str(GUID)): [1], number(8): [2]} == found.ids


@pytest.mark.parametrize(
    "headers",
    [
        [],
        None,
        [("__value_schema_id", None)],
        [("__value_schema_id", b"\x01" + GUID.bytes + b"\0")],
        [("__value_schema_id", b"\x03\0" + GUID.bytes)],
        [("apicurio.value.globalId", b"7")],
        [("apicurio.value.globalId", bytes(8)), ("apicurio.value.encoding", b"JSON")],
    ],
)
def test_headers_without_an_id_are_refused(headers: Any) -> None:
    """Where ids are to be in headers, a record without one cannot be read."""
    found = unframe([b"rest"], Framing(ids_in="headers"), headers=lambda _: headers)

    assert "bad_framing" == found.faults[0].reason


@given(st.lists(st.none() | st.binary(max_size=25) | st.sampled_from([b"\0\0\0\0\x07a", b"\0\0\0\0\x07b"]), max_size=8))
def test_parting_all_at_once_is_parting_each(values: list[bytes | None]) -> None:
    """The fast way and the slow one agree, and each value is in exactly one place."""
    found = unframe(values, PLAIN)
    each = [unframe([value], PLAIN) for value in values]

    assert [payload for one in each for payload in one.payloads] == found.payloads
    assert [index for index, one in enumerate(each) if one.faults] == sorted(found.faults)
    placed = sorted(index for places in found.ids.values() for index in places)
    assert [index for index, value in enumerate(values) if value is not None and index not in found.faults] == placed


def test_every_captured_record_names_a_schema_of_its_registry() -> None:
    """Keys and values of a real connector; two schemas of one table, for a column was added midway."""
    run = CapturedRun([record for record in records(CASE) if record["topic"].endswith("customers")])

    values, keys = unframe(run.values(), PLAIN), unframe(run.keys(), PLAIN, side="key")

    assert {} == values.faults | keys.faults
    assert {number(2), number(5)} == values.ids.keys()
    assert {number(1)} == keys.ids.keys()
    assert {schema.value for schema in values.ids} < registered(CASE).keys()
