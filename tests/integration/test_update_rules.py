"""ALERTS on real Kafka: rules that compare with what was fire once over kills, and a new rule not on what was there."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.transport.topics import TopicSettings
from schemas.config import Config
from schemas.errors import SourceUnavailable
from schemas.feature_update import FeatureUpdate
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.app import run_stage
from streams.apply import apply_folder
from streams.registration import ALERTS_PARTITIONS, ensure_own_topics, load_tables, open_admin, own_topics
from tests.oracles import read_records
from tests.services import Kafka, wait_until
from tests.unit.alerts.chain import VIEW, Chain, row

ENTITIES, UPDATES, PARTITIONS, BUCKETS = 30, 2_000, 4, 8
OLD = 10**9  # no alert of the tests is too late
HIGH = {"rule": "high", "kind": "threshold", "of": "level", "above": 6, "rearm_below": 4, "view": VIEW}
MOVED = {"rule": "moved", "kind": "change", "of": "status", "view": VIEW}
CRITICAL = {"rule": "critical", "kind": "transition", "of": "status", "from": ["ok"], "to": ["bad"], "view": VIEW}


def spec_of(*rules: dict[str, Any], table: str = "patients", **spec: Any) -> dict[str, Any]:
    """Return the spec of a table with a view."""
    return {
        "table": table,
        "topics": [f"src.{table}"],
        "key": ["id"],
        "columns": {"id": "long", "status": "string", "level": "decimal(6,2)", "note": "string"},
        "features": [{"view": VIEW, "entity": "patient", "columns": ["status", "level", "note"]}],
        "rules": [{"max_age_seconds": OLD, **rule} for rule in rules],
        **spec,
    }


class Installation:
    """Topics, tables and workers of one test."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self.prefix, self.folder = f"rules-{uuid.uuid4().hex[:8]}", folder
        kafka_config = {"bootstrap": kafka.address, "topic_prefix": self.prefix, "group_prefix": self.prefix}
        kafka_config["session_timeout_seconds"] = "6"
        state = {"state_folder": str(folder)}
        self.config = Config.model_validate({"kafka": kafka_config, "web": state})
        self.names, self.admin = TopicNames(self.prefix), open_admin(self.config)
        self.producer = Producer({"bootstrap.servers": kafka.address, "enable.idempotence": True})
        ensure_own_topics(self.config, own_topics(self.config))

    def make(self, topic: str) -> None:
        """Make a topic of changes or updates."""
        self.admin.ensure(topic, TopicSettings(partitions=PARTITIONS))

    def apply(self, *specs: dict[str, Any]) -> list[str]:
        """Apply specs as files of a folder; return what became of each."""
        files = self.folder / "tables"
        files.mkdir(exist_ok=True)
        for spec in specs:
            (files / f"{spec['table']}.yaml").write_text(json.dumps(spec))
        return [change.action for change in apply_folder(self.config, files)]

    def entries(self) -> dict[str, TableEntry]:
        """Return what is registered."""
        return dict(load_tables(self.config))

    def updates(self, updates: Iterable[bytes]) -> None:
        """Write feature updates as the relay does."""
        for value in updates:
            update = msgspec.json.decode(value, type=FeatureUpdate)
            key = str(update.entity["id"]).encode()
            self.producer.produce(self.names.features(update.view), value, key, update.bucket % PARTITIONS)
        assert self.producer.flush(30) == 0

    def changes(self, table: str, numbers: Iterable[int]) -> None:
        """Write changes, each of which a rule on `level` fires for."""
        for number in numbers:
            self.producer.produce(self.names.changes(table), change(table, number), b"k", number % PARTITIONS)
        assert self.producer.flush(30) == 0

    def start(self, slot: int) -> BaseProcess:
        """Start a worker of ALERTS."""
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(self.config.kafka.model_dump_json(), self.config.web.model_dump_json(), slot)
        )
        process.start()
        return process

    @contextmanager
    def running(self, slots: int) -> Iterator[list[BaseProcess]]:
        """Run workers; none is left at the end, and each ends well."""
        workers = [self.start(slot) for slot in range(slots)]
        try:
            yield workers
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join(60)
                if worker.is_alive():
                    worker.kill()
                    worker.join()
        # One that was told to end before it had begun dies of the signal.
        assert {0, -signal.SIGTERM} >= {worker.exitcode for worker in workers}

    def alerts(self) -> list[dict[str, Any]]:
        """Return what is committed on the alerts' topic, read by a consumer that is not ours."""
        records = read_records(self.config.kafka.bootstrap, self.names.alerts)
        return [json.loads(record.value or b"") for record in records]

    def written(self) -> int:
        """Return how much was written to the alerts' topic, open transactions and their ends included."""
        keys = [(self.names.alerts, number) for number in range(ALERTS_PARTITIONS)]
        return sum(high for _, high in self.admin.watermarks_now(keys).values())

    def beyond(self, seen: int) -> bool:
        """Tell whether more was written than `seen`."""
        return self.written() > seen

    def done(self, topic: str) -> bool:
        """Tell whether ALERTS has committed the end of a topic."""
        keys = [(topic, number) for number in range(PARTITIONS)]
        ends = self.admin.watermarks_now(keys)
        try:
            committed = self.admin.committed_now(f"{self.prefix}-alerts", keys)
        except SourceUnavailable:  # a killed worker's transaction is open: no offset is told until it has timed out
            return False
        return all(key in committed and (committed[key].offset or 0) == high for key, (_, high) in ends.items() if high)


def work(kafka: str, web: str, slot: int) -> None:
    """Run a worker to its end."""
    document = {"kafka": {k: v for k, v in json.loads(kafka).items() if v is not None}, "web": json.loads(web)}
    raise SystemExit(run_stage("alerts", Config.model_validate(document), instance="test", slot=slot))


def change(table: str, number: int) -> bytes:
    """Return a change of the contract."""
    source = {"connector": "postgresql", "name": "c", "table": table, "tx": None, "snapshot": False}
    value: dict[str, Any] = {
        "op": "update",
        "key": {"id": str(number)},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": {"id": str(number), "level": "9.00", "status": "ok", "note": None},
        "position": f"{number:045d}",
        "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": [],
        "source": {**source, "origin": [table, 0, number % PARTITIONS, number], "first_origin": None, "previous": None},
    }
    return json.dumps(value).encode()


@pytest.fixture
def installation(kafka: Kafka, tmp_path: Path) -> Callable[[], Installation]:
    """Make an installation of this test's own."""
    return lambda: Installation(kafka, tmp_path)


def expected(updates: Iterable[bytes]) -> Counter[tuple[str, str]]:
    """Return rule and position of each alert, worked out one by one in order; repeats count once."""
    seen: set[tuple[int, int]] = set()
    beyond: set[str] = set()
    fired: Counter[tuple[str, str]] = Counter()
    for value in updates:
        update = json.loads(value)
        if (update["bucket"], update["number"]) in seen:
            continue
        seen.add((update["bucket"], update["number"]))
        was, now = ((update[side] or {}).get("status") for side in ("before", "after"))
        fired["moved", update["position"]] += was != now
        fired["critical", update["position"]] += (was, now) == ("ok", "bad")
        entity, level = update["entity"]["id"], (update["after"] or {}).get("level")
        if level is not None and Decimal(level) > 6:
            fired["high", update["position"]] += entity not in beyond
            beyond.add(entity)
        elif update["after"] is None or (level is not None and Decimal(level) < 4):
            beyond.discard(entity)
    return +fired


def history(chain: Chain, number: int, chance: random.Random) -> list[bytes]:
    """Return updates of all entities, with deletes among them; now and then the relay repeats some."""
    made: list[bytes] = []
    for _ in range(number):
        key = chance.randrange(ENTITIES)
        after = row(status=chance.choice(["ok", "bad", None]), level=str(chance.randrange(10)))
        gone = chance.random() < 0.05 and chain.rows.get(key, (None,))[0] is not None
        made.append(chain.update(key, None if gone else after, bucket=key % BUCKETS))
        if chance.random() < 0.02:
            made += made[-chance.randrange(1, 40) :]
    return made


def test_rules_fire_once_over_kills_and_rebalances(installation: Callable[[], Installation]) -> None:
    """Two workers, one of them killed again and again while updates come in; what each entity was is never lost."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, here, chain = random.Random(seed), installation(), Chain()
    topic = here.names.features(VIEW)
    here.make(topic)
    here.apply(spec_of(HIGH, MOVED, CRITICAL))
    written: list[bytes] = []

    with here.running(2) as workers:
        for slot in (0, 1):
            more = history(chain, UPDATES // 4, chance)
            half = len(more) // 2
            seen = here.written()
            here.updates(more[:half])
            wait_until(partial(here.beyond, seen), "alerts come", deadline_seconds=120)
            here.updates(more[half:])
            workers[slot].kill()
            workers[slot].join()
            written += more
            workers[slot] = here.start(slot)
        band = [chain.update(key, row(level=level), bucket=key % BUCKETS) for level in "95" for key in range(ENTITIES)]
        here.updates(band)
        wait_until(lambda: here.done(topic), "all is read", deadline_seconds=120)
        for slot in (0, 1):
            workers[slot].kill()
            workers[slot].join()
            workers[slot] = here.start(slot)
        # All fired and none is armed again: only what was remembered can say so, and that these came before.
        last = [chain.update(key, row(level="9"), bucket=key % BUCKETS) for key in range(ENTITIES)]
        last += band + history(chain, UPDATES // 4, chance)
        here.updates(last)
        written += band + last
        wait_until(lambda: here.done(topic), "all is read", deadline_seconds=120)

    alerts = here.alerts()
    wanted = expected(written)
    assert min(Counter(rule for rule, _ in wanted).values()) > 50
    assert wanted == Counter((alert["rule"], alert["position"]) for alert in alerts)
    assert len(alerts) == len({alert["id"] for alert in alerts})
    state = here.admin.config(here.names.alerts_state(VIEW))
    assert "compact" == state["cleanup.policy"]


def test_a_new_rule_does_not_fire_on_what_was_there_before_it(installation: Callable[[], Installation]) -> None:
    """However far behind ALERTS is: a rule starts at the end that its topic had when it was applied."""
    here, chain = installation(), Chain()
    old = {"rule": "old", "when": "after.level > 1"}
    new = {"rule": "new", "when": "after.level > 2"}
    bills: dict[str, Any] = {"features": [], "table": "bills"}
    reborn, late = {**bills, "table": "reborn"}, {**bills, "table": "late"}
    for table in ("bills", "reborn"):
        here.make(here.names.changes(table))
    here.make(here.names.features(VIEW))
    specs = [spec_of(old, **bills), spec_of(MOVED), spec_of(**reborn), spec_of(**late)]
    assert ["added"] * 4 == here.apply(*specs)
    here.changes("bills", range(40))
    here.changes("reborn", range(20))
    here.updates(chain.update(key, row(status="ok")) for key in range(10))

    changed = {**CRITICAL, "from": None, "to": ["bad", "worse"]}
    specs = [spec_of(old, new, **bills), spec_of(MOVED, changed), spec_of(new, **reborn), spec_of(new, **late)]
    assert {"changed"} == set(here.apply(*specs))
    before = here.entries()
    assert {"unchanged"} == set(here.apply(*specs))
    assert before == here.entries()

    here.admin.delete([here.names.changes("reborn")])
    wait_until(lambda: not here.admin.describe([here.names.changes("reborn")]), "the topic is gone")
    for table in ("reborn", "late"):
        here.make(here.names.changes(table))
        here.changes(table, range(5))
    here.changes("bills", range(40, 50))
    here.updates(chain.update(key, row(status="bad")) for key in range(10))

    topics = [here.names.features(VIEW), *(here.names.changes(table) for table in ("bills", "reborn", "late"))]
    with here.running(1):
        wait_until(lambda: all(map(here.done, topics)), "all is read", deadline_seconds=120)
        here.apply(spec_of(old, {**new, "version": 2}, **bills))
        numbers = count(50)

        def second() -> list[dict[str, Any]]:
            here.changes("bills", [next(numbers)])
            return [alert for alert in here.alerts() if alert["rule_version"] == 2]

        judged = wait_until(second, "the rule as it is now fires", deadline_seconds=120, poll_seconds=0.5)

    assert all(int(alert["position"]) >= 50 for alert in judged)
    fired = Counter((a["table"], a["rule"]) for a in here.alerts() if a["table"] != "bills" or int(a["position"]) < 50)
    assert {
        ("bills", "old"): 50,
        ("bills", "new"): 10,
        ("patients", "moved"): 20,
        ("patients", "critical"): 10,
        ("reborn", "new"): 5,
        ("late", "new"): 5,
    } == fired
