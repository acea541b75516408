"""Worker processes of the transport's tests, and what their logs say."""

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.transport.resolve import Committed
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import Key, TopicAdmin, TopicSettings
from schemas.errors import SourceUnavailable
from tests.services import wait_until

WORKER = Path(__file__).with_name("transport_worker.py")
ROOT = Path(__file__).parents[2]
PARTITIONS = 4


class Bench:
    """Topics, records and worker processes of one test; all processes are gone when it ends."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.admin = TopicAdmin(ClientSettings(bootstrap=bootstrap))
        self.group = f"transport-{uuid.uuid4().hex[:8]}"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.topics: list[str] = []

    def topic(self, name: str = "in", partitions: int = PARTITIONS) -> str:
        """A fresh topic."""
        topic = f"{self.group}-{name}"
        self.admin.ensure(topic, TopicSettings(partitions=partitions))
        self.topics.append(topic)
        return topic

    def fill(
        self,
        topic: str,
        records: int,
        *,
        value: Callable[[int], bytes] = lambda i: b"record %d" % i,
        partitions: int = PARTITIONS,
    ) -> None:
        """Put records into a topic, one partition after the other, and wait until all are there."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 10, "acks": "all"})
        for i in range(records):
            while True:
                try:
                    producer.produce(topic, value(i), b"%d" % i, i % partitions)
                    break
                except BufferError:
                    producer.poll(0.05)
        assert producer.flush(60) == 0, "every record was delivered"

    def transact(self, topic: str, records: int) -> None:
        """Put records into the first partition in one transaction, whose marker takes the offset behind them."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": f"{self.group}-source"})
        producer.init_transactions(30)
        producer.begin_transaction()
        for number in range(records):
            producer.produce(topic, b"record %d" % number, b"%d" % number, 0)
        producer.commit_transaction(30)

    def forget(self, topic: str, below: Mapping[int, int]) -> None:
        """Take what a topic's partitions hold below these offsets, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [TopicPartition(topic, number, offset) for number, offset in below.items()]
        for future in admin.delete_records(wanted).values():
            future.result(30)

    def start(self, name: str, **asked: Any) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        everything = {
            "bootstrap": self.bootstrap,
            "group": self.group,
            "log": str(self.folder / f"{name}.log"),
            **asked,
        }
        output = (self.folder / f"{name}.out").open("ab")
        self.workers[name] = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(everything)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
        output.close()
        return self.workers[name]

    def stop(self, name: str) -> int:
        """End a worker by SIGTERM and return its exit code."""
        self.workers[name].terminate()
        return self.workers[name].wait(20)

    def kill(self, name: str) -> None:
        """End a worker by SIGKILL."""
        self.workers[name].kill()
        self.workers[name].wait(20)

    def lines(self, name: str, event: str) -> list[list[Any]]:
        """What a worker logged of one event, oldest first; a half line of a killed worker is left out."""
        path = self.folder / f"{name}.log"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return [line for line in found if line[1] == event]

    def running(self, name: str) -> int:
        """How many partitions a worker reads, as it last said."""
        said = self.lines(name, "running")
        return said[-1][2] if said else 0

    def done(self, names: Iterable[str]) -> Counter[tuple[str, int, int]]:
        """How often each offset was done; of logs whose topics have no gaps."""
        counted: Counter[tuple[str, int, int]] = Counter()
        for name in names:
            for _, _, topic, partition, first, following, _ in self.lines(name, "done"):
                counted.update((topic, partition, offset) for offset in range(first, following))
        return counted

    def ends(self, topic: str, partitions: int = PARTITIONS) -> dict[int, int]:
        """The next offset of each partition."""
        logs = self.admin.watermarks_now([(topic, number) for number in range(partitions)])
        return {number: high for (_, number), (_, high) in logs.items()}

    def committed(self, topic: str, partitions: int = PARTITIONS) -> dict[int, int | None]:
        """The group's committed offsets, of all partitions: an answer in part, or none in time, is asked for again."""
        keys = [(topic, number) for number in range(partitions)]

        def answer() -> dict[Key, Committed]:
            with suppress(SourceUnavailable):
                said = self.admin.committed_now(self.group, keys)
                if len(said) == len(keys):
                    return said
            return {}

        said = wait_until(answer, f"offsets of {topic}")
        return {number: each.offset for (_, number), each in said.items()}

    def wait_committed(self, topic: str, deadline_seconds: float = 60, *, partitions: int = PARTITIONS) -> None:
        """Wait until the group has committed a topic's end."""
        wait_until(
            lambda: self.committed(topic, partitions) == self.ends(topic, partitions),
            f"{topic} committed",
            deadline_seconds=deadline_seconds,
        )

    def wait_running(self, expected: dict[str, int], deadline_seconds: float = 60) -> None:
        """Wait until workers read so many partitions each."""
        wait_until(
            lambda: {name: self.running(name) for name in expected} == expected,
            f"partitions read {expected}",
            deadline_seconds=deadline_seconds,
        )

    def keys(self, topic: str, partitions: int = PARTITIONS) -> Counter[bytes | None]:
        """How often each key stands in a topic, under read_committed, up to its end."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "transport-oracle",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            },
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        ends, at = self.ends(topic, partitions), dict.fromkeys(range(partitions), 0)
        counted: Counter[bytes | None] = Counter()

        def read() -> bool:
            message: Any
            for message in consumer.consume(10_000, 0.5):
                if message.error() is None:
                    counted[message.key()] += 1
                at[message.partition()] = message.offset() + (message.error() is None)
            return all(at[number] >= end for number, end in ends.items())

        wait_until(read, f"{topic} read to its end", deadline_seconds=60)
        consumer.close()
        return counted

    def close(self) -> None:
        """Kill what still runs and delete the topics."""
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.kill()
                worker.wait(10)
        self.admin.delete(self.topics)
