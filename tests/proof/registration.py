"""Specs of many tables applied onto two running workers: how long it takes, and that nobody is lost or notices.

python -m tests.proof.registration --tables 150 --seed 7

Topics hold rows before their tables are known; rows go on being written to all of them meanwhile. One table is changed
so that its readers would break, gets another version beside it, and one is removed and registered again.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from schemas.errors import SourceUnavailable
from tests.oracles import Shape, Verdict, check_streams, read_records, require, to_change
from tests.oracles.topic import Record
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.ddl import processes, same_workers
from tests.services import Kafka, RedisServer, wait_until
from tests.unit.streams.changing import envelope
from tests.workloads.installation import ROOT, SECRET, Installation
from tests.workloads.webhook import Webhook

PARTITIONS = 2
WORKERS = 2
APPLY_SECONDS, FLOW_SECONDS = 10.0, 10.0  # what is promised
DEADLINE_SECONDS = 180.0
COLUMNS = {"id": "long", "name": "string", "visits": "int"}
LATE = "t001"  # gets another version beside it
GONE = "t002"  # is removed and comes back


def document(table: str, topic: str, **more: Any) -> dict[str, Any]:
    """Return a table's spec."""
    return {"table": table, "topics": [topic], "key": ["id"], "columns": COLUMNS, "lake": {"enabled": False}, **more}


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb ended with: its exit code, how long it took, what it printed, and what it said beside that."""

    code: int
    seconds: float
    told: str
    said: str


def tables_verb(installation: Installation, *words: str) -> Done:
    """Run `headgate tables …` of an installation."""
    command = [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py"), "tables", *words]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--config", "headgate.yaml"], cwd=installation.folder, check=False, capture_output=True,
        text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    seconds = time.monotonic() - began
    print(f"headgate tables {' '.join(words)}: {done.returncode} after {seconds:.1f} s", flush=True)
    return Done(done.returncode, seconds, done.stdout, done.stderr)


class Source:
    """Topics with a table each, and the rows that each was sent."""

    def __init__(self, kafka: str, tables: Sequence[str], seed: int) -> None:
        """Make the topics."""
        self.tables, self.sent = tables, Counter[tuple[str, int]]()
        self._chance, self._rows = random.Random(seed), 0
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
        TopicAdmin(ClientSettings(bootstrap=kafka)).create_all(
            {self.topic(table): TopicSettings(partitions=PARTITIONS) for table in tables}
        )

    def topic(self, table: str) -> str:
        """Return the topic of a table."""
        return f"source.public.{table}"

    def write(self, rows: int, *, tables: Sequence[str] = ()) -> None:
        """Write so many new rows to each topic, in an order of chance."""
        for table in self._chance.sample(list(tables or self.tables) * rows, rows * len(tables or self.tables)):
            self._rows += 1
            row = {"id": self._rows, "name": f"n{self._rows}", "visits": self._chance.randrange(100)}
            value = envelope(row, lsn=self._rows, at_ms=int(time.time() * 1000))
            self._producer.produce(self.topic(table), value, b'{"id":%d}' % self._rows, self._rows % PARTITIONS)
            self._producer.poll(0)
            self.sent[table, self._rows] += 1
        assert self._producer.flush(60) == 0, "every record was delivered"

    def count(self, table: str) -> int:
        """Return how many rows a table was sent."""
        return sum(n for (name, _), n in self.sent.items() if name == table)


class Bench:
    """An installation with its source, and the command line to it."""

    def __init__(self, installation: Installation, source: Source) -> None:
        """Look from outside."""
        self.installation, self.source = installation, source
        self.admin = TopicAdmin(ClientSettings(bootstrap=installation.kafka))

    def verb(self, *words: str) -> tuple[int, float, str]:
        """Run `headgate tables …`; return exit code, seconds and what it printed."""
        done = tables_verb(self.installation, *words)
        return done.code, done.seconds, done.told + done.said

    def write(self, table: str, **more: Any) -> None:
        """Write a table's spec."""
        text = json.dumps(document(table, **{"topic": self.source.topic(table), **more}))
        (self.installation.folder / "tables" / f"{table}.yaml").write_text(text)

    def emitted(self, tables: Sequence[str]) -> dict[str, int]:
        """Return about how many changes each output topic has: markers of transactions count as well."""
        topics = {self.installation.changes_topic(table): table for table in tables}
        admin = TopicAdmin(ClientSettings(bootstrap=self.installation.kafka))  # one that was told "unknown" believes it
        found = dict.fromkeys(tables, 0)
        try:
            ends = admin.watermarks_now([(topic, number) for topic in topics for number in range(PARTITIONS)])
        except SourceUnavailable:  # one of them is being made
            return found
        for (topic, _), (_, high) in ends.items():
            found[topics[topic]] += high
        return found

    def workers_have(self, table: str) -> bool:
        """Say whether all workers of NORMALIZE read a table."""
        told = [{row["table"] for row in status["tables"]} for status in self.installation.statuses("normalize")]
        return len(told) == WORKERS and all(table in tables for tables in told)

    def end_of_tables(self) -> int:
        """Return where the topic of the registered tables ends."""
        key = f"{self.installation.topic_prefix}.tables", 0
        return self.admin.watermarks_now([key])[key][1]


def prove(kafka: Kafka, redis: RedisServer, folder: Path, *, tables: int, rows: int, seed: int) -> list[Verdict]:
    """Apply `tables` specs onto running workers, change, remove and add one; ask the oracles."""
    print(f"seed {seed}, {tables} tables, {rows} rows each at a time")
    names = [f"t{number:03d}" for number in range(tables)]
    source = Source(kafka.address, names, seed)
    source.write(rows)
    first = Shape.of(document(names[0], source.topic(names[0])))
    with (
        Webhook(SECRET) as webhook,
        Installation(
            folder, kafka.address, redis.address, webhook.url, {names[0]: first},
            arguments=("--workers", f"normalize={WORKERS}"),
        ) as installation,
    ):  # fmt: skip
        bench = Bench(installation, source)
        installation.start()
        before = processes(installation)
        verdicts = [registered(bench, names), *changed(bench, names, rows)]
        verdicts += [came_out(bench, name, rows=source.count(name)) for name in names]
        verdicts.append(quarantine(bench))
        again = same_workers(installation, before, at_least=WORKERS)
        installation.stop()
        return [*verdicts, again]


def registered(bench: Bench, names: Sequence[str]) -> Verdict:
    """Apply the specs of all tables; rows of all of them flow soon."""
    for name in names[1:]:
        bench.write(name)
    assert bench.verb("plan", "tables")[0] == 0
    code, seconds, said = bench.verb("apply", "tables", "--yes")
    assert code == 0, said
    began = time.monotonic()
    wait_until(
        lambda: all(bench.emitted(names).values()),
        "rows of all tables flow",
        deadline_seconds=DEADLINE_SECONDS,
        poll_seconds=0.5,
    )
    flowing = time.monotonic() - began
    end = bench.end_of_tables()
    again = bench.verb("apply", "tables", "--yes")
    verdict = Verdict(
        "tables are registered under running workers",
        {"tables": len(names), "ms to apply": int(seconds * 1000), "ms until rows of all flow": int(flowing * 1000)},
    )
    if seconds > APPLY_SECONDS:
        verdict.differ(f"apply took {seconds:.1f} s, {APPLY_SECONDS:.0f} are promised")
    if flowing > FLOW_SECONDS:
        verdict.differ(f"rows of all tables flowed after {flowing:.1f} s, {FLOW_SECONDS:.0f} are promised")
    if again[0] != 0 or bench.end_of_tables() != end:
        verdict.differ("the same files again wrote something")
    return verdict


def changed(bench: Bench, names: Sequence[str], rows: int) -> list[Verdict]:
    """Change a table under its readers, put a version beside it, remove one and bring it back, while rows flow."""
    verdict, beside = Verdict("what breaks readers is refused, and had beside them"), f"{LATE}_v2"
    fewer = {name: column for name, column in COLUMNS.items() if name != "visits"}
    bench.write(LATE, columns=fewer)
    code, _, said = bench.verb("apply", "tables", "--yes")
    if code != 1 or "column_removed: visits" not in said or "beside" not in said:
        verdict.differ(f"a dropped column: exit code {code}, {said[:200]}")
    bench.write(LATE)
    known = bench.source.count(LATE)
    topic = bench.installation.changes_topic(LATE)
    wait_until(lambda: len(read_records(bench.installation.kafka, topic)) >= known, "the old version has its rows")
    bench.write(beside, topic=bench.source.topic(LATE), beside=LATE, columns=fewer)
    assert bench.verb("apply", "tables", "--yes")[0] == 0
    wait_until(lambda: bench.workers_have(beside), "the new version is taken up")
    bench.source.write(rows)
    assert bench.verb("remove", GONE, "--yes")[0] == 0
    bench.source.write(rows)
    assert bench.verb("apply", "tables", "--yes")[0] == 0
    bench.source.write(rows)
    verdict.figures["rows of the new version"] = bench.source.count(LATE) - known
    verdict.at_least("rows of the new version", 1)
    shape = Shape.of(document(beside, bench.source.topic(LATE), columns=fewer))
    found = came_out(bench, LATE, rows=bench.source.count(LATE) - known, output=beside, shape=shape)
    return [verdict, found]


def came_out(bench: Bench, table: str, *, rows: int, output: str | None = None, shape: Shape | None = None) -> Verdict:
    """Wait until a table has so many changes; check their chain, and that they are the last rows that were sent."""
    topic = bench.installation.changes_topic(output or table)
    mine = shape or Shape.of(document(table, bench.source.topic(table)))

    def enough() -> list[Record]:
        found = read_records(bench.installation.kafka, topic)
        return found if len(found) >= rows else []

    what = f"{topic} has its rows"
    records = wait_until(enough, what, deadline_seconds=DEADLINE_SECONDS, poll_seconds=1.0)
    changes = [to_change(mine, record) for record in records]
    verdict = check_streams(changes, name=topic, at_least=rows)
    wanted = sorted(row for name, row in bench.source.sent if name == table)[-rows:]
    found = sorted(int(change.after["id"]) for change in changes if change.after is not None)
    if wanted != found:
        verdict.differ(f"{len(wanted)} rows were sent and {len(found)} came out, or others")
    return verdict


def quarantine(bench: Bench) -> Verdict:
    """Check that nothing is in quarantine."""
    entries = read_records(bench.installation.kafka, bench.installation.quarantine_topic)
    verdict = Verdict("quarantine is empty", {"entries": len(entries)})
    for entry in entries:
        verdict.differ(str(json.loads(entry.value or b"{}").get("reason")))
    return verdict


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--tables", type=int, default=150)
    parser.add_argument("--rows", type=int, default=20, help="of each table, four times")
    options = parser.parse_args(arguments)
    assert options.tables > 2, "one is changed, one is removed, one was there"
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(), services.redis(private=True)
        verdicts = prove(kafka, redis, folder, tables=options.tables, rows=options.rows, seed=options.seed)
        require(*verdicts)


if __name__ == "__main__":
    main()
