"""Sequin: the format that was added last, to see what one takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import encode_row
from connectors.formats.sequin import looks_like, table_of
from schemas.batch import Decoded
from tests.unit.formats.event_cases import Record, cases

CASE = cases()["sequin"]


def message(action: str = "insert", record: Any = None, changes: Any = None, **metadata: Any) -> bytes:
    """Return a message."""
    source = {"table_schema": "public", "table_name": "characters", "commit_timestamp": "2023-10-15T14:30:00Z"}
    source |= {"commit_lsn": 7, "commit_idx": 0} | metadata
    return json.dumps({"record": record, "changes": changes, "action": action, "metadata": source}).encode()


def decode(*values: bytes, **spec: Any) -> Decoded:
    """Return what the case's decoder makes of the values."""
    return CASE.decode([Record(offset, value) for offset, value in enumerate(values)], **spec)


def test_messages_are_recognised_and_name_their_table() -> None:
    """Each is complete in itself."""
    documents = [json.loads(record.value or b"") for record in CASE.records]

    assert all(map(looks_like, documents))
    assert {"public.characters"} == set(map(table_of, documents))


def test_before_is_the_row_with_what_changed_laid_back() -> None:
    """Where the spec trusts it; the key that changed is told in any case."""
    batch = decode(message("update", {"id": 2, "name": "b"}, {"id": 1, "name": "a"}), before="full").batch

    assert ["delete", "insert"] == batch.operations
    assert b'{"id":"1","name":"a"}' == encode_row(batch.befores[0])
    assert b'{"id":"2"}' == encode_row(batch.new_keys[0])


def test_what_was_not_sent_is_unavailable_in_a_column_of_any_type() -> None:
    """Text, list and document alike; also in the row before, and in columns that the spec does not name."""
    unsent = {"id": 1, "name": "unchanged_toast", "tags": "unchanged_toast", "meta": "unchanged_toast", "house": "x"}
    batch = decode(message("update", unsent | {"more": "unchanged_toast"}, {"house": "y"}), before="full").batch

    assert ["name", "tags", "meta"] == batch.unavailable[0]
    assert b'{"id":"1","house":"x"}' == encode_row(batch.afters[0])
    assert b'{"id":"1","house":"y"}' == encode_row(batch.befores[0])


def test_rows_of_a_backfill_lose_to_changes_and_stop_nothing() -> None:
    """A backfill may run at any time."""
    decoded = decode(message("insert", {"id": 1}), message("read", {"id": 1}, commit_lsn=None, commit_idx=None))

    assert decoded.stop is None
    assert decoded.batch.positions[1] < decoded.batch.positions[0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (message("upsert", {"id": 1}), "unknown_op"),
        (message("insert"), "no_row"),
        (message("insert", ["unchanged_toast"]), "no_row"),
        (message("delete"), "no_key"),
        (message("insert", {"id": 1}, commit_idx=None), "bad_position"),
        (message("insert", {"id": 1}, commit_lsn=-1), "bad_position"),
        (message("insert", {"id": 1}, commit_timestamp="soon"), "bad_time"),
        (message("insert", {"id": 1}, commit_timestamp=5), "not_a_change"),
        (b'{"action":"insert"}', "not_a_change"),
    ],
)
def test_what_cannot_be_read_is_refused(value: bytes, reason: str) -> None:
    """By a name of the table of reasons."""
    assert [reason] == [bad.error.reason for bad in decode(value).rejected]  # type: ignore[attr-defined]
