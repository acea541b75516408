"""What the decoder of debezium-json makes of single records: good ones, odd ones, and poison."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from connectors.formats import REASONS, PartitionMemory, encode_row, format_of
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError, ErrorKind
from schemas.table import TableEntry
from tests.unit.formats.made import (
    GOOD,
    PLACEHOLDER,
    ROW,
    MadeRun,
    after,
    compact,
    decode,
    decode_run,
    envelope,
    reasons,
    spec,
    with_row,
    with_source,
)

DEEP = 10_000
POISON: dict[str, tuple[bytes, str]] = {
    "cut short": (GOOD[:-20], "broken_json"),
    "empty": (b"", "broken_json"),
    "two documents": (GOOD + GOOD, "broken_json"),
    "NaN literal": (GOOD.replace(b'"big":5', b'"big":NaN'), "broken_json"),
    "half a surrogate pair in a column's name": (GOOD.replace(b'"big":5', b'"big":5,"\\ud800":1'), "broken_json"),
    "half a surrogate pair": (GOOD.replace(b'"Ada"', b'"\\ud800"'), "broken_json"),
    "control character in a text": (GOOD.replace(b"Ada", b"A\nda"), "broken_json"),
    "not UTF-8 in a column": (GOOD.replace(b"Ada", b"A\xff\xfe"), "not_utf8"),
    "not UTF-8 in a field that is not read": (GOOD.replace(b'"db":"d"', b'"db":"\xff"'), "not_utf8"),
    "byte order mark of UTF-16": (GOOD.decode().encode("utf-16"), "not_utf8"),
    "5 MB": (with_row(name="x" * 5_000_000), "too_large"),
    "deep arrays": (GOOD.replace(b'"transaction":null', b'"transaction":' + b"[" * DEEP + b"]" * DEEP), "too_deep"),
    "deep objects": (GOOD.replace(b'"db":"d"', b'"db":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP), "too_deep"),
    "column twice": (GOOD.replace(b'"big":5', b'"big":5,"big":6'), "duplicate_keys"),
    "column twice, with spaces": (GOOD.replace(b'"big":5', b'"big":5,"big"  :6'), "duplicate_keys"),
    "column twice, an escaped colon beside": (
        GOOD.replace(b'"big":5', b'"big":5,"big":6').replace(b"Ada", b"A\\u003ada"),
        "duplicate_keys",
    ),
    "op twice": (GOOD.replace(b'"op":"u"', b'"op":"u","op":"d"'), "duplicate_keys"),
    "after twice": (GOOD.replace(b'"after":', b'"after":null,"after":'), "duplicate_keys"),
    "no op": (compact({name: value for name, value in envelope().items() if name != "op"}), "no_op"),
    "unknown op": (compact(envelope("x")), "unknown_op"),
    "upper-case op": (compact(envelope("U")), "unknown_op"),
    "op is a number": (compact(envelope() | {"op": 1}), "unknown_op"),
    "op is null": (compact(envelope() | {"op": None}), "unknown_op"),
    "a list": (b"[1,2]", "not_a_change"),
    "a text": (b'"hello"', "not_a_change"),
    "a flat row": (compact(ROW), "not_a_change"),
    "no row": (compact(envelope("c", None)), "no_row"),
    "no source": (compact(envelope(source=None)), "no_source"),
    "unknown connector": (compact(with_source(connector="db9")), "unknown_connector"),
    "no position": (compact(with_source(sequence=None, lsn=None)), "bad_position"),
    "position beyond 64 bits": (compact(with_source(sequence=f'["100","{2**64}"]', lsn=2**64)), "bad_position"),
    "commit of 20 digits": (compact(with_source(sequence=f'["{10**20 - 1}","200"]')), "bad_position"),
    "negative position": (compact(with_source(sequence=None, lsn=-5)), "bad_position"),
    "position is a text": (compact(with_source(lsn="x")), "bad_position"),
    "no time": (compact(with_source(ts_us=None, ts_ms=None)), "bad_time"),
    "time beyond all": (compact(with_source(ts_us=2**63)), "bad_time"),
    "time of the year 10000": (compact(with_source(ts_us=253_402_300_800_000_000)), "bad_time"),
    "text for an int": (with_row(id="one"), "bad_type"),
    "fraction for a long": (with_row(big=1.5), "bad_type"),
    "boolean for a long": (with_row(big=True), "bad_type"),
    "number for a text": (with_row(name=5), "bad_type"),
    "object for a text": (with_row(name={"a": 1}), "bad_type"),
    "no base64": (with_row(amount="?!"), "bad_type"),
    "no timestamp": (with_row(at="yesterday"), "bad_type"),
    "day that is not": (with_row(at="2023-02-29T00:00:00Z"), "bad_type"),
    "int over 32 bits": (with_row(id=2**31), "out_of_range"),
    "long over 64 bits": (with_row(big=2**63), "out_of_range"),
    "long of 5,000 digits": (GOOD.replace(b'"big":5', b'"big":' + b"9" * 5_000), "out_of_range"),
    "decimal with too many digits": (
        with_row(amount=base64.b64encode((10**9).to_bytes(5, "big")).decode()),
        "out_of_range",
    ),
    "infinite timestamp": (with_row(at="infinity"), "out_of_range"),
    "key of another row": (with_row(id=2), "key_mismatch"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_bad_record_is_rejected_with_its_reason_among_good_ones(name: str) -> None:
    """The record goes to quarantine with a stable reason and a hint; the records around it go through."""
    value, reason = POISON[name]

    decoded = decode(GOOD, GOOD, value, GOOD)

    assert [reason] == reasons(decoded)
    assert [2] == [rejected.index for rejected in decoded.rejected]
    assert [100, 101, 103] == decoded.batch.offsets
    assert decoded.rejected[0].error.hint == REASONS[reason].hint != ""
    assert decoded.rejected[0].error.kind in {ErrorKind.POISON, ErrorKind.SCHEMA, ErrorKind.LIMIT}


@pytest.mark.parametrize("name", POISON)
def test_a_bad_record_is_rejected_as_the_first_and_with_a_schema_block_before(name: str) -> None:
    """Nothing needs to have been learned to see that a record is bad."""
    value, reason = POISON[name]

    assert [reason] == reasons(decode(value))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b'[{"field":["after"]}]', []),
        (
            b'[{"field":"after","fields":[{"field":"amount","type":"bytes","name":%b,"parameters":{"scale":"--2"}}]}]',
            [],
        ),
        (b'[{"field":"after","fields":[{"field":"amount","type":' + b"9" * 4_500 + b"}]}]", ["bad_schema"]),
    ],
)
def test_an_odd_schema_block_is_judged_as_any_record(fields: bytes, expected: list[str]) -> None:
    """Its record goes through or to quarantine, and takes nothing else along."""
    fields = fields.replace(b"%b", b'"org.apache.kafka.connect.data.Decimal"')
    odd = b'{"schema":{"type":"struct","fields":%b},"payload":%b}' % (fields, GOOD)
    decoded = decode(GOOD, odd, GOOD)

    assert expected == reasons(decoded)
    assert 3 - len(expected) == len(decoded.batch)


@pytest.mark.parametrize("form", ["%b", '{"payload":%b,"schema":{}}'])
def test_the_names_of_a_source_are_texts_or_nothing(form: str) -> None:
    """A number beyond all doubles stands where nobody reads it until a batch asks who sent it."""
    odd = GOOD.replace(b'"db":"d"', b'"db":1e999').replace(b'"name":"made"', b'"name":1e999')
    batch = decode(form.encode() % odd.replace(b'"schema":"public"', b'"schema":null')).batch

    assert ("postgresql", "", "made") == (batch.connector, batch.source_name, batch.source_table)


def test_messages_hold_no_value() -> None:
    """What an error says can be logged: names and places, never what stood in a row."""
    secret = "Geheimnis"
    decoded = decode(with_row(id=secret), with_row(at=secret), with_row(amount=secret), with_row(big=secret))

    assert 4 == len(decoded.rejected)
    assert not any(secret in str(rejected.error) for rejected in decoded.rejected)
    assert "column id" in str(decoded.rejected[0].error)


def test_ten_thousand_levels_are_not_slow() -> None:
    """A deep record costs no more than a long one."""
    start = time.thread_time()
    decode(*[POISON["deep arrays"][0]] * 20)

    assert time.thread_time() - start < 1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "tombstone"),
        (b"null", "tombstone"),
        (b'{"schema":null,"payload":null}', "tombstone"),
        (b'{"ts_ms":1}', "heartbeat"),
        (b'{"status":"BEGIN","id":"571:5","ts_ms":1,"event_count":null,"data_collections":null}', "transaction"),
        (
            compact(
                {"op": "m", "ts_ms": 1, "source": {}, "transaction": None, "message": {"prefix": "p", "content": ""}}
            ),
            "message",
        ),
        (
            compact({"source": {}, "ts_ms": 1, "databaseName": "", "schemaName": None, "ddl": "x", "tableChanges": []}),
            "schema_change",
        ),
        (
            b'{"id":"1","type":"COMPLETED","aggregate_type":"Initial Snapshot","additional_data":{},"timestamp":1}',
            "notification",
        ),
        (b'{"type":"execute-snapshot","data":{}}', "signal"),
    ],
)
def test_what_is_no_change_is_skipped_and_counted_by_name(value: bytes | None, name: str) -> None:
    """Records beside the changes of rows are neither changes nor faults."""
    decoded = decode(GOOD, value, GOOD)

    assert {name: 1} == decoded.skipped
    assert [100, 102] == decoded.batch.offsets


def test_a_change_has_the_contracts_forms() -> None:
    """Longs and decimals are text, times are ISO 8601 in UTC with microseconds, a null is a null."""
    decoded = decode(with_row(big=-(2**63), name=None), with_row(at="2024-02-29T13:45:06+02:00", amount="/w=="))

    assert {
        "id": 1,
        "name": None,
        "amount": "123.45",
        "big": "-9223372036854775808",
        "at": "2024-02-29T13:45:06.789123Z",
    } == after(decoded)
    assert {"id": 1, "name": "Ada", "amount": "-0.01", "big": "5", "at": "2024-02-29T11:45:06.000000Z"} == after(
        decoded, 1
    )
    assert ["0000" + "100".zfill(20) + "1" + "200".zfill(20)] * 2 == decoded.batch.positions
    assert ["2023-11-14T22:13:20.123456Z"] * 2 == decoded.batch.ts
    assert ["7", "7"] == decoded.batch.transactions
    assert ("postgresql", "made", "public.made") == (
        decoded.batch.connector,
        decoded.batch.source_name,
        decoded.batch.source_table,
    )


def test_null_absent_and_unavailable_are_kept_apart() -> None:
    """A null has its field, an unavailable column is named, an absent one is in neither."""
    absent = compact(envelope(after={name: value for name, value in ROW.items() if name != "big"}))
    decoded = decode(with_row(name=None), with_row(name=PLACEHOLDER), absent)

    assert [None, "-", "Ada"] == [after(decoded, i).get("name", "-") for i in range(3)]
    assert [[], ["name"], []] == decoded.batch.unavailable
    assert ["5", "5", "-"] == [after(decoded, i).get("big", "-") for i in range(3)]


def test_unknown_columns_are_dropped_and_named_or_quarantined() -> None:
    """The spec says what becomes of columns that it does not have."""
    more = with_row(extra="a:b", other={"x": [1]})
    ignored = decode(GOOD, more, more, with_row(third=1))
    refused = decode(GOOD, more, unknown_columns="quarantine")

    assert {"extra", "other", "third"} == ignored.unknown_columns
    assert [set(ROW)] * 4 == [set(after(ignored, i)) for i in range(4)]
    assert ["unknown_column"] == reasons(refused)


def test_unknown_columns_are_named_in_each_run() -> None:
    """A run that is decoded again, or a later one, says what the first did: a decoder learns columns only once."""
    decoder = format_of("debezium-json").decoder(TableEntry(spec=spec()), LimitsConfig())
    run = MadeRun([(b'{"id":1}', with_row(extra=1))])
    found = [decoder.decode(run, PartitionMemory()).unknown_columns for _ in range(2)]

    assert [{"extra"}] * 2 == found


def test_before_is_passed_on_only_where_the_source_logs_it() -> None:
    """A `before` that is not trusted is never seen downstream."""
    value = compact(envelope(before=ROW | {"name": "Old"}))

    assert [None] == decode(value).batch.befores
    assert "Old" == json.loads(encode_row(decode(value, before="full").batch.befores[0]))["name"]


def test_a_delete_has_no_row_and_its_key_is_compared_with_a_trusted_before_only() -> None:
    """The zero values in an untrusted `before` say nothing."""
    value = compact(envelope("d", None, before=ROW | {"id": 0}))

    assert ["delete"] == decode(value).batch.operations
    assert [None] == decode(value).batch.afters
    assert ["key_mismatch"] == reasons(decode(value, before="full"))


def test_a_delete_whose_key_holds_a_null_names_no_row() -> None:
    """`message.key.columns` beyond what the source logs of a deleted row (pg-message-key-columns)."""
    delete = compact(envelope("d", None, before=ROW | {"id": None}))
    insert = compact(envelope("c", ROW | {"id": None}))

    assert ["bad_key"] == reasons(decode(delete, key=b'{"id":null}'))
    assert [] == reasons(decode(delete, key=b'{"id":null}', before="full"))
    assert [] == reasons(decode(insert, key=b'{"id":null}'))


def test_a_null_key_is_taken_from_a_complete_row_and_counted() -> None:
    """A table with a key has one for each change, or the record is quarantined."""
    decoded = decode(GOOD, compact(envelope("d", None)), with_row(id=None), key=None)

    assert [{"id": 1}] == [json.loads(encode_row(key)) for key in decoded.batch.keys]
    assert {"key_from_row": 1} == decoded.noted
    assert ["no_key", "no_key"] == reasons(decoded)


def test_a_table_without_key_has_none() -> None:
    """Its records' keys are not even read."""
    assert [None] == decode_run(MadeRun([(b"\xff", GOOD)]), key=[]).batch.keys


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b'{"id":"x"}', "bad_key"),
        (b'{"customer":1}', "bad_key"),
        (b"{", "broken_json"),
        (b'{"id":1,"id":1}', "duplicate_keys"),
        (b"\xff", "not_utf8"),
        (b'{"id":2}', "key_mismatch"),
    ],
)
def test_a_bad_key_is_rejected(key: bytes, reason: str) -> None:
    """A record whose key cannot be read, or names another row, is not guessed at."""
    decoded = decode_run(MadeRun([(b'{"id":1}', GOOD), (key, GOOD), (b'{"id":1}', GOOD)]))

    assert [reason] == reasons(decoded)
    assert [100, 102] == decoded.batch.offsets


@pytest.mark.parametrize(
    "form", ['{"id":9}', '{"schema":{"type":"struct","fields":[{"type":"int32","field":"id"}]},"payload":{"id":9}}']
)
def test_a_change_of_key_names_the_other_key(form: str) -> None:
    """The delete of the old row carries `new_key`, the insert of the new one `old_key`."""
    run = MadeRun(
        [(b'{"id":1}', compact(envelope("d", None))), (b'{"id":1}', compact(envelope("c")))],
        {0: [("__debezium.newkey", form.encode())], 1: [("x", b""), ("__debezium.oldkey", form.encode())]},
    )
    batch = decode_run(run).batch

    assert [{"id": 9}, None] == [key and json.loads(encode_row(key)) for key in batch.new_keys]
    assert [None, {"id": 9}] == [key and json.loads(encode_row(key)) for key in batch.old_keys]


def test_a_text_full_of_json_does_not_hide_or_fake_a_key() -> None:
    """Colons and quotes inside values are not keys: only one of these records names a key twice."""
    texts = ['a":b', '{"id":1,"id":2}', ":", "::::", 'x\\":', "", "12:30"]
    values = [with_row(name=text) for text in texts]
    decoded = decode(*values, values[3].replace(b'"big":5', b'"big":5,"big":5'), *values)

    assert texts * 2 == [after(decoded, i)["name"] for i in range(14)]
    assert ["duplicate_keys"] == reasons(decoded)


def test_schema_blocks_say_how_columns_are_encoded_whatever_the_spec_thinks() -> None:
    """A block changes midway, is written in an odd order, and is left out again."""

    def block(seen: str, value: Any) -> dict[str, Any]:
        fields = [
            {"type": "int32", "field": "id"},
            {"type": "int64", "name": f"io.debezium.time.{seen}", "field": "seen"},
        ]
        row = {"type": "struct", "fields": fields, "field": "after"}
        return {"schema": {"type": "struct", "fields": [row]}, "payload": envelope(after={"id": 1, "seen": value})}

    one, two = block("Timestamp", 1_709_214_306_789), block("NanoTimestamp", 1_709_214_306_789_123_999)
    odd = {"payload": one["payload"], "schema": one["schema"]}
    bare = compact(envelope(after={"id": 1, "seen": 1_709_214_306_789_123}))
    columns = {"id": "int", "seen": "timestamp"}
    decoded = decode(
        compact(one),
        compact(one),
        compact(two),
        compact(odd),
        bare,
        compact(two),
        json.dumps(one).encode(),
        compact(two) + b"\n",
        columns=columns,
    )

    milli, micro = "2024-02-29T13:45:06.789000", "2024-02-29T13:45:06.789123"
    assert [milli, milli, micro, milli, micro, micro, milli, micro] == [
        after(decoded, i)["seen"] for i in range(len(decoded.batch))
    ]
    assert [] == decoded.rejected


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": {"type": "int", "encoding": "time.MicroTimestamp"}}, "id"),
        ({"id": "int", "at": {"type": "timestamp", "encoding": "time.MicroTimestmp"}}, "time.MicroTimestamp"),
        ({"id": "list<int>"}, "list"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_at_once(columns: dict[str, Any], words: str) -> None:
    """Before a record is read, with the column and the nearest right name."""
    with pytest.raises(ConfigurationError, match=words):
        decode(GOOD, columns=columns)


@pytest.mark.parametrize("placeholder", ["hex:zz", "hex:f", ""])
def test_a_placeholder_that_stands_for_nothing_is_refused_at_once(placeholder: str) -> None:
    """Bytes that are none; and an empty one would take every empty text for unavailable."""
    with pytest.raises(ConfigurationError, match="unavailable_placeholder"):
        decode(GOOD, unavailable_placeholder=placeholder)


def test_an_unknown_format_names_the_nearest() -> None:
    """So that a slip of the pen is seen."""
    with pytest.raises(ConfigurationError, match="did you mean 'debezium-json'"):
        format_of("debezum-json")
