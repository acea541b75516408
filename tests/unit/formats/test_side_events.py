"""What is no row in a table's topic: ignored, kept in quarantine, or what the table stops at, as its spec says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.batch import Decoded
from tests.unit.formats import test_canal as canal
from tests.unit.formats import test_dms as dms
from tests.unit.formats import test_maxwell as maxwell
from tests.unit.formats.envelopes import decode as decode_values
from tests.unit.formats.made import compact, decode, envelope
from tests.workloads.dms_topic import control_record

Decode = Callable[..., Decoded]
GOOD = compact(envelope("c"))
CHANGED = {
    "source": {"connector": "mysql"},
    "ts_ms": 1,
    "databaseName": "shop",
    "ddl": "alter table t",
    "tableChanges": [],
}
MESSAGE = {"op": "m", "source": {"txId": 7}, "message": {"prefix": "p", "content": "Ymc="}, "ts_ms": 1}


def of_debezium(**spec: Any) -> Decoded:
    """Decode two inserts of Debezium around a change of the schema."""
    return decode(GOOD, compact(CHANGED), GOOD, **spec)


def of_maxwell(**spec: Any) -> Decoded:
    """Decode two inserts of Maxwell around one."""
    altered = maxwell.change("table-alter", sql="alter table t", **{"def": {}, "old": {}})
    return maxwell.decode(maxwell.change(), altered, maxwell.change(), **spec)


def of_canal(**spec: Any) -> Decoded:
    """Decode two inserts of Canal around one."""
    rows = [canal.message("INSERT", {"id": number}) for number in ("1", "2")]
    return canal.decode(rows[0], canal.message("ALTER", isDdl=True, sql="alter table t"), rows[1], **spec)


def of_dms(**spec: Any) -> Decoded:
    """Decode two inserts of DMS around one."""
    values: list[bytes | None] = [dms.record(), control_record("invoices"), dms.record()]
    return decode_values(dms.INVOICES.model_copy(update=spec), values)


FORMATS = {"debezium-json": of_debezium, "maxwell": of_maxwell, "canal": of_canal, "dms": of_dms}
each_format = pytest.mark.parametrize("decode_with", FORMATS.values(), ids=FORMATS)


@each_format
def test_where_nothing_is_said_a_change_of_the_schema_is_counted(decode_with: Decode) -> None:
    """Its neighbours go out."""
    decoded = decode_with()

    assert (None, []) == (decoded.stop, decoded.rejected)
    assert (2, 1) == (len(decoded.batch), decoded.skipped["schema_change"])


@each_format
def test_where_it_is_kept_it_goes_to_quarantine_and_its_neighbours_go_out(decode_with: Decode) -> None:
    """It is not counted as skipped as well."""
    decoded = decode_with(schema_changes="quarantine")

    assert [(1, "schema_change")] == [(each.index, each.error.reason) for each in decoded.rejected]  # type: ignore[attr-defined]
    assert (None, 2, {}) == (decoded.stop, len(decoded.batch), dict(decoded.skipped))


@each_format
def test_where_it_stops_the_table_nothing_behind_it_goes_out(decode_with: Decode) -> None:
    """The table says what to write to go on."""
    decoded = decode_with(schema_changes="pause")

    assert decoded.stop is not None
    assert (1, "schema_change") == (decoded.stop_index, decoded.stop.reason)
    assert "`schema_changes: ignore`" in decoded.stop.hint
    assert (1, [], {}) == (len(decoded.batch), decoded.rejected, dict(decoded.skipped))


@pytest.mark.parametrize(
    ("policy", "seen"),
    [("ignore", (2, [], {"message": 1}, None)), ("quarantine", (2, ["message"], {}, None)), ("pause", (1, [], {}, 1))],
)
def test_a_message_has_a_policy_of_its_own(policy: str, seen: tuple[Any, ...]) -> None:
    """That of changes of the schema says nothing of it."""
    decoded = decode(GOOD, compact(MESSAGE), GOOD, messages=policy, schema_changes="quarantine")
    reasons = [each.error.reason for each in decoded.rejected]  # type: ignore[attr-defined]

    assert seen == (len(decoded.batch), reasons, dict(decoded.skipped), decoded.stop_index)


def test_the_first_of_two_stops_is_the_tables() -> None:
    """A truncate behind a message waits for its turn; what stands behind a stop is not kept either."""
    truncate = compact(envelope("t", None))

    late = decode(GOOD, compact(MESSAGE), truncate, messages="pause")
    early = decode(GOOD, truncate, compact(MESSAGE), compact(CHANGED), messages="pause", schema_changes="quarantine")

    assert ("message", 1) == (late.stop.reason, late.stop_index) if late.stop else False
    assert ("truncate", 1, []) == (early.stop.reason, early.stop_index, early.rejected) if early.stop else False
