"""Qlik Replicate: full loads, changes of keys, and messages about structure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import encode_row
from connectors.formats.qlik import looks_like, table_of
from schemas.batch import Decoded
from tests.unit.formats.event_cases import Record, cases

CASE = cases()["qlik"]


def message(
    kind: str, data: Any = None, before: Any = None, *, at: str = "20230911032325000000000000000000005", **headers: Any
) -> bytes:
    """Return a message of one row."""
    head = {"operation": kind, "changeSequence": at, "timestamp": "2023-09-11T03:23:25.000", "transactionId": "7"}
    body = {"data": data, "beforeData": before, "headers": head | headers}
    return json.dumps({"magic": "atMSG", "type": "DT", "headers": None, "message": body}).encode()


def decode(*values: bytes, **spec: Any) -> Decoded:
    """Return what the case's decoder makes of the values."""
    return CASE.decode([Record(offset, value) for offset, value in enumerate(values)], **spec)


def test_rows_of_a_full_load_lose_to_changes() -> None:
    """They have no sequence."""
    batch = CASE.decode().batch

    assert batch.snapshots[:4] == [True, True, True, False]
    assert max(batch.positions[:3]) < min(batch.positions[3:])


def test_a_full_load_after_changes_stops_the_table() -> None:
    """What was deleted in between is in neither."""
    decoded = decode(message("INSERT", {"ID": "1"}), message("REFRESH", {"ID": "2"}, at=""))

    assert decoded.stop is not None
    assert (decoded.stop.reason, decoded.stop_index) == ("source_read_anew", 1)


def test_a_change_of_a_key_is_a_delete_and_an_insert() -> None:
    """Both with the other key."""
    batch = decode(message("UPDATE", {"ID": "2", "NAME": "a"}, {"ID": "1", "NAME": "a"})).batch

    assert batch.operations == ["delete", "insert"]
    assert (encode_row(batch.keys[0]), encode_row(batch.new_keys[0])) == (b'{"ID":1}', b'{"ID":2}')
    assert (encode_row(batch.keys[1]), encode_row(batch.old_keys[1])) == (b'{"ID":2}', b'{"ID":1}')
    assert batch.transactions == ["7", "7"]


def test_the_row_of_a_delete_may_stand_on_either_side() -> None:
    """It is in `data` as documented; a transformation may have moved it."""
    batch = decode(message("DELETE", {"ID": "1"}), message("DELETE", None, {"ID": "2"})).batch

    assert [encode_row(key) for key in batch.keys] == [b'{"ID":1}', b'{"ID":2}']


def test_messages_are_recognised_and_only_those_of_structure_name_their_table() -> None:
    """Replicate leaves the table's name out of changes."""
    documents = [json.loads(record.value or b"") for record in CASE.records]

    assert all(map(looks_like, documents))
    assert ["shop.orders", None] == [table_of(document) for document in documents[:2]]
    assert {"schema_change": 1} == CASE.decode().skipped


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (message("BEFOREIMAGE", {"ID": "1"}), "unknown_op"),
        (message("INSERT"), "no_row"),
        (message("DELETE"), "no_key"),
        (message("INSERT", {"ID": "1"}, at=""), "bad_position"),
        (message("INSERT", {"ID": "1"}, at="2023-1"), "bad_position"),
        (message("INSERT", {"ID": "1"}, timestamp=""), "bad_time"),
        (message("INSERT", {"ID": "1"}, timestamp="soon"), "bad_time"),
        (message("INSERT", {"ID": "1"}, transactionId=7), "not_a_change"),
        (b'{"magic":"atMSG","type":"DT","message":[]}', "not_a_change"),
        (b'{"magic":"other"}', "not_a_change"),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes, reason: str) -> None:
    """By a name of the table of reasons."""
    assert [bad.error.reason for bad in decode(value).rejected] == [reason]  # type: ignore[attr-defined]
