"""Which format records are in, as FORMATS of the sources look; and what says nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.formats import FORMATS
from connectors.formats.recognition import LOOKS_MAX, Recognizer, look, recognize
from tests.unit.formats.captures import FOLDER, records, runs
from tests.unit.formats.made import GOOD, compact

SOURCE = {"connector": "postgresql", "schema": "public", "table": "t"}
DOCUMENTS: list[tuple[str, Any]] = [
    ("debezium-json", {"op": "c", "source": SOURCE, "before": None, "after": {}}),
    ("debezium-json", {"op": "t", "source": SOURCE}),
    ("debezium-json", {"schema": {}, "payload": {"op": "d", "source": SOURCE, "before": {}}}),
    ("debezium-mongodb", {"op": "c", "source": {"connector": "mongodb"}, "after": "{}"}),
    ("debezium-flat", {"id": 1, "__op": "c"}),
    ("debezium-flat", {"id": 1, "__deleted": "true"}),
    ("debezium-flat", {"id": 1, "name": "Ada"}),
    ("cloudevents", {"id": "a", "specversion": "1.0", "iodebeziumop": "r", "data": {"after": {}}}),
    ("dms", {"data": {}, "metadata": {"record-type": "data", "operation": "insert"}}),
    ("dms", {"control": {}, "metadata": {"record-type": "control", "operation": "drop-table"}}),
    ("dms", {"metadata": {"record-type": "control", "operation": "create-table"}}),
    ("maxwell", {"database": "d", "table": "t", "type": "insert", "ts": 1, "data": {}}),
    ("maxwell", {"database": "d", "table": "t", "type": "table-alter", "ts": 1, "old": {}, "def": {}, "sql": ""}),
    ("canal", {"database": "d", "table": "t", "type": "INSERT", "ts": 1, "es": 1, "isDdl": False, "data": [{}]}),
    ("goldengate", {"table": "A.B", "op_type": "I", "op_ts": "2020-05-13 15:40:06.000000", "pos": "1", "after": {}}),
    ("qlik", {"magic": "atMSG", "type": "DT", "headers": None, "message": {"data": {}}}),
    ("sequin", {"record": {}, "action": "insert", "metadata": {"commit_timestamp": "", "table_name": "t"}}),
    ("dynamodb", {"eventName": "INSERT", "dynamodb": {}}),
    ("s3", {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}, "object": {}}}]}),
]
SILENT: list[Any] = [
    *({"ts_ms": 1}, {"status": "BEGIN", "id": "5:1", "event_count": None}, {"schema": {}, "payload": None}, [], 7, {}),
    {"op": "m", "source": SOURCE, "message": {"prefix": "p", "content": ""}},
    {"source": SOURCE, "ddl": "create table t", "databaseName": "d"},
]


@pytest.mark.parametrize(("format_name", "document"), DOCUMENTS)
def test_each_source_has_its_look(format_name: str, document: Any) -> None:
    """Also behind a schema block."""
    assert format_name == look(compact(document))
    assert format_name == look(compact(document if "payload" in document else {"schema": {}, "payload": document}))


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\x00\x00", *map(compact, SILENT)], ids=range(14)
)
def test_what_is_no_row_says_nothing(value: bytes | None) -> None:
    """Nor does what is broken, or too short to be framed."""
    assert look(value) is None


@pytest.mark.parametrize(
    "value", [b"\x00\x00\x00\x00\x05\x02ab", b"\x01" + bytes(17), b"\x03\x00" + bytes(17), b"\x03\x05" + bytes(17)]
)
def test_bytes_of_a_registry_are_told_by_their_first(value: bytes) -> None:
    """Confluent's and AWS Glue's."""
    assert "debezium-avro" == look(value)


@pytest.mark.parametrize(
    "header",
    [
        ("__value_schema_id", b"\x00\x00\x00\x00\x05"),
        ("__value_schema_id", b"no id"),
        ("apicurio.value.globalId", bytes(8)),
    ],
)
def test_a_header_with_the_id_of_a_schema_tells_too(header: tuple[str, bytes]) -> None:
    """Whatever the value begins with; a key's says nothing."""
    assert "debezium-avro" == look(b"\x02", [("x", None), header])
    assert look(b"\x02", [("__key_schema_id", b"\x00\x00\x00\x00\x05")]) is None


def one(value: bytes | None, topic: str = "t") -> OneRecord:
    """Return a record."""
    return OneRecord(topic, 0, 0, None, value, ())


def test_the_first_record_that_says_it_decides() -> None:
    """Of some records, and topic by topic."""
    recognizer = Recognizer()
    told = [recognizer.format_of(one(value)) for value in (b'{"ts_ms":1}', None, GOOD, b'{"ts_ms":1}')]
    recognizer.format_of(one(b'{"ts_ms":1}', "side"))

    assert "debezium-json" == recognize([one(None), one(GOOD), one(b'{"a":1}')])
    assert recognize([one(None)]) is None
    assert [None, None, "debezium-json", "debezium-json"] == told
    assert {"t": "debezium-json", "side": None} == recognizer.formats


def test_looking_ends() -> None:
    """A topic of heartbeats is not decoded twice for ever."""
    recognizer = Recognizer()
    for _ in range(LOOKS_MAX):
        recognizer.format_of(one(b'{"ts_ms":1}'))

    assert recognizer.format_of(one(GOOD)) is None


@pytest.mark.parametrize("case", sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
def test_captures_are_what_they_are(case: str) -> None:
    """Every topic of a real connector: its format, or nothing at all."""
    recognizer = Recognizer()
    for topic in {record["topic"] for record in records(case)}:
        for run in runs(case, topic):
            for value in run.values():
                recognizer.format_of(one(value, topic))

    kinds = {"avro": "debezium-avro", "cloudevents": "cloudevents", "maxwell": "maxwell", "unwrap": "debezium-flat"}
    words = case.replace("avro-twin", "").split("-")
    expected = next((kind for word, kind in kinds.items() if word in words), "debezium-json")

    assert set(recognizer.formats.values()) - {None} == {expected}


def test_what_is_built_is_recognised() -> None:
    """A format that a spec can name has a line; but `json`, of which only people know what it means."""
    assert FORMATS.keys() == {name for name, _ in DOCUMENTS} | {"debezium-avro", "json"}
