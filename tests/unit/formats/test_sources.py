"""Positions of SQL Server, Db2 and Oracle: what comes later in the source's log compares higher."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats import REASONS, PartitionMemory
from connectors.formats.envelope import SOURCES
from schemas.batch import Decoded
from tests.unit.formats.made import GOOD, ROW, MadeRun, after, compact, decode, decode_run, reasons, with_source
from tests.unit.formats.sources import db2, of_openlogreplicator, of_xstream, oracle, sqlserver

COMMIT = f"{0x27:010d}{0xAC0:010d}{7:05d}"
CHANGE = f"{0x27:010d}{0xAC0:010d}{2:05d}"


def rising(*values: bytes) -> list[str]:
    """Return the positions of records that all are changes, after a look that each stands above the one before."""
    found = decode(*values).batch.positions

    assert len(values) == len(set(found))
    assert sorted(found) == found
    return found


def test_a_change_of_sql_server_stands_at_commit_change_and_serial() -> None:
    """LSNs are hexadecimal: their parts become decimal numbers of one width."""
    decoded = decode(sqlserver())

    assert [f"0000{COMMIT}1{CHANGE}{2:020d}"] == decoded.batch.positions
    assert (["00000027:00000ac0:0007"], "sqlserver", "dbo.made") == (
        decoded.batch.transactions,
        decoded.batch.connector,
        decoded.batch.source_table,
    )


def test_a_change_of_db2_stands_at_commit_and_change_of_sixteen_bytes() -> None:
    """It counts nothing within one place: there the record's offset is the last part."""
    middle = f"{0x15A0007:040d}1{0x15A0002:040d}"

    assert [f"0000{middle}{100:020d}", f"0000{middle}{101:020d}"] == decode(db2("d"), db2("c")).batch.positions


@pytest.mark.parametrize("serials", [(1, 2), ("1", "2"), (9, 10), ("9", "10")])
def test_the_serial_orders_changes_of_one_place(serials: tuple[Any, Any]) -> None:
    """It is a number, in some examples a text; "10" comes after "9"."""
    rising(*(sqlserver(event_serial_no=serial) for serial in serials))


def test_the_order_of_sql_server_is_that_of_its_numbers() -> None:
    """The commit decides first, then the change, then the serial."""
    rising(
        sqlserver(change_lsn="00000027:00000abf:ffff", event_serial_no=9),
        sqlserver(change_lsn="00000027:00000ac0:0002", event_serial_no=1),
        sqlserver(change_lsn="00000027:00000AC0:0002", event_serial_no=2),
        sqlserver(change_lsn="00000027:00000ac0:000a", event_serial_no=1),
        sqlserver(change_lsn="00000001:00000001:0001", commit_lsn="00000027:00000ac0:000a"),
        sqlserver(change_lsn="00000001:00000001:0001", commit_lsn="00000028:00000001:0001"),
        sqlserver(change_lsn="00000001:00000001:0001", commit_lsn="ffffffff:ffffffff:ffff"),
    )


def test_a_change_of_key_in_sql_server_is_two_changes_of_one_place() -> None:
    """Delete and insert have serials 1 and 2; each names the other key."""
    run = MadeRun(
        [
            (b'{"id":1}', sqlserver("d", event_serial_no=1)),
            (b'{"id":1}', None),
            (b'{"id":2}', sqlserver("c", ROW | {"id": 2}, event_serial_no=2)),
        ],
        {0: [("__debezium.newkey", b'{"id":2}')], 2: [("__debezium.oldkey", b'{"id":1}')]},
    )
    batch = decode_run(run).batch

    assert (["delete", "insert"], [100, 102]) == (batch.operations, batch.offsets)
    assert [2, 1] == [batch.new_keys[0].c0, batch.old_keys[1].c0]
    assert batch.positions[0] < batch.positions[1]


SNAPSHOT = {"snapshot": "true", "change_lsn": None, "event_serial_no": None}


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (sqlserver("r", **SNAPSHOT), sqlserver()),
        (sqlserver("r", snapshot="incremental"), sqlserver()),  # it has the last change that the connector saw
        (db2("r", snapshot="incremental"), db2()),
        (oracle("r", snapshot="incremental"), oracle()),
        (of_xstream("r", snapshot="incremental"), of_xstream()),
        (of_openlogreplicator("r", snapshot="incremental"), of_openlogreplicator()),
        (oracle("r", snapshot="first", commit_scn=None, scn="2122190", txSeq=None), oracle()),
    ],
)
def test_a_row_of_a_snapshot_stands_below_the_changes_of_its_commit(row: bytes, change: bytes) -> None:
    """However the two are sent: the row was read while that transaction was open, or is as it left it."""
    for decoded in decode(change, row), decode(row, change):
        order = sorted(range(2), key=decoded.batch.positions.__getitem__)

        assert [True, False] == [decoded.batch.snapshots[at] for at in order]
        assert None is decoded.stop


def test_a_row_of_a_snapshot_stands_above_all_that_was_committed_before() -> None:
    """An older transaction's changes have a lower commit, whatever else they have."""
    rising(
        sqlserver(commit_lsn="00000027:00000ac0:0006", change_lsn="ffffffff:ffffffff:ffff"),
        sqlserver("r", snapshot="incremental"),
    )
    rising(oracle(commit_scn="2122189", scn="2122188", txSeq=999), oracle("r", snapshot="incremental"))


def test_a_snapshot_of_an_empty_log_begins_at_zero() -> None:
    """SQL Server has no LSN before its first captured change, and then sends null."""
    assert ["0000" + "0" * 51 + f"{100:020d}"] == decode(sqlserver("r", **SNAPSHOT, commit_lsn=None)).batch.positions


def test_rows_of_a_snapshot_that_share_a_key_are_in_the_order_in_which_they_were_read() -> None:
    """A key that is not unique: the row that was sent last wins, in every store alike."""
    rising(sqlserver("r", **SNAPSHOT), sqlserver("r", **SNAPSHOT))
    rising(oracle("r", snapshot="true"), oracle("r", snapshot="true"))


def test_a_change_of_oracle_stands_at_commit_change_and_sequence() -> None:
    """SCNs are texts, for they have more digits than JSON's readers keep."""
    decoded = decode(oracle())

    assert [f"0000{2122190:020d}1{2122184:020d}{1:020d}"] == decoded.batch.positions
    assert ["6.28.807"] == decoded.batch.transactions


def test_scns_of_oracle_are_numbers_of_up_to_twenty_digits() -> None:
    """As texts "9" would come after "10"; older connectors write numbers."""
    rising(
        oracle(commit_scn="9", scn="9"),
        oracle(commit_scn="10", scn="9"),
        oracle(commit_scn=11, scn=9),
        oracle(commit_scn="12345678901234567890", scn="9"),
        oracle(commit_scn="12345678901234567890", scn="10", txSeq=9),
        oracle(commit_scn="12345678901234567890", scn="10", txSeq="10"),
        oracle(commit_scn="99999999999999999999", scn="10"),
    )


def test_changes_that_oracle_does_not_count_are_in_the_order_in_which_they_were_sent() -> None:
    """XStream and OpenLogReplicator give one SCN to several changes of a transaction: the offset is the last part."""
    rising(of_xstream("c"), of_xstream("d"), of_xstream("c"))
    assert f"{100:020d}" == rising(of_openlogreplicator("c"), of_openlogreplicator())[0][-20:]


def test_a_repeat_of_what_is_counted_has_the_same_position() -> None:
    """A connector that sends records again after a crash makes no new changes of them."""
    for value in sqlserver(), oracle():
        first, second = decode(value, value).batch.positions

        assert first == second


def test_of_a_list_of_commits_the_highest_counts() -> None:
    """On several nodes each redo thread has one; the highest of them never goes back."""
    listed = "2122189:0x2832343233323:1,2122190:0x2832343233324:2"

    assert decode(oracle(commit_scn=listed)).batch.positions == decode(oracle()).batch.positions
    assert decode(oracle(commit_scn="2122190,9")).batch.positions == decode(oracle()).batch.positions


BAD: dict[str, bytes] = {
    "no commit": sqlserver(commit_lsn=None),
    "no change": sqlserver(change_lsn=None),
    "no lsn": sqlserver(commit_lsn="NULL"),
    "a part too few": sqlserver(change_lsn="00000027:00000ac0"),
    "a digit too many": sqlserver(change_lsn="000000027:00000ac0:0002"),
    "as many as Db2": sqlserver(change_lsn="00000027:00000ac0:00002"),
    "no digit": sqlserver(change_lsn="00000027:00000ag0:0002"),
    "other digits": sqlserver(change_lsn="0000002\u0667:00000ac0:0002"),
    "a serial below zero": sqlserver(event_serial_no=-1),
    "a serial in words": sqlserver(event_serial_no="two"),
    "a serial above 64 bits": sqlserver(event_serial_no=2**64),
    "an lsn that is no text": sqlserver(commit_lsn=7),
    "an lsn of Db2 too long": db2(commit_lsn="0:0:10000000000000000"),
    "no scn": oracle(scn=None),
    "no scn, but a commit": oracle("c", scn=None),
    "no scn in a snapshot": oracle("r", snapshot="true", scn=None, commit_scn=None),
    "an scn below zero": oracle(scn=-1),
    "an scn below zero as text": oracle(scn="-1"),
    "an scn of 21 digits": oracle(scn="1" * 21),
    "an empty scn": oracle(commit_scn=""),
    "an empty list": oracle(commit_scn=","),
    "a sequence in words": oracle(txSeq="one"),
    "an scn that is no number": oracle(scn=1.5),
}


@pytest.mark.parametrize("name", BAD)
def test_a_change_without_a_place_is_refused_and_its_neighbours_are_not(name: str) -> None:
    """It goes to quarantine as `bad_position`, whatever of its place is missing or out of range."""
    good = {"sqlserver": sqlserver, "db2": db2, "oracle": oracle}[json.loads(BAD[name])["source"]["connector"]]()
    decoded = decode(good, BAD[name], good)

    assert (["bad_position"], [100, 102]) == (reasons(decoded), decoded.batch.offsets)


@pytest.mark.parametrize(
    ("last", "below", "same", "above"),
    [
        (
            sqlserver(),
            sqlserver("r", **SNAPSHOT, commit_lsn="00000027:00000ac0:0006"),
            sqlserver("r", **SNAPSHOT),
            sqlserver("r", **SNAPSHOT, commit_lsn="00000027:00000ac0:0008"),
        ),
        (
            db2(),
            db2("r", snapshot="true", change_lsn=None, commit_lsn="0:0:15a0006"),
            db2("r", snapshot="true", change_lsn=None),
            db2("r", snapshot="true", change_lsn=None, commit_lsn="0:0:15a0008"),
        ),
        (
            oracle(),
            oracle("r", snapshot="first", commit_scn=None, scn="2122189"),
            oracle("r", snapshot="first", commit_scn=None, scn="2122190"),
            oracle("r", snapshot="first", commit_scn=None, scn="2122191"),
        ),
    ],
)
def test_an_initial_snapshot_below_the_last_change_stops_the_table(
    last: bytes, below: bytes, same: bytes, above: bytes
) -> None:
    """A blocking snapshot looks the same, but begins at the last commit or above it."""
    memory = PartitionMemory()
    decode(last, memory=memory)

    def stop(row: bytes) -> Decoded:
        return decode(row, memory=PartitionMemory.from_text(memory.to_text()))

    assert "source_read_anew" == getattr(stop(below).stop, "reason", None)
    assert (None, None) == (stop(same).stop, stop(above).stop)


def test_an_incremental_snapshot_stops_nothing() -> None:
    """It may stand below the last change: it was read while that transaction was open."""
    low = "00000001:00000001:0001"

    assert None is decode(sqlserver(), sqlserver("r", snapshot="incremental", commit_lsn=low)).stop


def test_a_topic_may_carry_several_connectors() -> None:
    """Each record is placed as its own connector places it."""
    decoded = decode(sqlserver(), GOOD, oracle(), db2(), sqlserver())

    assert [75, 45, 65, 105, 75] == [len(position) for position in decoded.batch.positions]


@pytest.mark.parametrize(
    ("plain", "doubled"),
    [
        (oracle(redo_sql="set a=':'"), oracle(redo_sql="set a=1").replace(b'"scn":', b'"scn":"1","scn":')),
        (sqlserver(), sqlserver("r", **SNAPSHOT).replace(b'"db":', b'"db":"a","db":"b","db":')),
    ],
)
def test_a_text_of_the_source_without_its_colons_makes_no_room_for_a_key(plain: bytes, doubled: bytes) -> None:
    """Keys are counted by colons: those of texts that come and go are not among them."""
    assert ["duplicate_keys"] == reasons(decode(plain, doubled))


def test_the_hint_of_an_unknown_connector_names_those_that_are_known() -> None:
    """Positions of others are not guessed."""
    hint = REASONS["unknown_connector"].hint

    assert [name for name in SOURCES if name not in hint] == []
    assert ["unknown_connector"] * 4 == reasons(
        decode(*(compact(with_source(connector=name)) for name in ("vitess", "informix", "spanner", "cockroachdb")))
    )


SQL = {"id": "int", "at": "timestamp", "t": "time", "d": "date", "ok": "boolean", "u": "uuid", "z": "timestamptz"}
ORA = {"id": "int", "at": "timestamp", "d": "date", "ok": "boolean", "n": "decimal(12,3)", "big": "decimal(38,0)"}


def test_columns_of_sql_server_are_taken_for_what_its_types_are_by_default() -> None:
    """TIME and DATETIME2 have seven digits, a DATETIME says `time.Timestamp`."""
    row = {"id": 1, "at": 1709214306789123400, "t": 49506789123400, "d": 19782, "ok": True}
    texts = {"u": "B68A35A7-17AD-35B3-AF2A-AE46EDB4545A", "z": "2024-02-29T13:45:06.7891234+01:00"}

    assert {
        "id": 1,
        "at": "2024-02-29T13:45:06.789123",
        "t": "13:45:06.789123",
        "d": "2024-02-29",
        "ok": True,
        "u": "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
        "z": "2024-02-29T12:45:06.789123Z",
    } == after(decode(sqlserver(row=row | texts), columns=SQL))


@pytest.mark.parametrize("number", ["AeJA", {"scale": 3, "value": "AeJA"}, {"scale": 1, "value": "BNI="}])
def test_columns_of_oracle_are_taken_for_what_its_types_are_by_default(number: Any) -> None:
    """A NUMBER comes in the form that Debezium chose by its digits; a DATE is milliseconds."""
    row = {"id": 1, "at": 1709214306789123, "d": 1709164800000, "ok": 1, "n": number, "big": 7}

    assert {
        "id": 1,
        "at": "2024-02-29T13:45:06.789123",
        "d": "2024-02-29",
        "ok": True,
        "n": "123.400" if number == {"scale": 1, "value": "BNI="} else "123.456",
        "big": "7",
    } == after(decode(oracle(row=row), columns=ORA))


@pytest.mark.parametrize(
    ("column", "type_"),
    [("n", "decimal(5,3)"), ("n", "decimal(12,2)"), ("n", {"type": "long", "encoding": "oracle.NUMBER"})],
)
def test_a_number_of_oracle_that_its_type_cannot_hold_is_refused(column: str, type_: Any) -> None:
    """Nothing is rounded or cut."""
    row = {"id": 1, column: {"scale": 3, "value": "AeJA"}}

    assert ["out_of_range"] == reasons(decode(oracle(row=row), columns={"id": "int", column: type_}))


def test_an_oracle_date_with_a_time_of_day_is_no_date() -> None:
    """It would lose it: such a column is a timestamp with the encoding `time.Timestamp`."""
    row = {"id": 1, "d": 1709214306000}
    wide = {"id": "int", "d": {"type": "timestamp", "encoding": "time.Timestamp"}}

    assert ["out_of_range"] == reasons(decode(oracle(row=row), columns={"id": "int", "d": "date"}))
    assert {"id": 1, "d": "2024-02-29T13:45:06.000000"} == after(decode(oracle(row=row), columns=wide))


def test_a_key_of_oracle_may_be_a_number_of_any_form() -> None:
    """An id declared NUMBER without digits comes as an object, in the key as in the row."""
    number = {"scale": 0, "value": "Bw=="}
    columns = {"id": {"type": "long", "encoding": "oracle.NUMBER"}}
    decoded = decode(oracle(row={"id": number}), key=compact({"id": number}), columns=columns)

    assert ([], "7") == (reasons(decoded), decoded.batch.keys[0].c0)
