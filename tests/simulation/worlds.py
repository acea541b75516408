"""The three worlds: what comes in, the stage that works on it, and what must be true at each step and at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from connectors.transport.settings import ProducerSettings
from connectors.transport.transaction import TransactionalWriter
from schemas.config import Config
from sinks.redis.layout import Layout
from streams.chains import Chains
from streams.features import FeaturesStage
from streams.lake import LakeStage
from streams.normalize import NormalizeStage
from streams.output_topics import Output
from tests.simulation.broker import Entry, Key, Transaction, Violation
from tests.simulation.iceberg import Catalogue
from tests.simulation.redis import UNAVAILABLE, Redis, Said, winner
from tests.simulation.worker import Service, Surroundings, Worker
from tests.simulation.world import CHANGES, KEYS, NAMES, SOURCE, World


class NormalizeWorld(World):
    """Debezium's records become changes, in transactions."""

    name, topic = "normalize", SOURCE

    def __init__(self, random: Random, around: Surroundings) -> None:
        super().__init__(random, around)
        self.broker.create(CHANGES, self.partitions)
        self.broker.create(NAMES.quarantine, 1)
        self.broker.on_committed = self._committed
        self.durable: set[tuple[int, int]] = set()
        self.config = Config()

    def write(self, number: int) -> None:
        row = self.random.randrange(KEYS)
        after = None if self.random.random() < 0.2 else {"id": row, "name": f"n{number}", "note": None}
        before = {"id": row, "name": None, "note": None} if after is None else None
        lsn = 100 + number
        source = {
            "connector": "postgresql", "name": "clinic", "ts_us": 1_795_219_394_000_000, "snapshot": "false",
            "db": "d", "sequence": f'["{lsn - 1}","{lsn}"]', "schema": "public", "table": "patients", "txId": 7,
            "lsn": lsn,
        }  # fmt: skip
        event = {"before": before, "after": after, "source": source, "op": "d" if after is None else "u"}
        self.put(row % self.partitions, json.dumps(event).encode(), b'{"id":%d}' % row)

    def stage(self, worker: Worker, service: Service) -> tuple[Any, Mapping[str, Any]]:
        settings = ProducerSettings(bootstrap="model", transactional_id=worker.slot)
        writer = TransactionalWriter(settings, service, on_event=worker.note)

        async def ensure(wanted: Mapping[str, Output]) -> dict[str, int]:
            return dict.fromkeys(wanted, self.partitions)

        stage = NormalizeStage(
            self.config, names=NAMES, tables=self.tables, writer=writer, consumer=service, ensure_outputs=ensure,
            chains=Chains(NAMES.normalize_previous, dict), clock=self.around.network.clock,
        )  # fmt: skip
        options = {
            "commits": False, "on_poison": stage.on_poison, "group_wait": stage.group_wait_seconds,
            "group_records_max": 10,
        }  # fmt: skip
        return stage, options

    def _committed(self, transaction: Transaction) -> None:
        for (topic, _), first in transaction.partitions.items():
            if topic == CHANGES:
                log = self.broker.logs[topic, _][first:]
                mine = [entry for entry in log if entry.transaction is transaction and entry.value is not None]
                for entry in mine:
                    _, _, partition, offset = json.loads(entry.value or b"")["source"]["origin"]
                    if (partition, offset) in self.durable:
                        raise Violation(f"partition {partition}, offset {offset} went out twice")
                    self.durable.add((partition, offset))

    def offset_stored(self, group: str, key: Key, offset: int) -> None:
        before = self.broker.group(group).offsets.get(key, (0, ""))[0]
        lacking = [at for at, _ in self.below(key, before, offset) if (key[1], at) not in self.durable]
        if lacking:
            raise Violation(f"{key}: offset {offset} was committed, and {lacking[:5]} have not gone out")
        if offset < before:
            raise Violation(f"{key}: the committed offset went back from {before} to {offset}")

    def differences(self) -> list[str]:
        wrong = []
        came = self.broker.records(SOURCE)
        went = self.broker.records(CHANGES)
        for partition, records in came.items():
            wanted = [offset for offset, _ in records]
            sources = [json.loads(entry.value or b"")["source"] for _, entry in went[partition]]
            if wanted != (found := [source["origin"][3] for source in sources]):
                wrong.append(f"partition {partition}: came {wanted}, went out {found}")
            previous = [source["previous"] for source in sources]
            if previous != (chain := [None, *found][:-1] if found else []):
                wrong.append(f"partition {partition}: previous is {previous}, not {chain}")
        if self.broker.records(NAMES.quarantine)[0]:
            wrong.append("something is in quarantine")
        return wrong


class ChangesWorld(World):
    """What reads the output topic; some records come twice, as they may without transactions."""

    def __init__(self, random: Random, around: Surroundings) -> None:
        super().__init__(random, around)
        self.previous: dict[int, int] = {}
        self.positions: dict[int, int] = {}
        self.repeated = random.random() < 0.3

    def write(self, number: int) -> None:
        row = self.random.randrange(KEYS)
        partition = row % self.partitions
        position = self._position(row, 2 * number + 2)
        after: dict[str, Any] | None = {"id": str(row), "name": f"n{number}", "note": None}
        unavailable = []
        if self.random.random() < 0.2:
            after = None
        elif self.random.random() < 0.3:
            unavailable = ["note"]
        elif after is not None and self.random.random() < 0.5:
            after["note"] = f"t{number}"
        if unavailable and after is not None:
            del after["note"]
        value = {
            "op": "delete" if after is None else "update", "key": {"id": str(row)}, "old_key": None, "new_key": None,
            "before": None, "after": after, "position": f"0001{position:041d}", "ts": "2026-11-20T19:45:57.123456Z",
            "unavailable": unavailable,
            "source": {
                "connector": "postgresql", "name": "clinic", "table": "public.patients", "tx": "1", "snapshot": False,
                "origin": [SOURCE, 0, partition, number], "first_origin": None,
                "previous": self.previous.get(partition),
            },
        }  # fmt: skip
        self.previous[partition] = number
        data = msgspec.json.encode(value)
        self.put(partition, data)
        if self.repeated and self.random.random() < 0.2:
            self.put(partition, data)

    def _position(self, row: int, position: int) -> int:
        """Mostly rise; a snapshot read later may stand before what came."""
        if self.random.random() < 0.1:
            return position - 7 if position > 7 else position
        return position


class FeaturesWorld(ChangesWorld):
    """Changes become the latest values in Redis."""

    name = "features"

    def __init__(self, random: Random, around: Surroundings) -> None:
        super().__init__(random, around)
        buckets = random.randint(1, 3)
        self.config = Config.model_validate({"redis": {"buckets": buckets}})
        self.layout = Layout("hg", buckets)
        around.redis = self.redis = Redis(around.network.clock, buckets)
        self.redis.on_field, self.redis.on_rows = self._field_set, self._rows_set
        self.ever: dict[str, list[Said]] = {}  # what Redis was told, also what it has lost since

    def stage(self, worker: Worker, service: Service) -> tuple[Any, Mapping[str, Any]]:
        clock = self.around.network.clock
        stage = FeaturesStage(self.config, names=NAMES, tables=self.tables, consumer=service, clock=clock)
        return stage, {"starts": stage.starts, "group_records_max": 10}

    def mishaps(self) -> list[str]:
        return ["redis_lost_last", "redis_wiped", "redis_broke", "redis_away", "redis_flushed", "redis_replaced"]

    def mishap(self, which: str) -> float:
        clock, random = self.around.network.clock, self.random
        match which:
            case "redis_lost_last":
                seconds = random.choice([0.01, 0.1, 1.0, 5.0, 15.0])
                apart = random.random() < 0.5  # a cluster: each shard loses what it will
                self.redis.restart(lambda _: random.uniform(0, seconds) if apart else seconds)
            case "redis_wiped":
                self.redis.restart(lambda _: clock() + 1)
            case "redis_flushed":  # under open connections
                self.redis.restart(lambda _: clock() + 1, breaks=False)
            case "redis_replaced":  # by a replica that lags, behind a proxy
                seconds = random.choice([0.1, 1.0, 5.0])
                self.redis.restart(lambda _: seconds, breaks=False)
            case "redis_broke":
                self.redis.restart(lambda _: 0.0)
            case "redis_away":
                self.redis.restart(lambda _: 0.0)
                self.redis.up = False
        return random.uniform(0.1, 4.0)

    def mend(self) -> None:
        self.redis.up = True

    def _rows_set(self, bucket: int, rows: list[tuple[str, Said]]) -> None:
        for key, said in rows:
            if self.layout.bucket(key) != bucket:
                raise Violation(f"key {key} was written into bucket {bucket}")
            self.ever.setdefault(key, []).append(said)

    def _field_set(self, bucket: int, name: str, text: str) -> None:
        """Behind a bucket's offset every row of it is there."""
        _, topic, number = name.split("|")
        at = int(text.rpartition(":")[2])
        held = self.redis.buckets[bucket].fields().get(name)
        before = int(held.rpartition(":")[2]) if held is not None else 0
        self._need((topic, int(number)), before, at, self.redis.buckets[bucket].rows(), f"bucket {bucket}", bucket)

    def offset_stored(self, group: str, key: Key, offset: int) -> None:
        before = self.broker.group(group).offsets.get(key, (0, ""))[0]
        self._need(key, before, offset, self.ever, "the group", None)

    def _need(
        self, key: Key, first: int, stop: int, rows: Mapping[str, Sequence[Said]], who: str, bucket: int | None
    ) -> None:
        for offset, entry in self.below(key, first, stop):
            row, said = _said(entry)
            if bucket is not None and self.layout.bucket(row) != bucket:
                continue
            known = list(rows.get(row, ()))
            if winner([*known, said]) != winner(known):
                raise Violation(f"{key}: {who} stands at {stop}, and offset {offset} is not in Redis")

    def differences(self) -> list[str]:
        truth: dict[str, list[Said]] = {}
        for records in self.broker.records(CHANGES).values():
            for _, entry in records:
                row, said = _said(entry)
                truth.setdefault(row, []).append(said)
        found = {row: said for bucket in self.redis.buckets for row, said in bucket.rows().items()}
        return [
            f"row {row}: Redis has {winner(found.get(row, []))}, the truth is {winner(truth.get(row, []))}"
            for row in sorted(truth.keys() | found.keys())
            if winner(found.get(row, [])) != winner(truth.get(row, []))
        ]


def _said(entry: Entry) -> tuple[str, Said]:
    value = json.loads(entry.value or b"")
    row, after = str(value["key"]["id"]), value["after"]
    if after is None:
        return row, (value["position"], None)
    told = {name: UNAVAILABLE if name in value["unavailable"] else after.get(name) for name in ("name", "note")}
    return row, (value["position"], told)


class LakeWorld(ChangesWorld):
    """Changes become rows of the lake."""

    name = "lake"

    def __init__(self, random: Random, around: Surroundings) -> None:
        super().__init__(random, around)
        limits = {"commit_rows_max": random.choice([2, 8, 100]), "commit_age_seconds": random.choice([0.5, 2.0, 5.0])}
        self.config = Config.model_validate({"lake": limits})
        around.catalogue = self.catalogue = Catalogue(around.network)

    def stage(self, worker: Worker, service: Service) -> tuple[Any, Mapping[str, Any]]:
        clock = self.around.network.clock
        stage = LakeStage(self.config, names=NAMES, tables=self.tables, consumer=service, clock=clock)
        return stage, {"starts": stage.starts, "on_leaving": stage.leaving, "group_records_max": 10}

    def mishaps(self) -> list[str]:
        return ["lake_fails", "lake_fails"]

    def mishap(self, which: str) -> float:
        self.catalogue.trouble = self.random.choice([0.2, 0.6])
        return self.random.uniform(1.0, 6.0)

    def mend(self) -> None:
        self.catalogue.trouble = 0.0

    def caught_up(self) -> bool:
        """Say whether the lake has come to the end: the group's offsets follow with the next record only."""
        keys = self.broker.partitions_of([self.topic])
        return self.fed and all(not self.broker.read(key, self.stored(key), 1)[0] for key in keys)

    def stored(self, key: Key) -> int:
        """Return the next offset that the table's property says."""
        text = self.catalogue.current.properties.get(f"headgate.partition.{key[1]}")
        return 0 if text is None else int(json.loads(text)["next"])

    def offset_stored(self, group: str, key: Key, offset: int) -> None:
        stands = self.stored(key)
        lacking = self.below(key, stands, offset)
        if lacking:
            raise Violation(f"{key}: offset {offset} was committed, and the lake stands at {stands}")

    def differences(self) -> list[str]:
        wanted = Counter(
            tuple(json.loads(entry.value or b"")["source"]["origin"][2:])
            for records in self.broker.records(CHANGES).values()
            for _, entry in records
        )
        found: Counter[tuple[int, int]] = Counter()
        for file in self.catalogue.files():
            if file.file_path in self.catalogue.deleted:
                return [f"{file.file_path} was deleted, and the table refers to it"]
            columns = [file.rows.column(name).to_pylist() for name in ("_hg_partition", "_hg_offset")]
            found.update(zip(*columns, strict=True))
        once = Counter(dict.fromkeys(wanted, 1))
        missing, doubled = sorted((once - found).elements()), sorted((found - once).elements())
        return [f"missing {missing[:5]}, doubled {doubled[:5]}"] if missing or doubled else []


WORLDS: dict[str, type[World]] = {world.name: world for world in (NormalizeWorld, FeaturesWorld, LakeWorld)}
