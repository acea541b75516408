"""Records that are no change of a row, by name: of every connector, with and without a schema block."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats.inspection import side_kind
from connectors.formats.reasons import Rejection
from tests.unit.formats.captures import runs
from tests.unit.formats.made import compact, envelope
from tests.unit.formats.sources import oracle as of_oracle
from tests.unit.formats.sources import sqlserver


def kind(document: Any) -> str | None:
    """Return the name of a document, after a look that a schema block changes nothing."""
    name = side_kind(compact(document), depth_max=64)

    assert name == side_kind(compact({"schema": {"type": "struct"}, "payload": document}), depth_max=64)
    return name


COUNTS = [{"data_collection": "public.made", "event_count": "2"}]
TABLE_CHANGE = {"type": "CREATE", "id": '"shop"."dbo"."made"', "table": {"columns": []}}
CHANGED = {"source": {"connector": "sqlserver"}, "ts_ms": 1, "databaseName": "shop", "schemaName": "dbo"}
SIDE: list[tuple[str, Any]] = [
    ("heartbeat", {"ts_ms": 1}),
    ("heartbeat", {"ts_ms": 1, "ts_us": 1_000, "ts_ns": 1_000_000}),
    ("transaction", {"status": "BEGIN", "id": "5:1", "ts_ms": 1, "event_count": None, "data_collections": None}),
    ("transaction", {"status": "END", "id": "5:9", "ts_ms": 1, "event_count": "2", "data_collections": COUNTS}),
    ("transaction", {"status": "END", "id": "5:9", "event_count": 2, "data_collections": []}),
    ("transaction", {"status": "BEGIN", "id": "00000027:00000ac0:0007"}),  # where nulls are left out
    ("schema_change", CHANGED | {"ddl": None, "tableChanges": [TABLE_CHANGE]}),
    ("schema_change", CHANGED | {"ddl": "create table t", "tableChanges": []}),
    ("schema_change", CHANGED | {"ddl": "", "tableChanges": [], "position": {}}),  # the connector's own history
    ("schema_change", {"source": {}, "ts_ms": 1, "databaseName": "shop", "ddl": "drop table t"}),
    ("notification", {"id": "a", "type": "COMPLETED", "aggregate_type": "Initial Snapshot", "additional_data": {}}),
    ("notification", {"id": "a", "type": "STARTED", "aggregate_type": "x", "additional_data": {}, "timestamp": 1}),
    ("signal", {"type": "execute-snapshot", "data": {"data-collections": ["public.a"], "type": "INCREMENTAL"}}),
    ("signal", {"id": "a", "type": "snapshot-window-open", "data": "{}"}),
    ("signal", {"type": "an-action-of-ours", "data": {}}),
    ("message", {"op": "m", "source": {"txId": None}, "message": {"prefix": "p", "content": ""}, "ts_ms": 1}),
    ("message", {"op": "m", "source": {"txId": 7}, "message": {"prefix": "p", "content": "Ymc="}, "transaction": None}),
    ("tombstone", None),
]


@pytest.mark.parametrize(("name", "document"), SIDE)
def test_what_is_no_row_has_a_name(name: str, document: Any) -> None:
    """Numbers may be texts, and what is null may be left out."""
    assert name == kind(document)


@pytest.mark.parametrize(
    "document",
    [
        {"id": 1, "type": "invoice", "data": "paid"},
        {"id": 1, "type": 7, "data": None},
        {"id": 1, "status": "open", "ts_ms": 1, "owner": 7},
        {"id": 1, "type": "a", "aggregate_type": "b", "payload": "c"},
        {"ts_ms": 1, "value": 2},
        {"source": "web", "databaseName": "shop", "size": 3},
        [],
        "a",
    ],
)
def test_a_row_that_looks_alike_is_none_of_them(document: Any) -> None:
    """A table may have such columns: all of a kind's fields, and no other, make the kind."""
    assert None is kind(document)


WINDOW = {"id": "5f-open", "type": "snapshot-window-open", "data": "{}"}


@pytest.mark.parametrize(
    "change",
    [
        envelope("c", WINDOW),
        envelope("r", WINDOW | {"type": "execute-snapshot", "data": None}),
        envelope("d", None, before=WINDOW),
        envelope("d", None, before={"id": "5f-open", "type": None, "data": None}),
        envelope("d", None, before={"id": "5f-open", "type": "", "data": ""}),
        envelope("c", {name.upper(): value for name, value in WINDOW.items()}),
    ],
)
def test_a_row_of_the_table_of_signals_is_a_signal(change: Any) -> None:
    """A connector writes watermarks into it, which are captured as any row; Oracle's names are in upper case."""
    assert "signal" == kind(change)


@pytest.mark.parametrize("value", [sqlserver("c", WINDOW), of_oracle("c", WINDOW)])
def test_of_every_connector(value: bytes) -> None:
    """The table is the same everywhere."""
    assert "signal" == side_kind(value, depth_max=64)


@pytest.mark.parametrize(
    "change",
    [
        envelope("c", WINDOW | {"type": "invoice"}),
        envelope("c", WINDOW | {"type": None}),
        envelope("c", WINDOW | {"type": ["log"]}),
        envelope("c", WINDOW | {"more": 1}),
        envelope("d", None, before=None),
        envelope("d", None, before={"id": 1}),
        envelope("t", None),
        envelope(),
    ],
)
def test_a_row_of_another_table_is_no_signal(change: Any) -> None:
    """What no spec reads is told as that, so that nobody loses a table without a word."""
    assert None is kind(change)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "broken_json"),
        (b"{", "broken_json"),
        (b'{"ts_ms":NaN}', "broken_json"),
        (b'{"ts_ms":1,"ts_ms":2}', "duplicate_keys"),
        (b'{"ts_ms":"\xff"}', "not_utf8"),
        (b"[" * 100 + b"]" * 100, "too_deep"),
    ],
)
def test_what_is_no_json_is_refused_on_any_topic(value: bytes, reason: str) -> None:
    """Also where no table reads it."""
    with pytest.raises(Rejection) as caught:
        side_kind(value, depth_max=64)

    assert caught.value.reason == reason


CAPTURED = {
    "mariadb-ddl": {"capmddl": {"schema_change"}},
    "mariadb-incremental-snapshot": {"capminc": {"schema_change"}, "capminc.capminc.sig": {"signal"}},
    "mariadb-transaction-metadata": {"capmtx": {"schema_change"}, "capmtx.transaction": {"transaction"}},
    "pg-avro-twin-json": {"capavroj.transaction": {"transaction"}, "capavroj.message": {"message"}},
    "pg-heartbeat": {"__debezium-heartbeat.caphb": {"heartbeat"}},
    "pg-incremental-snapshot": {"capinc.notifications": {"notification"}, "capinc.public.sig": {"signal"}},
    "pg-logical-message": {"capmsg.transaction": {"transaction"}, "capmsg.message": {"message"}},
    "pg-transactions-interleaved": {"captx.transaction": {"transaction"}},
}


@pytest.mark.parametrize("case", CAPTURED)
def test_all_captured_records_beside_the_tables_have_a_name(case: str) -> None:
    """As connectors really send them."""
    found = {
        topic: {side_kind(value, depth_max=64) for run in runs(case, topic) for value in run.values()}
        for topic in CAPTURED[case]
    }

    assert CAPTURED[case] == found
