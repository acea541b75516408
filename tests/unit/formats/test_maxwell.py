"""Maxwell: what the captures hold beside rows, and what they do not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from connectors.formats import PartitionMemory, encode_row, format_of
from connectors.formats.maxwell import looks_like, table_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.captures import CapturedRun, records
from tests.unit.formats.event_cases import TYPES, Record, Run, cases

CUSTOMERS = cases()["maxwell-stdout-all shop.customers"]


def change(kind: str = "insert", **fields: Any) -> bytes:
    """Return a record of one row."""
    document: dict[str, Any] = {"database": "shop", "table": "customers", "type": kind, "ts": 1795220884, "xid": 7}
    return json.dumps(
        document | {"position": "mysql-bin.000004:10", "data": {"id": 1, "name": "Ada"}} | fields
    ).encode()


def decode(*values: bytes, **spec: Any) -> Decoded:
    """Return what the customers' decoder makes of the values."""
    return CUSTOMERS.decode([Record(offset, value) for offset, value in enumerate(values)], **spec)


def test_all_types_of_records_are_known() -> None:
    """Rows, definitions, and both ends of a bootstrap."""
    run = CapturedRun(records("maxwell-stdout-all"))
    documents = [json.loads(value) for value in run.values() if value is not None]

    assert all(map(looks_like, documents))
    assert Counter(map(table_of, documents)) == {
        "shop.customers": 17, "shop.items": 16, "shop.nopk": 6, "shop.ty": 5, "shop.nopk2": 1, None: 1,
    }  # fmt: skip
    assert CUSTOMERS.decode().skipped == {"schema_change": 5}
    assert cases()["maxwell-bootstrap shop.customers"].decode().skipped == {"notification": 2}


def test_a_change_of_a_key_is_a_delete_and_an_insert() -> None:
    """One update of Maxwell's: both carry the other key, and the insert the whole row."""
    batch = CUSTOMERS.decode().batch
    at = [place for place in range(len(batch)) if batch.old_keys[place] or batch.new_keys[place]]
    first, second = at

    assert [batch.operations[place] for place in at] == ["delete", "insert"]
    assert batch.offsets[first] == batch.offsets[second]
    assert [encode_row(batch.keys[place]) for place in at] == [b'{"id":1}', b'{"id":10}']
    assert encode_row(batch.new_keys[first]) == b'{"id":10}'
    assert encode_row(batch.old_keys[second]) == b'{"id":1}'
    assert batch.positions[first] < batch.positions[second]
    assert json.loads(encode_row(batch.afters[second]))["balance"] == "11.50"


def test_before_is_the_row_with_what_changed_laid_back() -> None:
    """Where the spec trusts it; a delete has the whole row."""
    batch = CUSTOMERS.decode(before="full").batch
    befores = [json.loads(encode_row(row)) for row in batch.befores if row is not None]

    assert befores[0] == {"id": 2, "name": "Bo", "email": None, "balance": "0.00", "updated": None}
    assert befores[1] == {"id": 4, "name": "Di", "email": "d@example.org", "balance": "0.01", "updated": None}
    assert [row is None for row in CUSTOMERS.decode().batch.befores] == [True] * len(batch)


def test_files_are_ordered_by_number_and_the_last_row_of_a_transaction_is_the_last() -> None:
    """Text alone would say otherwise of both."""
    decoded = decode(
        change(position="mysql-bin.999999:10", xoffset=0),
        change(position="mysql-bin.999999:10", xoffset=9),
        change(position="mysql-bin.999999:10", xoffset=10),
        change(position="mysql-bin.999999:10", commit=True),
        change(position="mysql-bin.1000000:4", xoffset=0),
    )

    assert decoded.batch.positions == sorted(set(decoded.batch.positions))


def test_rows_of_a_bootstrap_lose_to_changes() -> None:
    """They have no position, and may be older than a change before them."""
    decoded = decode(change("update", old={"name": "A"}), change("bootstrap-insert", position=None, ts=1795229999))

    assert decoded.batch.snapshots == [False, True]
    assert decoded.batch.positions[1] < decoded.batch.positions[0]
    assert decoded.stop is None


def test_without_offsets_within_a_transaction_the_origin_decides() -> None:
    """`output_xoffset` is off unless asked for; one statement may write a row twice."""
    decoded = decode(change(), change("update", old={"name": "A"}), change("update", old={"name": "B"}, commit=True))

    assert decoded.batch.positions == sorted(set(decoded.batch.positions))


@pytest.mark.parametrize(
    "position",
    ["", "mysql-bin.000000:10", "mysql-bin:10", "mysql-bin.000004", "mysql-bin.000004:-1", "x.1:" + "9" * 21],
)
def test_what_has_a_position_that_is_none_is_refused(position: str) -> None:
    """Its neighbours pass."""
    decoded = decode(change(), change(position=position), change())

    assert [(bad.index, bad.error.reason) for bad in decoded.rejected] == [(1, "bad_position")]  # type: ignore[attr-defined]
    assert len(decoded.batch) == 2


def test_zero_dates_are_refused_as_dates_and_kept_as_text() -> None:
    """Null would be another nothing, and another date a lie."""
    types = cases()["maxwell-stdout-all shop.ty"]
    dated = types.spec.model_validate(
        types.spec.model_dump() | {"columns": TYPES | {"dt": "date", "dtm": "timestamp", "ts": "timestamptz"}}
    )
    decoded = types.decode(columns=dated.columns)

    assert [bad.error.reason for bad in decoded.rejected] == ["bad_type"]  # type: ignore[attr-defined]
    assert json.loads(encode_row(decoded.batch.afters[0]))["dtm"] == "2024-02-29T13:45:06.000000"
    assert json.loads(encode_row(types.decode().batch.afters[1]))["dt"] == "0000-00-00"


@pytest.mark.parametrize("value", [b'{"type":"insert"}', b"[]", b'"x"', b'{"type":"heartbeat","database":"a"}'])
def test_what_is_none_of_its_records_is_refused(value: bytes) -> None:
    """By a name of the table of reasons."""
    assert [bad.error.reason for bad in decode(value).rejected] == ["not_a_change"]  # type: ignore[attr-defined]


def test_an_image_that_is_no_object_is_refused() -> None:
    """Before and after alike."""
    decoded = decode(change("update", old=[1]), change(data=[1]), change("delete", data="x"), change())

    assert [bad.error.reason for bad in decoded.rejected] == ["no_row"] * 3  # type: ignore[attr-defined]
    assert len(decoded.batch) == 1


def test_without_positions_the_time_of_the_commit_and_then_the_offset_are_the_order() -> None:
    """`output_binlog_position=false`: weaker, which is counted, but changes of one key stay in one partition."""
    values = [change(position=None, ts=9), change(position=None, ts=10), change("delete", position=None, ts=10)]
    decoded = decode(*values, change("bootstrap-insert", position=None, ts=99))
    changed = decoded.batch.positions[:3]

    assert [] == decoded.rejected
    assert changed == sorted(set(changed))
    assert decoded.batch.positions[3] < changed[0]
    assert {"weak_order": 3} == decoded.noted


def test_a_change_without_a_time_has_no_place_at_all() -> None:
    """And no commit time for whoever reads it."""
    value = change().replace(b'"ts": 1795220884, ', b"")

    assert ["bad_time"] == [bad.error.reason for bad in decode(value).rejected]  # type: ignore[attr-defined]


@pytest.mark.parametrize("runs", [[2], [1, 1]])
def test_positions_that_are_no_longer_said_stop_the_table(runs: list[int]) -> None:
    """Every change without one would lose to those with one, silently; in one run, or in one after the other."""
    values = [change(), change("update", position=None, ts=2_000_000_000, old={"name": "A"})]
    decoder = format_of("maxwell").decoder(TableEntry(spec=CUSTOMERS.spec), LimitsConfig())
    memory = PartitionMemory()
    for count in runs:
        decoded = decoder.decode(Run([Record(9, value) for value in values[:count]]), memory)
        values = values[count:]

    assert decoded.stop is not None
    assert ("order_lost", runs[-1] - 1) == (decoded.stop.reason, decoded.stop_index)


def test_positions_that_are_said_from_now_on_are_above_those_before_them() -> None:
    """More order is taken as it comes; a repeat from an earlier file of the log stops nothing."""
    values = [change(position=None, ts=2_000_000_000), change(position="b.000009:4"), change(position="b.000008:4")]
    decoder = format_of("maxwell").decoder(TableEntry(spec=CUSTOMERS.spec), LimitsConfig())
    memory = PartitionMemory()
    decoded = [decoder.decode(Run([Record(9, value)]), memory) for value in values]
    positions = [each.batch.positions[0] for each in decoded]

    assert [None] * 3 == [each.stop for each in decoded]
    assert positions[0] < positions[2] < positions[1]
