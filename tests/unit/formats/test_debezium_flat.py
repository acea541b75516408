"""Flattened records of Debezium: operations, deletes of each kind, and the order of what says its place or not."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory, format_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from tests.unit.formats.captures import CapturedRun, runs, spec_of
from tests.unit.formats.made import PLACEHOLDER, MadeRun, after, compact, envelope, reasons

COLUMNS = {"id": "int", "name": "string", "at": "timestamptz"}
ROW: dict[str, Any] = {"id": 1, "name": "Ada", "at": "2024-02-29T13:45:06.789123Z"}
FULL = {"__op": "u", "__lsn": 200, "__source_ts_ms": 1_700_000_000_123, "__source_snapshot": None}
KEY = b'{"id":1}'
Headers = list[tuple[str, bytes]]


def flat(row: Any = None, **added: Any) -> bytes:
    """Return a flattened record, with `__deleted` as rewriting has it, or without if that is None."""
    told = {"__deleted": "false"} | FULL | added
    return compact((ROW if row is None else row) | {name: value for name, value in told.items() if value != "-"})


def spec(**changes: Any) -> TableSpec:
    """Return a spec of three columns."""
    told = {"table": "made", "topics": ["made"], "format": "debezium-flat", "key": ["id"], "columns": COLUMNS}
    return TableSpec.model_validate(told | changes)


def decode(
    *values: bytes | None,
    key: bytes | None = KEY,
    headers: dict[int, Headers] | None = None,
    memory: PartitionMemory | None = None,
    epoch: int = 0,
    **changes: Any,
) -> Decoded:
    """Return what a new decoder makes of values that share a key."""
    limits = LimitsConfig(record_bytes_max=200_000)
    decoder = format_of("debezium-flat").decoder(TableEntry(spec=spec(**changes), epoch=epoch), limits)
    return decoder.decode(MadeRun([(key, value) for value in values], headers), memory or PartitionMemory())


def test_a_row_has_the_contracts_forms_and_none_of_what_was_added() -> None:
    """What the transformation added says operation, place and time; it is no column."""
    added = {"__transaction_id": "731:200", "__source_name": "shop", "__source_table": "made", "__source_schema": "s"}
    decoded = decode(flat(**added))
    batch = decoded.batch

    assert ROW == after(decoded)
    assert (set(), ["update"], ["731"]) == (decoded.unknown_columns, batch.operations, batch.transactions)
    assert ["2023-11-14T22:13:20.123000Z"] == batch.ts
    assert ["0000" + "1" + "200".zfill(20) + "1" + "200".zfill(20)] == batch.positions
    assert ("postgresql", "shop", "s.made") == (batch.connector, batch.source_name, batch.source_table)


def test_added_fields_do_not_count_as_unknown_columns() -> None:
    """Only a column that the source has and the spec does not is one."""
    wide = flat(ROW | {"more": 1})

    assert {"more"} == decode(wide).unknown_columns
    assert ["unknown_column"] == reasons(decode(flat(), wide, unknown_columns="quarantine"))


def test_an_added_field_may_be_a_column() -> None:
    """Where the spec names it."""
    decoded = decode(flat(), columns=COLUMNS | {"__op": "string", "__lsn": "long"})

    assert ROW | {"__op": "u", "__lsn": "200"} == after(decoded)


GONE: dict[str, bytes | None] = {
    "a row with zeros that are nobody's": flat({"id": 1, "name": "", "at": 0}, __deleted="true", __op="d"),
    "a row": flat({"id": 1, "name": None, "at": None}, __deleted="true", __op="d"),
    "a row of a table that logs whole rows": flat(__deleted="true", __op="d"),
    "a row that says no more": compact(ROW | {"__deleted": "true"}),
    "a row with a true": flat(__deleted=True),
    "an op alone": flat(__op="d", __deleted="-"),
    "a null of JSON": b"null",
    "a null behind a schema block": b'{"schema":{"type":"struct","fields":[]},"payload":null}',
    "no bytes": None,
}


@pytest.mark.parametrize("kind", GONE)
def test_each_kind_of_delete_deletes_its_key(kind: str) -> None:
    """A row that says so is never an update; a null deletes the key of its record."""
    decoded = decode(GONE[kind], headers={0: [("__source_ts_ms", b"1700000000123")]})

    assert (["delete"], [None], []) == (decoded.batch.operations, decoded.batch.afters, reasons(decoded))
    assert 1 == decoded.batch.keys[0].c0


def test_a_null_with_its_place_in_headers_stands_where_it_says() -> None:
    """`add.headers` is how a delete without a value tells it."""
    at = ("__source_ts_ms", b"1")
    told = {i: [at, ("__op", op), ("__lsn", lsn)] for i, (op, lsn) in enumerate([(b"u", b"200"), (b"d", b"300")])}
    batch = decode(flat(__deleted="-"), b"null", headers=told).batch

    assert [f"0000{1}{lsn:020d}1{lsn:020d}" for lsn in (200, 300)] == batch.positions


@pytest.mark.parametrize("value", [b"d", b'"d"', b'{"schema":{"type":"string","optional":false},"payload":"d"}'])
def test_headers_have_three_forms(value: bytes) -> None:
    """By the header converter of the connector."""
    lsn = value.replace(b'"d"', b"300") if b"{" in value else b"300"
    batch = decode(None, headers={0: [("__op", value), ("__lsn", lsn), ("__source_ts_ms", b"1")]}).batch

    assert ["delete"] == batch.operations
    assert [f"0000{1}{300:020d}1{300:020d}"] == batch.positions


def test_where_deletes_say_no_place_all_stand_by_their_offsets() -> None:
    """A null cannot be compared with a place in the log, but the order of a partition is that of each key."""
    told: dict[int, Headers] = {1: [("__source_ts_ms", b"1")]}
    batch = decode(flat(__deleted="-"), b"null", flat(__deleted="-", __lsn=150), headers=told).batch

    assert [f"0000{0}{offset:020d}" for offset in (100, 101, 102)] == batch.positions


@pytest.mark.parametrize("options", [{}, {"order": "offset"}])
def test_a_change_that_says_less_than_those_before_it_is_refused(options: dict[str, Any]) -> None:
    """It would lose to all of them without a word: the transformation was changed, and the table needs a resync."""
    memory = PartitionMemory()
    decode(flat(), memory=memory)
    less = decode(flat(__lsn="-"), flat(__lsn=300), memory=memory.copy(), options=options)

    assert ["bad_position"] * (2 if options else 1) == reasons(less)
    assert ["0"] == [at[4] for at in decode(flat(__lsn="-"), memory=memory, options=options, epoch=1).batch.positions]


def test_a_null_behind_deletes_that_are_rows_is_a_tombstone() -> None:
    """However the records are parted: what was seen is remembered."""
    gone = flat(__deleted="true", __op="d", __lsn=300)
    memory = PartitionMemory()
    decode(flat(), gone, memory=memory)
    later = decode(None, memory=PartitionMemory.from_text(memory.to_text()))

    assert {"tombstone": 1} == decode(flat(), gone, None).skipped == later.skipped


def test_the_other_key_of_a_changed_key_is_in_its_header() -> None:
    """As in the envelope."""
    run = MadeRun(
        [(KEY, b"null"), (b'{"id":2}', compact(ROW | {"id": 2}))],
        {
            0: [("__debezium.newkey", b'{"id":2}'), ("__ts_ms", b"5")],
            1: [("__debezium.oldkey", KEY), ("__ts_ms", b"5")],
        },
    )
    batch = (
        format_of("debezium-flat").decoder(TableEntry(spec=spec()), LimitsConfig()).decode(run, PartitionMemory()).batch
    )

    assert (["delete", "insert"], 2, 1) == (batch.operations, batch.new_keys[0].c0, batch.old_keys[1].c0)


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"prefix": "_m_"}, {"_m_op": "c", "_m_lsn": 200, "_m_source_ts_ms": 1}),
        ({"prefix": ""}, {"op": "c", "lsn": 200, "source_ts_ms": 1}),
        ({"fields": {"op": "__O", "lsn": "WAL", "ts_ms": "__T"}}, {"__O": "c", "WAL": 200, "__T": 1}),
        ({}, {"__op": "c", "__source_lsn": 200, "__source_ts_us": 1_000}),
        ({}, {"__op": "c", "__lsn": 200, "__source_ts_ns": 1_000_000}),
        ({}, {"__op": "c", "__lsn": 200, "__ts_ms": 1}),  # when the connector saw it: better than nothing
    ],
)
def test_added_fields_are_found_by_whatever_name_they_have(options: dict[str, Any], added: dict[str, Any]) -> None:
    """Prefix and names are settings of the transformation."""
    decoded = decode(compact(ROW | {"__deleted": "false"} | added), options=options)

    assert (ROW, ["insert"], set()) == (after(decoded), decoded.batch.operations, decoded.unknown_columns)
    assert (["1970-01-01T00:00:00.001000Z"], "1") == (decoded.batch.ts, decoded.batch.positions[0][4])


@pytest.mark.parametrize(
    "options", [{"prefx": "_"}, {"connector": "vitess"}, {"fields": {"colour": "x"}}, {"fields": 1}]
)
def test_an_option_that_is_none_is_refused(options: dict[str, Any]) -> None:
    """With the options that there are."""
    with pytest.raises(ConfigurationError) as caught:
        decode(flat(), options=options)

    assert caught.value.hint


LSN, CHANGE = "00000027:00000ac0:0007", "00000027:00000ac0:0002"
TRIPLET, INNER = f"{0x27:010d}{0xAC0:010d}{7:05d}", f"{0x27:010d}{0xAC0:010d}{2:05d}"


@pytest.mark.parametrize(
    ("added", "position", "connector"),
    [
        ({"__file": "bin.000007", "__pos": 40, "__row": 2}, f"{7:010d}{40:020d}1{2:010d}", "mysql"),
        (
            {"__source_file": "bin.7", "__source_pos": 40, "__source_row": 0, "__connector": "mariadb"},
            f"{7:010d}{40:020d}1{0:010d}",
            "mariadb",
        ),
        (
            {"__commit_lsn": LSN, "__change_lsn": CHANGE, "__event_serial_no": 2},
            f"{TRIPLET}1{INNER}{2:020d}",
            "sqlserver",
        ),
        ({"__commit_scn": "90", "__scn": "80", "__txSeq": 3}, f"{90:020d}1{80:020d}{3:020d}", "oracle"),
        ({"__commit_scn": "90", "__source_scn": "80"}, f"{90:020d}1{80:020d}{100:020d}", "oracle"),
        ({"__lsn": 200, "__source_sequence": '["150","200"]'}, f"{150:020d}1{200:020d}", "postgresql"),
        ({"__lsn": "200"}, None, ""),
    ],
)
def test_each_connector_has_its_own_place(added: dict[str, Any], position: str | None, connector: str) -> None:
    """That of its envelopes, one digit behind the epoch."""
    decoded = decode(
        flat(__lsn="-", __source_ts_ms=1) if "__lsn" not in added else flat(), flat(**{"__lsn": "-"} | added)
    )

    if position is None:
        assert ["bad_position"] == reasons(decoded)
        return
    places = {at[4:] for at in decoded.batch.positions if at.startswith("00001")}
    assert f"1{position}".replace(f"{100:020d}", f"{101:020d}") in places
    assert connector == decode(flat(**{"__lsn": "-"} | added)).batch.connector


def test_what_is_not_said_in_full_is_no_place() -> None:
    """Several rows of one statement share file and position: without the row the offset is better."""
    assert ["0"] == [at[4] for at in decode(flat(__lsn="-", __file="bin.7", __pos=4)).batch.positions]


@pytest.mark.parametrize("snapshot", ["true", "first", "last", True])
def test_rows_of_an_initial_snapshot_after_changes_stop_the_table(snapshot: Any) -> None:
    """As in the envelope; without its sequence a blocking snapshot cannot be told from it."""
    again = flat(__op="r", __source_snapshot=snapshot, __lsn=300)
    told = flat(__op="r", __source_snapshot=snapshot, __lsn=300, __source_sequence='["250","300"]')

    assert "source_read_anew" == getattr(decode(flat(), again).stop, "reason", None)
    assert None is decode(flat(), told).stop
    assert [True, False] == decode(again, flat()).batch.snapshots


def test_rows_of_an_incremental_snapshot_lose_to_all_that_was_streamed() -> None:
    """They have no place, for PostgreSQL's connector sends none."""
    row = flat(__op="r", __source_snapshot="incremental", __lsn=None)
    decoded = decode(flat(), row, flat(__op="r", __source_snapshot="-", __lsn=None))

    assert (None, [False, True, True]) == (decoded.stop, decoded.batch.snapshots)
    assert decoded.batch.positions[0] > decoded.batch.positions[1] == "00001" + "0" * 41


def test_what_the_source_did_not_send_is_unavailable() -> None:
    """Its placeholder is that of the envelope."""
    decoded = decode(flat(ROW | {"name": PLACEHOLDER}))

    assert ([["name"]], {"id": 1, "at": ROW["at"]}) == (decoded.batch.unavailable, after(decoded))


def test_a_schema_block_says_how_columns_are_encoded() -> None:
    """Whatever the spec thinks; it describes the row and what was added beside it."""
    micros = {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "field": "at"}
    fields = [{"type": "int32", "field": "id"}, micros, {"type": "string", "field": "__op"}]
    value = compact(
        {"schema": {"type": "struct", "fields": fields}, "payload": {"id": 1, "at": 5, "__op": "c", "__ts_ms": 1}}
    )
    decoded = decode(value, value, columns={"id": "int", "at": {"type": "timestamp", "encoding": "time.Timestamp"}})

    assert {"id": 1, "at": "1970-01-01T00:00:00.000005"} == after(decoded, 1)


SIDE = {
    "message": compact(envelope("m", None, message={"prefix": "p", "content": ""})),
    "heartbeat": b'{"ts_ms":1}',
    "transaction": b'{"status":"BEGIN","id":"5:1","ts_ms":1,"event_count":null,"data_collections":null}',
    "schema_change": b'{"source":{},"ts_ms":1,"databaseName":"shop","ddl":"create table t","tableChanges":[]}',
}


@pytest.mark.parametrize("name", SIDE)
def test_what_the_transformation_passes_on_is_named(name: str) -> None:
    """It flattens changes only."""
    block = b'{"schema":{"type":"struct","fields":[]},"payload":%b}' % SIDE[name]
    decoded = decode(flat(), SIDE[name], block)

    assert (["update"], {name: 2}) == (decoded.batch.operations, decoded.skipped)


def test_an_envelope_among_flattened_rows_is_read_as_one() -> None:
    """A predicate may leave some as they were."""
    decoded = decode(compact(envelope("c", ROW, lsn=300)), flat())

    assert (["insert", "update"], "0000" + "1" + "100".zfill(20)) == (
        decoded.batch.operations,
        decoded.batch.positions[0][:25],
    )


def test_a_row_may_look_like_something_else() -> None:
    """A table of exactly such columns is a table: its spec names them."""
    row = {"type": "log", "data": "x", "id": 1}
    decoded = decode(compact(row | {"__ts_ms": 1}), columns={"id": "int", "type": "string", "data": "string"})

    assert row == after(decoded)


POISON = {
    "broken_json": [flat()[:-1], b"", b"{", flat().replace(b'"id":1', b'"id":NaN'), b"\x00" + flat()],
    "not_utf8": [flat().replace(b"Ada", b"\xff")],
    "duplicate_keys": [
        flat().replace(b'"id":1', b'"id":1,"id":2'),
        flat().replace(b'"__op":"u"', b'"__op":"u","__op":"d"'),
        flat().replace(b'"id":1', b'"id":1,"\\u0069d":2'),
        flat().replace(b'"__op"', b'"a\\u003a":1,"id":2,"__op"'),
    ],
    "out_of_range": [flat().replace(b'"id":1', b'"id":9223372036854775809')],
    "unknown_op": [flat(__op="U"), flat(__op="x"), flat(__op=1), flat(__deleted="yes"), flat(__deleted=1)],
    "not_a_change": [b"[]", b'"a"', b"7"],
    "bad_type": [flat(ROW | {"name": 1})],
    "bad_time": [flat(__source_ts_ms=2**62)],
    "too_large": [flat(ROW | {"name": "x" * 200_000})],
}


@pytest.mark.parametrize("reason", POISON)
def test_poison_is_refused_alone_and_by_its_reason(reason: str) -> None:
    """As in the envelope."""
    for value in POISON[reason]:
        decoded = decode(flat(), value, flat())

        assert ([reason], [100, 102]) == (reasons(decoded), decoded.batch.offsets), value[:80]


def test_a_null_without_a_key_deletes_nothing() -> None:
    """Of a table with a key it is refused, so that nobody loses a delete; without a key it is behind every delete."""
    assert ["no_key"] == reasons(decode(b"null", key=None, headers={0: [("__ts_ms", b"1")]}))

    decoder = format_of("debezium-flat").decoder(TableEntry(spec=spec(key=[])), LimitsConfig())
    assert {"tombstone": 1} == decoder.decode(MadeRun([(None, b"null")]), PartitionMemory()).skipped


def test_a_time_that_is_not_said_is_kafkas() -> None:
    """The first delete of a plain capture has no other."""
    spec_ = spec_of("pg-unwrap-plain", "public.t")
    (run,) = runs("pg-unwrap-plain", "capuwplain.public.t")
    decoder = format_of(spec_.format).decoder(TableEntry(spec=spec_), LimitsConfig())
    batch = decoder.decode(run, PartitionMemory()).batch

    assert (6, "") == (len(batch), batch.connector)
    assert {"2026-11"} == {at[:7] for at in batch.ts}


def test_a_time_that_nobody_says_is_counted() -> None:
    """A delete is worth more than its time."""
    decoded = decode(flat(__source_ts_ms="-", __deleted="-"), b"null", flat(__deleted="-"))

    assert (3, {"no_time": 2}) == (len(decoded.batch), decoded.noted)
    assert ["1970", "1970", "2023"] == [at[:4] for at in decoded.batch.ts]


CASES = {
    "pg-unwrap-rewrite": ("capuwrewrite.public.t", "1"),
    "pg-unwrap-rewrite-debezium-2.7": ("capoldu.public.t", "1"),
    "pg-unwrap-tombstone": ("capuwtombstone.public.t", "1"),
    "pg-unwrap-tombstone-with-schema": ("capuws.public.t", "0"),
    "pg-unwrap-plain": ("capuwplain.public.t", "0"),
    "pg-unwrap-drop": ("capuwdrop.public.t", "1"),
}


@pytest.mark.parametrize("case", CASES)
def test_captured_records_say_the_same_however_they_are_parted(case: str) -> None:
    """One by one, as after restarts, or all at once; and all of a topic have one kind of order."""
    topic, kind = CASES[case]
    spec_ = spec_of(case, "public.t")
    (run,) = runs(case, topic)
    whole = format_of(spec_.format).decoder(TableEntry(spec=spec_), LimitsConfig()).decode(run, PartitionMemory())
    memory, parted = PartitionMemory(), []
    for one in _singly(run):
        decoder = format_of(spec_.format).decoder(TableEntry(spec=spec_), LimitsConfig())
        parted += decoder.decode(one, memory).batch.positions
        memory = PartitionMemory.from_text(memory.to_text())

    assert whole.batch.positions == parted
    assert {kind} == {position[4] for position in parted}


def _singly(run: CapturedRun) -> list[OneRecord]:
    rows = enumerate(zip(run.offsets(), run.keys(), run.values(), run.timestamps(), strict=True))
    return [
        OneRecord(run.topic, run.partition, offset, key, value, list(run.headers(i)), at)
        for i, (offset, key, value, at) in rows
    ]
