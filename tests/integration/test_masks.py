"""Canaries in masked columns, amid records that cannot be read: no topic, store, file, log or page has one."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from redis import Redis

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from streams.apply import apply_folder
from tests.integration.one_table import OneTable, one_table
from tests.integration.stages import until_off_loop
from tests.oracles.topic import Record, read_records
from tests.services import Kafka, RedisServer

ROWS = 60
CANARY, NUMBER, BIRTHDAY = "canary-e5c1", 731_099_887_766_0000, "1931-07-13"
SEARCHED = [CANARY, str(NUMBER)[:12], BIRTHDAY]
TYPES = {
    "id": "long", "code": "string", "name": "string", "email": "string", "ssn": "string", "age": "int", "note": "json",
    "born": "string", "day": "date", "aliases": "list<string>", "ward": "string",
}  # fmt: skip
MASKS: dict[str, Any] = {
    "id": "token", "code": "hash", "name": "encrypt", "email": "token", "ssn": "drop", "age": "hash", "note": "hash",
    "born": "null", "day": {"how": "truncate", "to": "year"}, "aliases": "encrypt",
}  # fmt: skip
MASKED: dict[str, Any] = {
    name: {"type": type_, **({"mask": MASKS[name]} if name in MASKS else {})} for name, type_ in TYPES.items()
}
DOCUMENT = {"table": "people", "format": "debezium-json", "key": ["id", "code"], "columns": TYPES, "before": "full"}
VIEW = {"view": "person", "entity": "person", "emit": True, "columns": ["name", "email", "note", "day", "ward"]}
RULES = [
    {"rule": "came", "when": "op = 'insert'", "values": {"who": "after.name", "key": "key.code"}},
    {"rule": "moved", "kind": "change", "view": "person", "of": "ward", "values": {"mail": "before.email"}},
]
MORE = {
    "columns": MASKED, "features": [VIEW], "rules": RULES, "unknown_columns": "add", "type_changes": "quarantine",
    "masks": {"unknown_columns": "hash"},
}  # fmt: skip


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return a row of which nobody may see more than the ward and the year."""
    return {
        "id": NUMBER + number, "code": f"{CANARY}-code-{number}", "name": f"{CANARY} name", "ssn": f"{CANARY}-ssn",
        "email": f"{CANARY}@example.org", "age": 4711, "note": json.dumps({"diagnosis": CANARY}), "born": BIRTHDAY,
        "day": -14_052, "aliases": [CANARY, "x"], "ward": "icu", **more,
    }  # fmt: skip


class Source:
    """What the source's connector writes."""

    def __init__(self, table: OneTable) -> None:
        self._table, self.lsn, self.changes = table, 0, 0

    def change(self, op: str, after: Any, before: Any = None, *, counts: bool = True, key: Any = None) -> None:
        """Write a change; one that cannot be read does not count."""
        self.lsn, self.changes = self.lsn + 1, self.changes + counts
        source = {
            "connector": "postgresql", "name": "clinic", "ts_us": int(time.time() * 1e6), "snapshot": "false",
            "sequence": f'["{self.lsn - 1}","{self.lsn}"]', "schema": "public", "table": "people", "txId": 7,
            "db": "d", "lsn": self.lsn,
        }  # fmt: skip
        value = json.dumps({"before": before, "after": after, "source": source, "op": op})
        of = key or {name: (after or before)[name] for name in DOCUMENT["key"]}
        self._table.send(of["id"] % 4, json.dumps(of).encode(), value.encode())

    def flow(self) -> None:
        """Write rows of every kind, and among them seven records that cannot be read."""
        for number in range(ROWS):
            self.change("c", row(number))
        for number in range(0, ROWS, 2):
            self.change("u", row(number, ward="home"), row(number))
        for number in range(0, ROWS, 5):
            self.change("d", None, row(number))
        for number in range(0, ROWS, 7):
            moved = row(number + 1_000)
            self.change("d", None, row(number))
            self.change("c", moved)
        self.change("c", row(2_000, diary=f"{CANARY} dear diary"))
        for number in range(3_000, 3_003):
            self.change("c", row(number, age=f"{CANARY}-age"), counts=False)
        self.change("x", row(3_003), counts=False)
        self.change("u", row(3_004), row(3_004), counts=False, key={"id": 1, "code": f"{CANARY}-another"})
        self._table.send(0, f'{{"id":"{CANARY}"'.encode(), b"{" + CANARY.encode())
        self._table.send(1, None, f"\xff{CANARY}".encode("latin-1"))
        self._table.flush()


def every_record(bootstrap: str, prefix: str) -> Iterator[Record]:
    """Yield all records of our topics and of the broker's own topic of offsets, aborted ones too, as they lie there."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "nobody", "isolation.level": "read_uncommitted",
        "enable.auto.commit": False, "enable.partition.eof": True,
    })  # fmt: skip
    try:
        topics = consumer.list_topics(timeout=30).topics
        ours = [name for name in topics if name.startswith(f"{prefix}.") or name == "__consumer_offsets"]
        left = {(topic, number) for topic in ours for number in topics[topic].partitions}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in left])
        while left:
            message = consumer.poll(30)
            assert message is not None, f"the broker does not give {sorted(left)[:5]}"
            at, error = (message.topic(), message.partition()), message.error()
            if error is None:
                headers: Any = tuple(message.headers() or ())
                yield Record(str(at[0]), at[1] or 0, message.offset() or 0, message.key(), message.value(), headers)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error  # noqa: SLF001 - its name
                left.discard(at)
    finally:
        consumer.close()


def bytes_of(record: Record) -> bytes:
    """Return all that is in a record."""
    headers = b"".join(name.encode() + (text or b"") for name, text in record.headers)
    return b"\n".join([record.key or b"", record.value or b"", headers])


def stored(url: str, prefix: str) -> Iterator[bytes]:
    """Yield all keys and values that Redis has of an installation."""
    with Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1_000):
            read = {
                b"hash": client.hgetall, b"string": client.get, b"set": client.smembers, b"stream": client.xrange,
                b"zset": lambda name: client.zrange(name, 0, -1, withscores=True),
                b"list": lambda name: client.lrange(name, 0, -1),
            }[client.type(key)]  # fmt: skip
            yield key + repr(read(key)).encode()


def lying(folder: Path) -> Iterator[bytes]:
    """Yield the bytes of each file below a folder; of Parquet, which is compressed, what it says as well."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()
            if path.suffix == ".parquet":
                yield repr(pq.read_table(path).to_pylist()).encode()


def leaks(place: str, pieces: Iterable[bytes]) -> list[str]:
    """Return which of what is searched for a place has; as base64 too, in all three ways that it may stand there."""
    needles = {word.encode(): word for word in SEARCHED}
    for word in SEARCHED:
        for shift in range(3):
            needles[base64.b64encode(b"." * shift + word.encode())[4 * bool(shift) : -4]] = f"{word} as base64"
    return sorted({f"{place}: {what}" for piece in pieces for needle, what in needles.items() if needle in piece})


def pages(folder: Path) -> Iterator[bytes]:
    """Yield what each running stage serves."""
    for file in sorted((folder / "state").glob("*.json")):
        url = json.loads(file.read_text())["url"]
        for page in ("metrics", "status", "healthz", "readyz", ""):
            with urllib.request.urlopen(f"{url}/{page}", timeout=20) as answer:  # noqa: S310 - an address of our own
                yield answer.read()


@pytest.fixture
def table(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Iterator[OneTable]:
    """An installation whose table has masks; the key is in a file."""
    (tmp_path / "secret").write_text("k" * 40)
    settings = f"masks: {{keys: {{default: 'file:{tmp_path / 'secret'}'}}}}\n"
    with one_table(kafka, redis_server, tmp_path, DOCUMENT, settings) as made:
        made.spec(**MORE)
        yield made


async def test_no_canary_is_found_anywhere(table: OneTable, capsys: pytest.CaptureFixture[str]) -> None:
    """While they flow, fail, are sent again in vain, and are sent again once the spec is mended."""
    source, said = Source(table), list[str]()

    def count(name: str) -> int:
        return len(read_records(table.kafka, f"{table.prefix}.{name}"))

    async def verb(*arguments: str) -> str:
        await table.verb(*arguments)
        out, err = capsys.readouterr()
        said.extend([out, err])
        return out

    with table.supervised():
        await asyncio.to_thread(source.flow)
        await until_off_loop(lambda: count("changes.people") >= source.changes, "all changes")
        await until_off_loop(lambda: count("quarantine") >= 7, "what cannot be read")
        await verb("quarantine", "redrive", "--until", "2100-01-01")
        await verb("quarantine", "redrive", "--until", "2100-01-01", "--anyway")
        await until_off_loop(lambda: count("quarantine") >= 14, "it failed again")
        mended = {**MASKED, "age": {"type": "string", "mask": "hash"}}
        table.spec(**{**MORE, "columns": mended})
        await asyncio.to_thread(apply_folder, table.config, table.folder / "tables")
        sent = json.loads(await verb("quarantine", "redrive", "--kind", "bad_type", "--json"))
        assert 3 == sent["total"], sent
        await until_off_loop(lambda: count("changes.people") >= source.changes + 3, "what was mended")
        await until_off_loop(lambda: table.lake()[0] >= source.changes + 3, "all in the lake")
        await until_off_loop(lambda: count("features.person") > 0 < count("alerts"), "updates and alerts")
        for line in (
            "status", "status --json", "tables list --json", "tables show people", "tables export people", "check",
            "quarantine list --json", "masks keys", "lake verify people",
        ):  # fmt: skip
            await verb(*line.split())
        served = await asyncio.to_thread(lambda: list(pages(table.folder)))

    assert len(served) >= 4 * 5, "every stage was asked"
    redriven = read_records(table.kafka, f"{table.prefix}.redrive")
    assert 7 + 3 == len(redriven)
    in_topics = (bytes_of(record) for record in every_record(table.kafka, table.prefix))
    found = leaks("a topic", in_topics) + leaks("Redis", stored(table.redis, table.prefix))
    found += leaks("the lake", lying(table.folder / "lake")) + leaks("a state file", lying(table.folder / "state"))
    found += leaks("a page", served) + leaks("what verbs said", [text.encode() for text in said])
    found += leaks("the log", [(table.folder / "run.log").read_bytes()])
    assert [] == found
    assert set(SEARCHED[:2]) <= {
        line.partition(": ")[2] for line in leaks("the source", map(bytes_of, read_records(table.kafka, table.topic)))
    }, "the search finds what is there"
    check_who_has_the_key(table, capsys)


def check_who_has_the_key(table: OneTable, capsys: pytest.CaptureFixture[str]) -> None:
    """See that encrypted values and sealed records are read by who has the key, and by nobody else."""
    lines = table.folder / "changes.jsonl"
    changes = [json.loads(each.value or b"") for each in read_records(table.kafka, table.output)]
    lines.write_text("\n".join(json.dumps(change["after"]) for change in changes if change["after"]) + "\n")
    config = ["--config", str(table.file)]

    assert ExitCode.OK == entry.run(["masks", "decrypt", str(lines), *config])
    decrypted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {f"{CANARY} name"} == {after["name"] for after in decrypted}
    assert {"1931-01-01"} == {after["day"] for after in decrypted}
    (diary,) = (after["diary"] for after in decrypted if "diary" in after)
    assert 64 == len(diary)
    assert ExitCode.OK == entry.run(["quarantine", "export", "--kind", "unknown_op", "--all", *config])
    assert CANARY in base64.b64decode(json.loads(capsys.readouterr().out.splitlines()[0])["value"]).decode()
    other = table.folder / "other.yaml"
    other.write_text(table.file.read_text().replace(f"{table.folder / 'secret'}", f"{table.folder / 'another'}"))
    (table.folder / "another").write_text("a" * 40)
    assert ExitCode.FOUND == entry.run(["masks", "decrypt", str(lines), "--config", str(other)])
    assert CANARY not in capsys.readouterr().out


async def test_no_canary_gets_out_by_way_of_a_table_beside(table: OneTable, capsys: pytest.CaptureFixture[str]) -> None:
    """The first of the topic's tables by name has no masks; what either refuses, and what is parked, is sealed."""
    source = Source(table)
    beside: dict[str, Any] = {
        "table": "beds",
        "topics": [table.topic],
        "beside": "people",
        "format": "debezium-json",
        "key": [],
    }
    beside |= {"columns": {"ward": "int"}, "unknown_columns": "ignore", "type_changes": "quarantine"}
    (table.folder / "tables" / "beds.yaml").write_text(json.dumps(beside))

    def count(name: str) -> int:
        return len(read_records(table.kafka, f"{table.prefix}.{name}"))

    with table.supervised():
        source.change("c", row(1))
        source.change("c", row(2, age=f"{CANARY}-age", ward=7), counts=False)
        table.flush()
        await until_off_loop(lambda: count("quarantine") >= 2, "one that each of them refuses")
        await table.verb("tables", "pause", "beds")
        sent = itertools.count(3)

        def is_parked() -> bool:
            source.change("c", row(next(sent)))  # workers follow within seconds
            table.flush()
            return bool(count("parked.beds"))

        await until_off_loop(is_parked, "one that waits for the other")
        await table.verb("tables", "resume", "beds")
        refused = next(sent) - 1  # each by one of the two
        await until_off_loop(lambda: count("quarantine") >= refused, "what was parked is refused as well")
        await table.verb("quarantine", "redrive", "--until", "2100-01-01", "--anyway")
        await until_off_loop(lambda: count("quarantine") >= 2 * refused, "they failed again")

    capsys.readouterr()
    assert refused == count("redrive")
    assert [] == leaks("a topic", (bytes_of(record) for record in every_record(table.kafka, table.prefix)))
    assert ExitCode.OK == entry.run(["quarantine", "export", "--table", "beds", "--all", "--config", str(table.file)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(CANARY in base64.b64decode(line["value"]).decode() for line in lines)
