"""AWS DMS: what nulls, images before, key changes, loads and positions come to; records themselves in the fixtures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import PartitionMemory, format_of
from connectors.formats.dms import looks_like, table_of
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from tests.unit.formats.envelopes import changes, decode, spec_of

INVOICES = TableSpec.model_validate({
    "table": "invoices", "topics": ["billing"], "format": "dms", "key": ["id"],
    "columns": {"id": "long", "customer": "string", "amount": "decimal(12,2)", "note": "string", "paid": "boolean"},
})  # fmt: skip
POSITION = "mysql-bin-changelog.{file:06d}:{pos}:0:{pos}:7:mysql-bin-changelog.{file:06d}:4"


def record(op: str = "insert", row: Any = None, *, file: int = 7, pos: int = 100, **changed: Any) -> bytes:
    """Return a record of the invoices; a load has no transaction."""
    metadata: dict[str, Any] = {
        "timestamp": "2026-01-02T03:04:06.000000Z", "record-type": "data", "operation": op,
        "schema-name": "billing", "table-name": "invoices",
    }  # fmt: skip
    if op != "load":
        metadata |= {
            "transaction-id": 7, "transaction-record-id": 1, "commit-timestamp": "2026-01-02T03:04:05.000000Z",
            "stream-position": POSITION.format(file=file, pos=pos),
        }  # fmt: skip
    return json.dumps({"data": row or {"id": 1}, "metadata": metadata | changed.pop("metadata", {})} | changed).encode()


def test_a_load_and_a_thousand_inserts_are_the_rows_of_the_source() -> None:
    """Nulls are left out, and the amount is a text: DMS keeps what a float would not."""
    source: dict[int, dict[str, Any]] = {
        n: {"id": n, "customer": f"c{n % 7}", "amount": f"{n}.{n % 100:02d}", "note": None if n % 3 else f"n: {n}",
            "paid": None if n % 5 else bool(n % 2)}
        for n in range(1_010)
    }  # fmt: skip
    sent = [{name: value for name, value in row.items() if value is not None} for row in source.values()]
    values: list[bytes | None] = [record("load", row) for row in sent[:10]]
    values += [record("insert", row, pos=100 + n) for n, row in enumerate(sent[10:])]
    decoded = decode(INVOICES, values)

    assert ({}, [], None) == (decoded.skipped, decoded.rejected, decoded.stop)
    found = changes(decoded)
    assert ["snapshot"] * 10 + ["insert"] * 1_000 == [change["op"] for change in found]
    assert [row | {"id": str(row["id"])} for row in source.values()] == [change["after"] for change in found]
    assert sorted({change["position"] for change in found}) == [change["position"] for change in found[9:]]


def test_absent_is_what_the_spec_says_instead() -> None:
    """PostgreSQL leaves large values out that did not change: there absent is not null."""
    decoded = decode(INVOICES.model_copy(update={"absent": "unavailable"}), [record("update")])

    assert [{"id": "1"}] == [change["after"] for change in changes(decoded)]
    assert [["customer", "amount", "note", "paid"]] == decoded.batch.unavailable


def test_the_row_before_is_given_where_the_spec_trusts_it() -> None:
    """In whichever form the task sends it, under whichever name."""
    image: dict[str, Any] = {"id": 1, "note": "old"}
    trusted = INVOICES.model_copy(update={"before": "full", "options": {"before_image": "was"}})
    prefixed = trusted.model_copy(update={"options": {"before_prefix": "OLD_"}})

    for spec, value in (
        (trusted, record("update", {"id": 1, "note": "new"}, was=image)),
        (prefixed, record("update", {"id": 1, "note": "new", "OLD_id": 1, "OLD_note": "old"})),
        (trusted, record("delete", {"id": 1}, was=image)),
    ):
        assert [{"id": "1", "note": "old"}] == [change["before"] for change in changes(decode(spec, [value]))]


def test_a_column_that_begins_like_a_prefix_is_a_column() -> None:
    """The spec says which columns there are."""
    spec = INVOICES.model_copy(update={"columns": INVOICES.columns | {"BI_code": INVOICES.columns["note"]}})
    decoded = decode(spec, [record("insert", {"id": 1, "BI_code": "x"})])

    assert ["x"] == [change["after"]["BI_code"] for change in changes(decoded)]
    assert set() == decoded.unknown_columns


def test_a_change_of_the_key_hands_over_in_the_middle_of_a_run() -> None:
    """The delete of the old key comes first, and the records around it keep their places."""
    values = [
        record("insert", {"id": 1}, pos=1),
        record("update", {"id": 2}, pos=2, image={"id": 1}),
        record("update", {"id": 2, "note": "x"}, pos=3, image={"id": 2}),
    ]
    found = changes(decode(INVOICES.model_copy(update={"options": {"before_image": "image"}}), list(values)))

    assert [("insert", "1"), ("delete", "1"), ("insert", "2"), ("update", "2")] == [
        (change["op"], change["key"]["id"]) for change in found
    ]
    assert ({"id": "2"}, {"id": "1"}) == (found[1]["new_key"], found[2]["old_key"])


def test_a_load_after_changes_stops_the_table() -> None:
    """Its source is read anew; deletes in between are in neither."""
    decoded = decode(INVOICES, [record("load"), record("insert"), record("load")])

    assert ("source_read_anew", 2) == (decoded.stop and decoded.stop.reason, decoded.stop_index)


@pytest.mark.parametrize("weaker", [{"stream-position": "checkpoint"}, {"stream-position": None}])
def test_less_order_than_before_stops_the_table(weaker: dict[str, Any]) -> None:
    """A change whose position says less would lose to all before it, silently."""
    memory = PartitionMemory()
    first = decode(INVOICES, [record(), record(metadata=weaker), record()], memory=memory)
    later = decode(INVOICES, [record("load"), record(metadata=weaker)], memory=PartitionMemory(last="000012"))

    assert ("order_lost", 1, 1) == (first.stop and first.stop.reason, first.stop_index, len(first.batch))
    assert ("order_lost", 1) == (later.stop and later.stop.reason, later.stop_index)


def test_more_order_than_before_is_taken() -> None:
    """Details are switched on in a task that runs."""
    decoded = decode(INVOICES, [record(metadata={"stream-position": None, "commit-timestamp": None}), record()])

    assert (None, 2) == (decoded.stop, len(decoded.batch))


def test_positions_follow_the_number_of_the_binary_log() -> None:
    """As text, file 1000000 would come before 999999."""
    values: list[bytes | None] = [
        record(file=999_999, pos=4_000_000_000), record(file=1_000_000, pos=4), record(file=1_000_000, pos=120),
        record(file=1_000_000, pos=120, metadata={"transaction-record-id": 2}),
    ]  # fmt: skip
    positions = decode(INVOICES, values).batch.positions

    assert sorted(set(positions)) == positions
    assert positions == decode(INVOICES, values).batch.positions, "a redelivery has the same"


def test_a_position_is_the_same_alone_and_among_odd_ones() -> None:
    """The way by column and the way by record are two."""
    odd = record(metadata={"transaction-record-id": "3"})
    together = decode(INVOICES, [record(), odd, record(pos=200)]).batch.positions

    assert together == [decode(INVOICES, [one]).batch.positions[0] for one in (record(), odd, record(pos=200))]


def test_an_option_that_is_none_is_refused_with_the_nearest() -> None:
    """As for every key of a spec."""
    spec = INVOICES.model_copy(update={"options": {"before_imgae": "x"}})
    with pytest.raises(ConfigurationError, match="did you mean 'before_image'"):
        format_of("dms").decoder(TableEntry(spec=spec), LimitsConfig())


def test_records_are_known_by_their_shape_and_tell_their_table() -> None:
    """Several tables share a topic."""
    document = json.loads(record())

    assert (True, "billing.invoices") == (looks_like(document), table_of(document))
    assert (False, None) == (looks_like({"data": {}}), table_of({"data": {}}))


def test_bad_rows_under_a_prefix_are_refused_alone() -> None:
    """A column named twice, or a row that is none."""
    twice = record("update", {"id": 1, "BI_id": 1}).replace(b'"BI_id": 1', b'"BI_id": 1, "BI_id": 2')
    none = record("update", ['"BI_'])
    decoded = decode(spec_of("dms"), [record(), twice, none, record()])

    assert [(1, "duplicate_keys"), (2, "no_row")] == [
        (one.index, one.error.reason)  # type: ignore[attr-defined]
        for one in decoded.rejected
    ]
