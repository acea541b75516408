"""Changes as Avro by a registry that others have made: it judges what a subject takes, and its answers are real."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fastavro
import pytest
from confluent_kafka import Producer

from connectors.formats.avro import AvroDecoder
from connectors.formats.reasons import Rejection
from connectors.registry import Registry
from connectors.registry.subjects import Subjects
from connectors.wire import IdKind, Registered, SchemaId
from schemas.config import LimitsConfig, RegistryConfig, read_config
from schemas.errors import TableStopped
from streams.apply import apply_folder, plan_folder
from tests.integration.one_table import one_table
from tests.integration.stages import COLUMNS, Installation, event, paused, until, until_off_loop
from tests.integration.test_avro_registry_killed import Source
from tests.oracles.topic import Record, read_records
from tests.services import Apicurio, Kafka, RedisServer, Services
from tests.workloads.avro_customers import DOCUMENT, ENVELOPE, ENVELOPE_WITH_EXTRA, KEY

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
ROWS, PARTITIONS, LARGE = 12, 2, 2**40
AVRO = {"output": {"format": "avro"}}
AGED = {**COLUMNS, "age": "int"}


class Avro(Installation):
    """An installation whose table is Avro, and a subscriber: who has Kafka, the registry and an Avro library."""

    def __init__(self, kafka: Kafka, redis: RedisServer, folder: Path, registry: Apicurio) -> None:
        """Make the source's topic; no subject is there yet."""
        super().__init__(kafka.address, redis.address, folder)
        self.registry = registry
        with self.file.open("a") as file:
            file.write(f"registry: {{urls: ['{registry.url}'], timeout_seconds: 2}}\n")
        self.config = read_config(self.file.read_text(), name="headgate.yaml")
        self.spec(**AVRO, columns=AGED)
        self.make(PARTITIONS)
        self._schemas: dict[int, Any] = {}

    def put(self, rows: int, **more: Any) -> None:
        """Insert so many rows with these columns besides."""
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})
        for row in range(self.rows, self.rows + rows):
            document = json.loads(event(row))
            document["after"] |= more
            producer.produce(self.topic, json.dumps(document), b'{"id":%d}' % row, row % PARTITIONS)
        assert producer.flush(30) == 0, "every record was delivered"
        self.rows += rows

    def records(self) -> list[Record]:
        """Return what stands on the output topic."""
        return read_records(self.kafka, self.output)

    async def written(self) -> list[Record]:
        """Wait until each row is on the output topic, and is so once."""
        await until_off_loop(lambda: len(self.records()) >= self.rows, f"{self.rows} changes")
        records = await asyncio.to_thread(self.records)
        assert sorted(range(self.rows)) == sorted(self.read(each)["after"]["id"] for each in records)
        return records

    def read(self, record: Record, reader: Any = None) -> dict[str, Any]:
        """Return a change by the schema of its id, into the reader's schema where one is given."""
        value = record.value or b""
        assert value[:1] == b"\x00"
        stream = BytesIO(value[5:])
        found: Any = fastavro.schemaless_reader(stream, self.schema(record), reader)
        assert stream.read() == b""
        return dict(found)

    def schema(self, record: Record) -> Any:
        """Return the schema of a change, as the registry has it."""
        number = int.from_bytes((record.value or b"")[1:5], "big")
        if number not in self._schemas:
            status, document = self.registry.ask("GET", f"/schemas/ids/{number}")
            assert status == 200
            self._schemas[number] = fastavro.parse_schema(json.loads(document["schema"]))
        return self._schemas[number]

    def versions(self) -> list[int]:
        """Return the versions of the subject of its values."""
        status, document = self.registry.ask("GET", f"/subjects/{self.output}-value/versions")
        return list(document) if status == 200 else []

    def quarantined(self) -> list[Record]:
        """Return what is in quarantine."""
        return read_records(self.kafka, f"{self.prefix}.quarantine")


@pytest.fixture
def made(kafka: Kafka, redis_server: RedisServer, tmp_path: Path, apicurio: Apicurio) -> Iterator[Avro]:
    """A table that is Avro, of a registry that does not know it."""
    found = Avro(kafka, redis_server, tmp_path, apicurio)
    yield found
    found.close()


async def written_as(made: Avro, columns: Mapping[str, str], **more: Any) -> Record:
    """Have the table of these columns, and rows of it written; return the last of them."""
    made.spec(**AVRO, columns=columns)
    await asyncio.to_thread(plan_folder, made.config, made.folder / "tables")
    made.put(ROWS, **more)
    async with made.running("normalize"):
        return max(await made.written(), key=lambda record: made.read(record)["after"]["id"])


async def test_the_registry_keeps_the_subjects_of_a_table_and_takes_what_each_reader_reads(made: Avro) -> None:
    """A column more, one that is wider, one that is gone: every version reads every other, as the registry says."""
    first = await written_as(made, AGED, age=7)
    for side in ("key", "value"):
        kept = made.registry.ask("GET", f"/config/{made.output}-{side}")
        assert (200, {"compatibilityLevel": "FULL_TRANSITIVE"}) == kept
    wider = await written_as(made, {**COLUMNS, "age": "long", "ward": "string"}, age=LARGE, ward="north")
    fewer = await written_as(made, {**COLUMNS, "ward": "string"}, ward="south")

    assert 3 == len(made.versions())
    rows = [made.read(each)["after"] for each in (first, wider, fewer)]
    assert {"id": ROWS - 1, "name": f"n{ROWS - 1}", "age": 7} == rows[0]
    assert {"id": 2 * ROWS - 1, "name": f"n{2 * ROWS - 1}", "age": LARGE, "ward": "north"} == rows[1]
    assert {"id": 3 * ROWS - 1, "name": f"n{3 * ROWS - 1}", "ward": "south"} == rows[2]
    for record in (first, wider, fewer):
        row = made.read(record)["after"]
        for reader in map(made.schema, (first, wider, fewer)):
            read = made.read(record, reader)["after"]
            assert read == {name: row.get(name) for name in read}


async def test_what_the_registry_does_not_take_is_refused_before_anything_is_written(made: Avro) -> None:
    """By `plan` and by `apply`, with its reason; a table that comes to it while it runs is paused."""
    await written_as(made, AGED, age=7)
    numbers = {**AGED, "name": "long"}
    made.spec(**AVRO, columns=numbers)
    for attempt in (plan_folder, apply_folder):
        with pytest.raises(TableStopped, match=f"{made.output}-value does not take") as caught:
            await asyncio.to_thread(attempt, made.config, made.folder / "tables")
        assert "schema_incompatible" == caught.value.reason
        says = "; Incompatible artifact" if made.registry.is_ours else ""  # Apicurio 3 says nothing to who asks
        assert f"column name is string there and long here{says}" in caught.value.message
    assert "string" == str(made.registered().columns["name"].type)
    assert 1 == len(made.versions())

    made.spec(**AVRO, columns=AGED, type_changes="text")
    async with made.running("normalize") as workers:
        made.put(1, age="seven")
        status = workers["normalize"]
        await until(lambda: any("does not take" in why for why in paused(status)), "the table is paused")
        (why,) = paused(status)
        assert "column age is int there and string here; Incompatible artifact" in why
    assert 1 == len(made.versions())
    assert ROWS == len(made.records())
    assert [] == made.quarantined()

    made.registry.ask("DELETE", f"/subjects/{made.output}-value")  # what the hint offers
    made.spec(**AVRO, columns=numbers)
    await asyncio.to_thread(plan_folder, made.config, made.folder / "tables")


async def test_a_registry_that_is_killed_while_changes_flow_is_waited_for(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path, apicurio: Apicurio, services: Services
) -> None:
    """A column comes while it is away: its schema is registered, and read at each end, once it is back."""
    registry = apicurio if apicurio.is_ours else services.registry(private=True)
    made = Avro(kafka, redis_server, tmp_path, registry)
    made.spec(**AVRO, columns=AGED, unknown_columns="add")
    made.put(ROWS, age=7)
    async with made.running("normalize", "features", "lake") as workers:
        await made.written()
        registry.kill()
        made.put(ROWS, age=7, ward="north")
        status = workers["normalize"].host.status
        await until(lambda: "does not answer" in json.dumps(status()), "the stage says what it waits for")
        assert "waiting" == status()["state"]
        assert ROWS == len(await asyncio.to_thread(made.records))
        await asyncio.to_thread(registry.start)
        records = await made.written()
        await until_off_loop(lambda: made.features() == 2 * ROWS, "Redis has all")
        await until_off_loop(lambda: made.lake()[0] == 2 * ROWS, "the lake has all")
        await until(lambda: status()["state"] == "running", "the stage runs again")

    assert ROWS == sum(made.read(each)["after"].get("ward") == "north" for each in records)
    assert 2 == len(made.versions())
    assert [] == made.quarantined()
    made.close()


async def test_records_of_a_source_are_read_by_its_own_api(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path, apicurio: Apicurio
) -> None:
    """By the ids of contents, which its converters write, too; only the record of an id that it denies is kept back."""
    settings = f"registry: {{urls: ['{apicurio.own_url}'], api: apicurio, ids: content}}\n"
    with one_table(kafka, redis_server, tmp_path, DOCUMENT, settings) as table:
        source = Source(table, apicurio)
        source.register(KEY, ENVELOPE, ENVELOPE_WITH_EXTRA)
        source.play(ENVELOPE, 0, ROWS)
        source.send_denied(1)
        source.play(ENVELOPE_WITH_EXTRA, ROWS, ROWS)
        async with table.running("normalize", "features", "lake"):
            await table.until_quiet(source.rows, source.changes)
        await asyncio.to_thread(table.check_ends, source.rows, source.changes)

        entries = await asyncio.to_thread(table.quarantined)
        assert ["unknown_schema"] == [entry["reason"] for entry in entries]


@pytest.mark.parametrize("subject", ["real.dots-value", "real/slash and blank", "real%2Fpercent", "réal"])
def test_subjects_of_any_name_are_kept_asked_and_read(apicurio: Apicurio, subject: str) -> None:
    """Ours have the letters of a topic; those that a schema refers to have any."""
    base = {"type": "record", "name": f"a{subject.encode().hex()}.Base", "fields": [{"name": "n", "type": "int"}]}
    outer = {"type": "record", "name": "b.Outer", "fields": [{"name": "base", "type": base["name"]}]}
    subjects = Subjects(RegistryConfig(urls=[apicurio.url]))

    assert subjects.refusal(subject, base) is None
    number = subjects.register(subject, base)
    assert number == subjects.register(subject, base)
    assert subjects.refusal(subject, {**base, "fields": [{"name": "n", "type": "string"}]})
    document = {
        "schema": json.dumps(outer),
        "references": [{"name": base["name"], "subject": subject, "version": 1}],
    }
    status, answer = apicurio.ask("POST", f"/subjects/{quote(f'outer of {subject}', safe='')}/versions", document)
    assert 200 == status

    for url, api in ((apicurio.url, "confluent"), (apicurio.own_url, "apicurio")):
        config = RegistryConfig(urls=[url], api=api, ids="content")  # type: ignore[arg-type]
        found = Registry(config).schema(SchemaId(IdKind.NUMBER, answer["id"]))
        decoder = AvroDecoder(found.text, found.references, limits=LimitsConfig())  # 3.3 writes the text anew
        assert {"base": {"n": 3}} == decoder.decode(b"\x06")


@pytest.mark.parametrize("kind", [IdKind.NUMBER, IdKind.GLOBAL, IdKind.CONTENT])
def test_an_id_that_it_does_not_have_is_denied(apicurio: Apicurio, kind: IdKind) -> None:
    """That is no registry that is away: the record goes to quarantine."""
    own = kind is not IdKind.NUMBER
    config = RegistryConfig(urls=[apicurio.own_url if own else apicurio.url], api="apicurio" if own else "confluent")

    with pytest.raises(Rejection, match="unknown_schema"):
        Registry(config).schema(SchemaId(kind, 999_999))


@pytest.mark.parametrize("ids", ["global", "content"])
def test_a_json_schema_is_one_by_either_of_its_numbers(apicurio: Apicurio, ids: Any) -> None:
    """Its own API says no kind beside it."""
    text = json.dumps({"type": "object", "properties": {"id": {"type": "integer"}}})
    assert 200 == apicurio.ask("POST", f"/subjects/json-{ids}/versions", {"schema": text, "schemaType": "JSON"})[0]
    versions = apicurio.own_url + f"/groups/default/artifacts/json-{ids}/versions/1/meta"
    with urllib.request.urlopen(versions) as meta:  # noqa: S310
        number = json.load(meta)[f"{ids}Id"]

    config = RegistryConfig(urls=[apicurio.own_url], api="apicurio", ids=ids)
    assert Registered("JSON", text) == Registry(config).schema(SchemaId(IdKind.NUMBER, number))
