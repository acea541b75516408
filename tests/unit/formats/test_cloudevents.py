"""CloudEvents of Debezium: the same changes as its envelopes, whatever form they have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import PartitionMemory, encode_row, format_of
from connectors.formats.cloudevents import attribute, looks_like, table_of
from connectors.formats.inspection import is_block
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.captures import CapturedRun, runs, spec_of, topic_of
from tests.unit.formats.event_cases import Record, Run, cases

CASE = cases()["pg-cloudevents-json public.t"]
BOTH = [
    ("mariadb-binlog-rollover-999999", "capmro2.customers"), ("mariadb-incremental-snapshot", "capminc.big"),
    ("mariadb-json-schemaless", "capm.customers"), ("mariadb-types", "capmty.ty"),
    ("pg-incremental-snapshot", "public.big"), ("pg-json-schemaless", "public.customers"),
    ("pg-json-with-schema", "public.customers"), ("pg-new-slot-new-snapshot", "public.t"),
    ("pg-replica-identity", "public.ri_full"), ("pg-toast", "public.toast_default"),
    ("pg-transactions-interleaved", "public.acct"), ("pg-truncate", "public.parent"),
    ("pg-types-general", "public.gen"),
]  # fmt: skip


def cloud_event(value: bytes | None) -> bytes | None:
    """Return an envelope in the other form, as the converter makes it."""
    if value is None:
        return None
    document = json.loads(value)
    payload = document["payload"] if is_block(document) else document
    data: dict[str, Any] = {"before": payload.get("before"), "after": payload.get("after")}
    if is_block(document):
        data = {"schema": document["schema"], "payload": data}
    texts = {attribute(name): None if field is None else _text(field) for name, field in payload["source"].items()}
    event = {"id": "x", "specversion": "1.0", "datacontenttype": "application/json", "iodebeziumop": payload["op"]}
    return json.dumps(event | texts | {"data": data}, ensure_ascii=False, separators=(",", ":")).encode()


def _text(field: Any) -> str:
    return str(field).lower() if isinstance(field, bool) else str(field)


def decoded_of(case: str, table: str, run: CapturedRun, format_name: str) -> Decoded:
    """Return what a format makes of a run of envelopes, turned into the other form for it."""
    spec = spec_of(case, table, format=format_name)
    decoder = format_of(format_name).decoder(TableEntry(spec=spec), LimitsConfig())
    if format_name == "debezium-json":
        return decoder.decode(run, PartitionMemory())
    turned = [
        Record(offset, cloud_event(value), key, tuple(run.headers(at)))
        for at, (offset, key, value) in enumerate(zip(run.offsets(), run.keys(), run.values(), strict=True))
    ]
    return decoder.decode(Run(turned), PartitionMemory())


def shown(decoded: Decoded) -> dict[str, Any]:
    """Return all that can be compared of what was decoded."""
    batch = decoded.batch
    rows = {
        name: [None if row is None else json.loads(encode_row(row)) for row in getattr(batch, name)]
        for name in ("keys", "old_keys", "new_keys", "afters")
    }
    plain = {
        name: getattr(batch, name) for name in ("offsets", "operations", "positions", "ts", "transactions", "snapshots")
    }
    stop = None if decoded.stop is None else (decoded.stop.reason, decoded.stop_index)
    unavailable = [sorted(names) for names in batch.unavailable]
    refused = [(bad.index, bad.error.reason) for bad in decoded.rejected]  # type: ignore[attr-defined]
    return rows | plain | {"stop": stop, "unavailable": unavailable, "skipped": decoded.skipped, "refused": refused}


@pytest.mark.parametrize(("case", "table"), BOTH)
def test_both_forms_of_a_capture_are_the_same_changes(case: str, table: str) -> None:
    """Rows, keys, positions, what is unavailable, and where the table stops."""
    found = runs(case, topic_of(case, table))
    assert found
    for run in found:
        assert shown(decoded_of(case, table, run, "debezium-json")) == shown(
            decoded_of(case, table, run, "cloudevents")
        )


def event(**changed: Any) -> bytes:
    """Return a captured event, changed as said."""
    return json.dumps(json.loads(CASE.records[1].value or b"") | changed).encode()


def decode(*values: bytes, key: bytes | None = b'{"id":2}', **spec: Any) -> Decoded:
    """Return what the case's decoder makes of the values."""
    return CASE.decode([Record(offset, value, key) for offset, value in enumerate(values)], **spec)


def test_the_capture_is_recognised() -> None:
    """And names its table, connector and prefix."""
    documents = [json.loads(record.value) for record in CASE.records if record.value]
    batch = CASE.decode().batch

    assert all(map(looks_like, documents))
    assert {"public.t"} == set(map(table_of, documents))
    assert ("postgresql", "capce", "public.t") == (batch.connector, batch.source_name, batch.source_table)
    assert ["1353", "1354", "1355", "1356"] == batch.transactions


def test_a_delete_without_a_key_takes_that_of_the_row_before() -> None:
    """As a table with a full image may have it."""
    decoded = decode(event(iodebeziumop="d", data={"before": {"id": 2, "name": "b"}, "after": None}), key=None)

    assert [encode_row(key) for key in decoded.batch.keys] == [b'{"id":2}']


def test_what_is_before_a_delete_is_not_read_where_it_is_not_trusted() -> None:
    """A connector fills it with zeros that may have no form in their type."""
    value = event(iodebeziumop="d", data={"before": {"id": 2, "name": 7}, "after": None})

    assert ["delete"] == decode(value).batch.operations
    assert ["bad_type"] == [bad.error.reason for bad in decode(value, before="full").rejected]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iodebeziumop": "x"}, "unknown_op"),
        ({"iodebeziumop": None}, "unknown_op"),
        ({"iodebeziumconnector": "paper"}, "unknown_connector"),
        ({"iodebeziumconnector": "mysql"}, "unknown_connector"),
        ({"iodebeziumlsn": "x"}, "no_source"),
        ({"iodebeziumsequence": "[x]"}, "bad_position"),
        ({"iodebeziumlsn": None, "iodebeziumsequence": None}, "bad_position"),
        ({"iodebeziumtsus": None, "iodebeziumtsms": None}, "bad_time"),
        ({"data": "AAEC"}, "not_a_change"),
        ({"data": None}, "no_row"),
        ({"data": {"after": [1]}}, "no_row"),
    ],
)
def test_what_cannot_be_read_is_refused_alone(changed: dict[str, Any], reason: str) -> None:
    """By a name of the table of reasons; also where it is said to be a row of a snapshot."""
    for more in ({}, {"iodebeziumsnapshot": "true"}):
        decoded = decode(event(), event(**(changed | more)), event())

        assert [(1, reason)] == [(bad.index, bad.error.reason) for bad in decoded.rejected]  # type: ignore[attr-defined]
        assert [0, 2] == decoded.batch.offsets


def test_what_is_no_change_is_skipped_by_name() -> None:
    """Messages, and what Debezium writes without this form."""
    assert {"message": 1, "heartbeat": 1} == decode(event(iodebeziumop="m"), b'{"ts_ms":1}').skipped
    bare = [bad.error.reason for bad in decode(b'{"specversion":"1.0"}', b'{"a":1}', b"7").rejected]  # type: ignore[attr-defined]
    assert ["no_op", "not_a_change", "not_a_change"] == bare
