"""One table of any format: its stages run in this process, and topic, Redis and lake are compared with its source."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from redis import Redis

from headgate.cli.codes import ExitCode
from schemas.config import read_config
from schemas.errors import TableStopped
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from sinks.lake.verify import Report, verify
from tests.integration.stages import Installation, until_off_loop
from tests.oracles import (
    Change,
    Shape,
    Verdict,
    ViewShape,
    check_conservation,
    check_latest,
    check_origins,
    check_streams,
    check_view,
    compare,
    read_lake,
    read_records,
    read_stored,
    require,
    to_change,
)
from tests.oracles.topic import Origin
from tests.oracles.values import from_python, frozen
from tests.services import Kafka, RedisServer, reaper

ROOT = Path(__file__).parents[2]
BUCKETS = 4
QUIET_SECONDS, REDIS_SECONDS = 60.0, 30.0
Rows = Mapping[tuple[Any, ...], Mapping[str, Any]]


class OneTable(Installation):
    """An installation of one table; `document` is its spec without topics, its only view has all columns."""

    def __init__(self, kafka: str, redis: str, folder: Path, document: Mapping[str, Any], settings: str = "") -> None:
        """Write configuration, with `settings` behind it, and spec."""
        super().__init__(kafka, redis, folder)
        self.table = str(document["table"])
        self.topic = f"{self.prefix}-{self.table}"
        self.output = f"{self.prefix}.changes.{self.table}"
        columns = [name for name in document["columns"] if name not in document["key"]]
        view = {"view": "all", "entity": "row", "columns": columns}
        self.document = {**document, "topics": [self.topic], "features": [view]}
        self.shape = Shape.of(self.document)
        with self.file.open("a") as file:
            file.write(settings)
        self.config = read_config(self.file.read_text(), name="headgate.yaml")
        (folder / "tables" / "patients.yaml").unlink()
        self.spec()
        (folder / "lake").mkdir()
        self._pending: list[tuple[int, bytes | None, bytes | None]] = []
        self.sent = 0

    def spec(self, **changes: Any) -> None:
        """Write the table's spec, with these changes; the next `running` applies it."""
        name = str(self.document["table"])
        (self.folder / "tables" / f"{name}.yaml").write_text(json.dumps(self.document | changes))

    # -- the source --------------------------------------------------------------------------------------------------

    def send(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Keep a record for `flush`."""
        self._pending.append((partition, key, value))

    def flush(self) -> None:
        """Produce what was kept, and return once every record was delivered."""
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5})
        for partition, key, value in self._pending:
            producer.produce(self.topic, value, key, partition)
            producer.poll(0)
        assert producer.flush(60) == 0, "every record was delivered"
        self.sent += len(self._pending)
        self._pending = []

    @contextmanager
    def supervised(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run all stages as processes, as people do, for as long as the block lasts; one that ends is started again."""
        command = [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py"), "run", "--config", str(self.file)]
        command += ["--apply", str(self.folder / "tables"), "--instance", "test"]
        log = self.folder / "run.log"
        with log.open("ab") as to:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=to, stderr=to, start_new_session=True)
        reaper.watch(process.pid)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text(errors="replace")[-4_000:]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # it takes its workers with it
                process.wait(60)
            reaper.forget(process.pid)

    # -- the ends ----------------------------------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """Return what stands on the output topic."""
        return [to_change(self.shape, record) for record in read_records(self.kafka, self.output)]

    def quarantined(self) -> list[dict[str, Any]]:
        """Return what is in quarantine."""
        return [orjson.loads(each.value or b"") for each in read_records(self.kafka, f"{self.prefix}.quarantine")]

    def lake(self) -> tuple[int, Report]:
        """Return how many changes the lake has, and what is to be said of their chain."""
        try:
            report = verify(load_table(open_catalog(self.config.lake), "headgate", self.table))
        except TableStopped:  # nothing was committed yet
            report = Report(self.table)
        return report.rows, report

    async def until_quiet(self, rows: Rows, changes: int, *, seconds: float = QUIET_SECONDS) -> None:
        """Return once so many changes are in the lake, and Redis has these rows."""
        await until_off_loop(lambda: self.lake()[0] >= changes, f"{changes} changes in the lake", seconds)
        try:
            await until_off_loop(lambda: self.redis_verdict(rows).holds, "Redis has the rows", REDIS_SECONDS)
        except AssertionError as exc:
            raise AssertionError(str(self.redis_verdict(rows))) from exc

    def redis_verdict(self, rows: Rows) -> Verdict:
        """Compare Redis with the source's rows, key by key and value by value."""
        (view,) = ViewShape.all_of(self.shape)
        with Redis.from_url(self.redis) as client:
            return check_view(view, read_stored(client, self.prefix), rows, buckets=BUCKETS)

    def check_ends(self, rows: Rows, changes: int, *, skipped: Sequence[bytes | None] = (None,)) -> list[Change]:
        """Require that topic, Redis and lake are the source, complete and each change once; return the changes.

        `skipped` are the values of records that make no change.
        """
        emitted = self.changes()
        lake = read_lake(self.folder / "lake", "headgate", self.shape)
        nothing: dict[str, Any] = dict.fromkeys(self.shape.columns)  # a lake has no absent columns
        away: list[Origin] = [tuple(entry["origin"]) for entry in self.quarantined()]
        require(
            check_streams(emitted, name=self.table, at_least=changes),
            self._check_topic(rows, emitted),
            check_latest(self.shape, lake, {key: {**nothing, **row} for key, row in rows.items()}),
            check_origins(self.shape, lake, emitted, at_least=changes),
            self.redis_verdict(rows),
            check_conservation(
                read_records(self.kafka, self.topic),
                emitted=[change.origin for change in emitted],
                quarantined=away,
                topics=[self.topic],
                skip_values=skipped,
                at_least=self.sent,
            ),
        )
        assert changes == len(emitted) == len(lake)
        rows_of_lake, report = self.lake()
        assert ([], changes) == (report.findings, rows_of_lake)
        return emitted

    def _check_topic(self, rows: Rows, emitted: Sequence[Change]) -> Verdict:
        """Check what the last changes of all keys come to; each says its whole row."""
        last: dict[tuple[Any, ...] | None, Change] = {}
        for change in emitted:
            if change.key not in last or change.position > last[change.key].position:
                last[change.key] = change
        found = [change.after for change in last.values() if change.after is not None]
        verdict = Verdict(f"topic of {self.table}", {"rows": len(found)})
        return compare(verdict, (frozen(dict(row)) for row in rows.values()), map(frozen, found))

    async def lake_is_proved(self) -> bool:
        """Say whether `headgate lake verify` finds every change once."""
        return ExitCode.OK == await self.verb("lake", "verify", self.table)

    def canonical(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as oracles compare it; a column that it lacks is absent."""
        return {name: from_python(type_, row[name]) for name, type_ in self.shape.columns.items() if name in row}

    def close(self) -> None:
        """Delete the topics."""
        super().close()
        self.admin.delete([f"{self.prefix}.quarantine"])


@contextmanager
def one_table(
    kafka: Kafka, redis: RedisServer, folder: Path, document: Mapping[str, Any], settings: str = ""
) -> Iterator[OneTable]:
    """Have an installation of one table, and its topic of four partitions."""
    with closing(OneTable(kafka.address, redis.address, folder, document, settings)) as made:
        made.make()
        yield made
