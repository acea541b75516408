"""What a connector is told for a backfill, and what its notifications say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headgate.cli.tables_backfill import _line
from schemas.errors import ConfigurationError, PoisonRecord
from schemas.table import TableSpec
from streams.backfill import WHERE_CHARACTERS_MAX, Notice, collection_of, read_notice, start_signal, stop_signal
from tests.unit.formats.captures import records


def _spec(signals: dict[str, Any] | None, **more: Any) -> TableSpec:
    document = {"table": "patients", "topics": ["pg.public.patients"], "columns": {"id": "long"}, **more}
    return TableSpec.model_validate(document | ({} if signals is None else {"signals": signals}))


SIGNALS = {"server": "pg", "topic": "signals"}


def test_a_signal_names_the_table_as_its_connector_does() -> None:
    """And its condition, where only some rows are wanted."""
    signal = start_signal(_spec(SIGNALS), "id > 5", blocking=False)

    wanted = {
        "data-collections": ["public.patients"],
        "type": "INCREMENTAL",
        "additional-conditions": [{"data-collection": "public.patients", "filter": "id > 5"}],
    }
    assert ("execute-snapshot", wanted) == (signal.type, json.loads(signal.data))
    assert "BLOCKING" == json.loads(start_signal(_spec(SIGNALS), None, blocking=True).data)["type"]
    assert "stop-snapshot" == stop_signal(_spec(SIGNALS)).type
    assert signal.id != start_signal(_spec(SIGNALS), None, blocking=False).id


@pytest.mark.parametrize(
    ("called", "more", "collection"),
    [
        ({}, {}, "public.patients"),
        ({}, {"source_table": "clinic.patients"}, "clinic.patients"),
        ({"collection": "public.p"}, {"topics": ["^pg.*"]}, "public.p"),
    ],
)
def test_what_the_connector_calls_a_table_is_said_or_told_by_its_topic(
    called: dict[str, Any], more: dict[str, Any], collection: str
) -> None:
    """`signals.collection` goes over all."""
    assert collection == collection_of(_spec(SIGNALS | called, **more))


@pytest.mark.parametrize(
    "spec", [_spec(None), _spec(SIGNALS, topics=["^pg.*"]), _spec(SIGNALS, topics=["other.patients"])]
)
def test_a_spec_that_does_not_say_enough_is_refused(spec: TableSpec) -> None:
    """With what to write."""
    with pytest.raises(ConfigurationError) as refused:
        start_signal(spec, None, blocking=False)

    assert "signals" in refused.value.hint


@pytest.mark.parametrize("where", ["", "x" * (WHERE_CHARACTERS_MAX + 1)])
def test_a_condition_has_a_limit(where: str) -> None:
    """An empty one would be the whole table."""
    with pytest.raises(ConfigurationError, match="characters"):
        start_signal(_spec(SIGNALS), where, blocking=False)


def test_a_connector_that_cannot_be_told_is_refused() -> None:
    """Neither a topic nor a table of signals is named."""
    with pytest.raises(ValueError, match="name the topic or the table"):
        _spec({"server": "pg"})


def test_a_spec_without_signals_is_written_as_older_releases_read_it() -> None:
    """They refuse a key that they do not know."""
    assert "signals" not in _spec(None).model_dump(mode="json")
    assert _spec(SIGNALS) == TableSpec.model_validate_json(_spec(SIGNALS).model_dump_json())


def test_real_notifications_say_how_far_a_snapshot_is() -> None:
    """Of three incremental ones, one of which named no table that is there, and a blocking one."""
    said = [read_notice(run) for run in _values("capinc.notifications")]

    notices = [notice for notice in said if notice is not None]
    assert len(said) == len(notices) == 25
    first = [notice for notice in notices if notice.id == "snap-1"]
    assert (["STARTED", "DATA_COLLECTIONS_RESOLVED", *["IN_PROGRESS"] * 6, "TABLE_SCAN_COMPLETED", "COMPLETED"]) == [
        notice.status for notice in first
    ]
    assert [(number, 6) for number in range(1, 7)] == [(each.chunk, each.chunks) for each in first[2:8]]
    assert (120, 120, "SUCCEEDED", "public.big") == (
        (scanned := first[-2]).rows, scanned.rows_total, scanned.outcome, scanned.collection
    )  # fmt: skip
    assert ["UNKNOWN_SCHEMA"] == [each.outcome for each in notices if each.id == "snap-4" and each.outcome]


def _values(topic: str) -> list[bytes]:
    found = [record for record in records("pg-incremental-snapshot") if record["topic"] == topic]
    return [base64.b64decode(record["value"]) for record in found]


def test_a_notification_behind_a_schema_block_is_read_as_well() -> None:
    """A converter with schemas wraps it."""
    (first, *_) = _values("capinc.notifications")

    assert read_notice(first) == read_notice(b'{"schema":{"type":"struct"},"payload":' + first + b"}")


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"\xff", b'{"id":1,"type":"a","aggregate_type":"b"}'])
def test_what_is_no_notification_is_passed_over(value: bytes | None) -> None:
    """Somebody else may write to the topic."""
    assert read_notice(value) is None


def test_a_figure_that_is_none_is_said() -> None:
    """Without its text, which could be a value."""
    value = b'{"id":"a","type":"IN_PROGRESS","aggregate_type":"b","additional_data":{"total_rows":"secret"}}'

    with pytest.raises(PoisonRecord, match="total_rows") as caught:
        read_notice(value)

    assert "secret" not in caught.value.message


def test_a_line_says_figures_and_never_a_key() -> None:
    """Keys of rows stand in the notifications, too."""
    notice = Notice("a", "Incremental Snapshot", "IN_PROGRESS", rows_total=1200, chunk=2, chunks=6)

    assert "in progress, chunk 2 of 6, about 1,200 rows" == _line(notice)
    assert not {name for name in Notice.__struct_fields__ if "key" in name}
