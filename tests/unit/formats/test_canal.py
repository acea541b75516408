"""Canal: several rows in a record, and what is no row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import encode_row
from connectors.formats.canal import looks_like, table_of
from schemas.batch import Decoded
from tests.unit.formats.event_cases import Record, cases

CASE = cases()["canal"]


def message(kind: str = "INSERT", *rows: dict[str, Any] | None, **fields: Any) -> bytes:
    """Return a flat message of rows."""
    document: dict[str, Any] = {"id": 3, "database": "shop", "table": "items", "isDdl": False, "type": kind}
    document |= {"es": 1589373515000, "ts": 1589373515477, "data": list(rows) or None, "old": None}
    return json.dumps(document | fields).encode()


def decode(*values: bytes, **spec: Any) -> Decoded:
    """Return what the case's decoder makes of the values."""
    return CASE.decode([Record(offset, value) for offset, value in enumerate(values)], **spec)


def test_definitions_are_skipped_and_recognised() -> None:
    """They have no rows."""
    documents = [json.loads(record.value or b"") for record in CASE.records]

    assert CASE.decode().skipped == {"schema_change": 2}
    assert all(map(looks_like, documents))
    assert {"shop.items"} == set(map(table_of, documents))


def test_rows_of_one_record_are_changes_of_their_own_in_order() -> None:
    """They share the offset, and their positions rise."""
    batch = decode(message("INSERT", {"id": "1"}, {"id": "2"}, {"id": "3"})).batch

    assert batch.offsets == [0, 0, 0]
    assert [encode_row(key) for key in batch.keys] == [b'{"id":"1"}', b'{"id":"2"}', b'{"id":"3"}']
    assert batch.positions == sorted(set(batch.positions))


def test_a_chain_of_changed_keys_ends_with_the_row_that_moved_last() -> None:
    """The key 3 is given up by one row and taken over by the next, in one event."""
    batch = decode(message("UPDATE", {"id": "4"}, {"id": "3"}, old=[{"id": "3"}, {"id": "2"}])).batch

    assert batch.operations == ["delete", "insert", "delete", "insert"]
    assert batch.positions[0] < batch.positions[3]
    assert [None if row is None else encode_row(row) for row in batch.new_keys] == [
        b'{"id":"4"}',
        None,
        b'{"id":"3"}',
        None,
    ]
    assert [None if row is None else encode_row(row) for row in batch.old_keys] == [
        None,
        b'{"id":"3"}',
        None,
        b'{"id":"2"}',
    ]


def test_before_is_the_row_with_what_changed_laid_back() -> None:
    """Where the spec trusts it."""
    value = message("UPDATE", {"id": "4", "name": "b", "price": "1"}, old=[{"name": None}])

    assert encode_row(decode(value, before="full").batch.befores[0]) == b'{"id":"4","name":null,"price":"1.00"}'
    assert decode(value).batch.befores == [None]


def test_a_bad_row_takes_its_record_with_it() -> None:
    """All rows of a record go out, or none; neighbours pass."""
    decoded = decode(
        message("INSERT", {"id": "1"}), message("INSERT", {"id": "2"}, {"id": "x"}), message("INSERT", {"id": "3"})
    )

    assert [(bad.index, bad.error.reason) for bad in decoded.rejected] == [(1, "bad_type")]  # type: ignore[attr-defined]
    assert decoded.batch.offsets == [0, 2]


def test_an_insert_takes_nothing_from_an_empty_list_of_old_rows() -> None:
    """It has none; all its rows go out."""
    assert len(decode(message("INSERT", {"id": "1"}, {"id": "2"}, old=[])).batch) == 2


def test_a_truncate_stops_the_table() -> None:
    """It is a definition to Canal, but takes rows away."""
    decoded = decode(message("INSERT", {"id": "1"}), message("TRUNCATE", isDdl=True), message("INSERT", {"id": "2"}))

    assert decoded.stop is not None
    assert (decoded.stop.reason, decoded.stop_index, len(decoded.batch)) == ("truncate", 1, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (message("QUERY"), "unknown_op"),
        (message("INSERT"), "no_row"),
        (message("UPDATE", {"id": "1"}, {"id": "2"}, old=[{"id": "3"}]), "no_row"),
        (message("INSERT", {"name": "x"}), "no_key"),
        (message("INSERT", None), "no_row"),
        (message("DELETE", None), "no_key"),
        (message("INSERT", {"id": "1"}, es="now"), "not_a_change"),
        (message("INSERT", {"id": "1"}, es=-1), "bad_position"),
        (b'{"type":"INSERT"}', "not_a_change"),
        (b"[]", "not_a_change"),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes, reason: str) -> None:
    """By a name of the table of reasons."""
    assert [bad.error.reason for bad in decode(value).rejected] == [reason]  # type: ignore[attr-defined]
