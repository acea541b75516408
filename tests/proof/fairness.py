"""How fresh one tenant's live changes are beside another's load, or flood: NORMALIZE and FEATURES, one worker each.

    python -m tests.proof.fairness --rows 1000000                     # another tenant's table is loaded beside them
    python -m tests.proof.fairness --flood 20000 --seconds 60         # another one brings so many changes a second
    python -m tests.proof.fairness --flood 2000 --limit 100000        # and more bytes a second than it may
    python -m tests.proof.fairness --replay 1000000                   # its own table is replayed beside them
    python -m tests.proof.fairness --seconds 30                       # nothing beside them: what there is to compare

Measured is the time from the producer of a live change to the subscriber of its table's topic, and to that of its
view's updates. It fails where a live change is lost or doubled, and where a load is not whole at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from schemas.change import HEADER_REPLAY
from tests.proof.by_hand import services_of_its_own
from tests.proof.workers_by_hand import Workers, change, workers_in
from tests.services import Kafka, RedisServer

STAGES = ("normalize", "features")
PARTITIONS = {"calm": 2, "busy": 4}  # of the source topic of each tenant
LIVE_PER_SECOND = 20.0
QUIET_SECONDS = 600.0
TOPICS = ("headgate.changes.calm.visits", "headgate.features.calm.visits")
FILLER = "x" * 60
FIRST_LIVE = 10**8  # below it are the keys of rows that are loaded
HEARD_SECONDS = 3.0  # until workers know of what was written last
LOADED = 0.0  # when rows were sent of which nobody measures how fresh they are


@dataclass(slots=True)
class Watch:
    """Hears each live change at the end of its way: `ages` are seconds from its producer, by when that was."""

    bootstrap: str
    topic: str
    ages: dict[int, float] = field(default_factory=dict)
    heard: int = 0
    stopping: bool = False

    def run(self) -> None:
        """Read the topic until it is told to stop."""
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": f"watch-{self.topic}", "auto.offset.reset": "earliest",
            "isolation.level": "read_committed", "fetch.wait.max.ms": 10, "enable.auto.commit": False,
            "topic.metadata.refresh.interval.ms": 500, "log_level": 0,
        })  # fmt: skip
        consumer.subscribe([f"^{self.topic.replace('.', '[.]')}$"])
        while not self.stopping:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None and not is_replayed(message.headers()):
                after = json.loads(message.value() or b"")["after"]
                sent = (after.get("values") or after)["sent"]
                if float(sent) == LOADED:
                    continue
                self.heard += 1
                self.ages[round(float(sent) * 1e6)] = time.time() - float(sent)
        consumer.close()


def is_replayed(headers: Any) -> bool:
    """Say whether a change with these headers is one of a replay."""
    return HEADER_REPLAY in dict(headers or ())


class Busy:
    """A tenant, the other one if none is named: rows that lie there before, and a flood of more."""

    def __init__(self, bootstrap: str, tenant: str = "busy") -> None:
        self.rows, self.stopping, self._tenant = 0, False, tenant
        settings = {"linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.messages": 500_000}
        self._producer = Producer({"bootstrap.servers": bootstrap, **settings})

    def load(self, rows: int) -> None:
        """Write so many rows."""
        template = change("visits", 10**9, {"name": FILLER, "sent": LOADED})
        for _ in range(rows):
            row, self.rows = self.rows, self.rows + 1
            value, key = template.replace(b"1000000000", b"%d" % row), b'{"id":%d}' % row
            while True:
                try:
                    self._producer.produce(f"{self._tenant}.visits", value, key, row % PARTITIONS[self._tenant])
                    break
                except BufferError:
                    self._producer.poll(0.1)
            if row % 1_000 == 0:
                self._producer.poll(0)
        assert self._producer.flush(300) == 0, "every row was delivered"

    def flood(self, per_second: float) -> None:
        """Write so many rows a second until it is told to stop."""
        began, first = time.monotonic(), self.rows
        while not self.stopping:
            self.load(max(int((time.monotonic() - began) * per_second) - (self.rows - first), 0))
            time.sleep(0.05)


def prove(kafka: Kafka, redis: RedisServer, folder: Path, options: argparse.Namespace) -> None:
    """Run both tenants, and print how fresh the calm one's changes were."""
    limits = {"limits": {"tenant_bytes_per_second": options.limit}} if options.limit else {}
    admin = TopicAdmin(ClientSettings(bootstrap=kafka.address))
    admin.create_all({f"{name}.visits": TopicSettings(partitions=number) for name, number in PARTITIONS.items()})
    busy, watches = Busy(kafka.address), [Watch(kafka.address, topic) for topic in TOPICS]
    busy.load(options.rows)
    with workers_in(folder) as workers:
        workers.configure(kafka.address, redis.address, limits)
        write_specs(workers)
        workers.verb("tenants", "add", *PARTITIONS, "--template", "templates", "--into", "tables", "--apply")
        began = time.monotonic()
        for stage in STAGES:
            workers.start(stage)
        threads = [threading.Thread(target=watch.run) for watch in watches]
        threads.append(threading.Thread(target=busy.flood, args=(options.flood,)))
        for thread in threads:
            thread.start()
        try:
            run(workers, kafka, options, busy, watches, began)
        finally:
            busy.stopping = True
            for watch in watches:
                watch.stopping = True
            for thread in threads:
                thread.join()


def write_specs(workers: Workers) -> None:
    """Write the template that both tenants have their table of."""
    folder = workers.folder / "templates"
    folder.mkdir()
    view = {"view": "visits", "entity": "visit", "columns": ["name", "sent"], "emit": True}
    (folder / "visits.yaml").write_text(
        json.dumps({
            "table": "visits", "tenant": "{tenant}", "topics": ["{tenant}.visits"], "key": ["id"],
            "columns": {"id": "long", "name": "string", "sent": "double"}, "features": [view],
        })
    )  # fmt: skip


def run(
    workers: Workers, kafka: Kafka, options: argparse.Namespace, busy: Busy, watches: Sequence[Watch], began: float
) -> None:
    """Send live changes for so long, or until the load is through; wait for the rest, and say what was seen."""
    live = Live(kafka.address)
    until(lambda: live.send() and all(watch.heard for watch in watches), "the first live change", pause=0.3)
    print(f"the first live change was everywhere {time.monotonic() - began:.1f} s after the start", flush=True)
    replay = Replay(workers, kafka.address, options.replay) if options.replay else None
    measured, loaded = live.sent, dict.fromkeys(STAGES, 0.0)
    started, looked = time.monotonic(), 0.0
    while (
        (now := time.monotonic()) - started < options.seconds
        or (options.rows and not all(loaded.values()))
        or (replay is not None and replay.is_alive())
    ):
        assert now - started < max(options.seconds, QUIET_SECONDS), f"the load is not through: {loaded}"
        live.send()
        time.sleep(1 / options.per_second)
        if now - looked > 1:
            looked = now
            for stage in [stage for stage in STAGES if not loaded[stage] and is_through(workers, stage, options.rows)]:
                loaded[stage] = now - began
    busy.stopping = True
    if replay is not None:
        replay.say()
    until(lambda: all(len(watch.ages) >= live.sent for watch in watches), "all live changes")
    for watch in watches:
        assert live.sent == watch.heard == len(watch.ages), f"{watch.topic}: {watch.heard} of {live.sent}"
        print(f"{watch.topic}: {freshness([age for _, age in sorted(watch.ages.items())][measured:])}", flush=True)
    if options.rows:
        rates = ", ".join(f"{stage} {at:.0f} s ({options.rows / at:,.0f}/s)" for stage, at in loaded.items())
        print(f"{options.rows:,} rows through after: {rates}")
    until(lambda: all(lag_of(workers, stage) == 0 for stage in STAGES), "the rest of the flood")
    print(f"{busy.rows:,} rows of the busy tenant through after {time.monotonic() - began:.0f} s")


class Replay(threading.Thread):
    """A replay of the calm tenant's table, of so many rows that both stages have taken; it has begun."""

    def __init__(self, workers: Workers, bootstrap: str, rows: int) -> None:
        super().__init__()
        self._workers, self._said = workers, ""
        Busy(bootstrap, "calm").load(rows)
        time.sleep(HEARD_SECONDS)
        until(lambda: all(lag_of(workers, stage, "calm.") == 0 for stage in STAGES), "the rows to be replayed")
        self.start()

    def run(self) -> None:
        """Run the verb to its end."""
        said, seconds, _ = self._workers.verb("tables", "replay", "calm.visits", "--from", "earliest", "--json")
        emitted = json.loads(said)["emitted"]
        self._said = f"{emitted:,} changes of it replayed in {seconds:.0f} s ({emitted / seconds:,.0f}/s)"

    def say(self) -> None:
        """Print how long it took.

        Raises:
            AssertionError: it did not come to its end.
        """
        self.join()
        assert self._said, "the replay failed"
        print(self._said, flush=True)


class Live:
    """The calm tenant: each change says when it was sent."""

    def __init__(self, bootstrap: str) -> None:
        self.sent = 0
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def send(self) -> bool:
        """Send one change, and return when it was delivered."""
        row, self.sent = FIRST_LIVE + self.sent, self.sent + 1
        value = change("visits", row, {"name": f"n{row}", "sent": time.time()})
        self._producer.produce("calm.visits", value, b'{"id":%d}' % row, row % PARTITIONS["calm"])
        return self._producer.flush(30) == 0


def lag_of(workers: Workers, stage: str, tenant: str = "") -> int | None:
    """Return how many records a stage has still to take; None where it does not know yet."""
    status = workers.status(stage)
    rows = [row for row in (status or {}).get("tables", []) if row["table"].startswith(tenant)]
    lags = [row["lag"] for row in rows]
    return None if not lags or None in lags else sum(lags)


def is_through(workers: Workers, stage: str, rows: int) -> bool:
    """Say whether a stage has taken the busy tenant's load."""
    return rows > 0 and lag_of(workers, stage, "busy.") == 0 and lag_of(workers, "normalize", "busy.") == 0


def freshness(ages: Sequence[float]) -> str:
    """Return what is to be said of ages."""
    ordered = sorted(ages)
    p99 = ordered[int(len(ordered) * 0.99)]
    return (
        f"{len(ordered)} changes, p50 {statistics.median(ordered):.3f} s, p99 {p99:.3f} s, at most {ordered[-1]:.3f} s"
    )


def until(condition: Callable[[], object], what: str, *, pause: float = 1.0) -> None:
    """Wait until something is so."""
    ends_at = time.monotonic() + QUIET_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, f"{what}: not within {QUIET_SECONDS:.0f} s"
        time.sleep(pause)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.prog = "python -m tests.proof.fairness"
    parser.add_argument("--rows", type=int, default=0, help="of the busy tenant, there before the workers start")
    parser.add_argument("--replay", type=int, default=0, help="rows of the calm tenant's own table, replayed meanwhile")
    parser.add_argument("--flood", type=float, default=0.0, help="rows a second that it brings meanwhile")
    parser.add_argument("--limit", type=int, help="limits.tenant_bytes_per_second")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long at least (%(default)g)")
    parser.add_argument("--per-second", type=float, default=LIVE_PER_SECOND, help="live changes (%(default)g)")
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        prove(services.kafka(private=True), services.redis(private=True), folder, options)


if __name__ == "__main__":
    main()
