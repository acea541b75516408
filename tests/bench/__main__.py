"""`make bench`: one table, all in one run on one machine.

python -m tests.bench --events 1000000 --rounds 3 --rows normalize,features
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from schemas.config import Config, read_config
from schemas.table import TableSpec
from schemas.topics import TopicNames
from sinks.redis.layout import Layout
from streams.apply import apply_folder
from tests.bench.events import Make, bench_spec, fill
from tests.bench.families import FAMILIES, JSON, Family
from tests.bench.latency import RATE, measure
from tests.bench.measure import (
    DEADLINE_SECONDS,
    LOOK_SECONDS,
    Figure,
    Progress,
    between,
    family_cpu_seconds,
    first_commit,
    mark,
    start_stage,
    stop,
    watch,
)
from tests.bench.schema_events import AvroEvents
from tests.services import Kafka, RedisServer, Services
from tests.services.registry import SchemaRegistry

TOPIC = "bench.public.results"
PARTITIONS = 4
WIDE_TABLES = 150
STAGES = ("normalize", "features", "alerts", "lake")
ROWS = ("yardstick", "hand", "stock", *STAGES, *FAMILIES, "updates", "latency", "together", "wide", "mixed")
YARDSTICK = "consume + orjson.loads"
TUNED = "the same, tuned to fetch as ours does"
PASSING = "consume + msgspec that skips the block"
HAND_WRITTEN = "hand-written loop"
STOCK_EVENTS = 60_000
LATENCY_SECONDS = 30.0
VIEW_ID = "latest_results.1"


class Bench:
    """One run: services, filled topics, and a function per row."""

    def __init__(self, services: Services, folder: Path, *, events: int) -> None:
        """Start Kafka and Redis, and fill the source topic."""
        self.folder, self.events = folder, events
        self.kafka: Kafka = services.kafka(private=True)
        self.redis: RedisServer = services.redis(private=True)
        self.broker_pids = [self.kafka.runner.pid]  # type: ignore[attr-defined]
        self.round = 0
        self.registry = SchemaRegistry()
        self._filled: set[str] = set()
        self._create({TOPIC: PARTITIONS})
        size = fill(self.kafka.address, TOPIC, events)
        print(f"{events:,} events of {size:.0f} bytes, {PARTITIONS} partitions, lz4", file=sys.stderr)

    def _create(self, topics: dict[str, int]) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka.address})
        futures = admin.create_topics([NewTopic(name, n, 1) for name, n in topics.items()])
        for future in futures.values():
            future.result(60)

    def _forget(self, topic: str) -> None:
        """Delete a topic, if it is there: what a stage remembers there of the round before would pause it."""
        admin = AdminClient({"bootstrap.servers": self.kafka.address})
        if topic in admin.list_topics(timeout=60).topics:
            admin.delete_topics([topic])[topic].result(60)

    def configure(self, prefix: str, group: str, specs: list[TableSpec]) -> Path:
        """Write a configuration whose groups and lake are new, and apply the specs."""
        folder = self.folder / f"{prefix}-{group}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tables").mkdir(parents=True)
        text = (
            f"kafka: {{bootstrap: '{self.kafka.address}', topic_prefix: {prefix}, group_prefix: {group}}}\n"
            f"redis: {{url: '{self.redis.address}'}}\n"
            f"lake: {{warehouse: '{folder}/lake', commit_age_seconds: 1}}\n"
            f"web: {{state_folder: '{folder}/state'}}\n"
            f"{self._registry_setting()}"
        )
        path = folder / "headgate.yaml"
        path.write_text(text)
        for spec in specs:
            (folder / "tables" / f"{spec.table}.yaml").write_text(spec.model_dump_json())
        apply_folder(self.config(path), folder / "tables")
        return path

    @staticmethod
    def config(path: Path) -> Config:
        """Read a configuration back."""
        return read_config(path.read_text(), name=str(path))

    def yardstick(self) -> list[Figure]:
        """Raw consume, and consume with orjson: with the client's defaults, and tuned as our consumer is."""
        return [
            self._yardstick("raw consume", "raw", "tuned"),
            self._yardstick(YARDSTICK, "decode", "defaults"),
            self._yardstick(TUNED, "decode", "tuned"),
        ]

    def _yardstick(self, name: str, mode: str, settings: str) -> Figure:
        return self._measured(name, "yardstick", TOPIC, str(PARTITIONS), str(self.events), mode, settings)

    def hand(self) -> list[Figure]:
        """What people write instead of NORMALIZE: a loop without transactions, checks or memory."""
        output = f"hand{self.round}.changes"
        self._create({output: PARTITIONS})
        return [self._measured(HAND_WRITTEN, "hand_written", TOPIC, output, str(PARTITIONS), str(self.events))]

    def stock(self) -> list[Figure]:
        """Stock Faust with a no-op agent, over the first part of the events: more would take minutes."""
        events = min(self.events, STOCK_EVENTS)
        figure = self._measured("stock Faust, no-op agent", "stock_faust", TOPIC, str(events))
        return [replace(figure, note=f"{events:,} events")]

    def _measured(self, name: str, module: str, *arguments: str) -> Figure:
        """Run a module of the bench as a process of its own, which prints its figures as JSON."""
        command = [sys.executable, "-m", f"tests.bench.{module}", self.kafka.address, *arguments]
        before = family_cpu_seconds(self.broker_pids)
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
        broker = family_cpu_seconds(self.broker_pids) - before
        found = json.loads(printed.splitlines()[-1])
        per_million = 1e6 / found["events"]
        return Figure(
            name, found["events_per_second"], found["cpu_seconds"] * per_million, broker * per_million,
            found["rss_bytes"],
        )  # fmt: skip

    def stage(self, stage: str) -> list[Figure]:
        """One stage alone, one process; downstream stages read what NORMALIZE of the first round wrote."""
        prefix = f"n{self.round}" if stage == "normalize" else "n0"
        group = f"{stage}{self.round}"
        self._forget(TopicNames(prefix).stage_state(stage))
        path = self.configure(prefix, group, [bench_spec("results", TOPIC)])
        self.redis.flush()
        topic = TOPIC if stage == "normalize" else f"{prefix}.changes.results"
        return [self._run(stage.upper(), ["--stage", stage], path, [self._progress(group, stage, topic)])]

    def family(self, family: Family) -> list[Figure]:
        """NORMALIZE over the same rows in another format; beside schema blocks, msgspec that passes over them."""
        if family.topic not in self._filled:
            self._filled.add(family.topic)
            self._create({family.topic: PARTITIONS})
            size = fill(self.kafka.address, family.topic, self.events, make=self._make(family))
            print(f"{family.name}: {size:.0f} bytes", file=sys.stderr)
        prefix = group = f"{family.name}{self.round}"
        path = self.configure(prefix, group, [family.spec("results", family.topic)])
        progress = [self._progress(group, "normalize", family.topic)]
        figures = [self._run(f"NORMALIZE {family.name}", ["--stage", "normalize"], path, progress)]
        if family.name == "block":
            arguments = (family.topic, str(PARTITIONS), str(self.events), "passing", "defaults")
            figures.append(self._measured(PASSING, "yardstick", *arguments))
        return figures

    def _make(self, family: Family) -> Make:
        """Return what makes a family's records; those of Avro carry the ids of the bench's registry."""
        if not isinstance(family.make, AvroEvents):
            return family.make
        if not self.registry.port:
            self.registry.start()
        names = (f"{family.topic}-{side}" for side in ("key", "value"))
        ids = [
            self.registry.register(name, text).number
            for name, text in zip(names, family.make.schemas(family.topic), strict=True)
        ]
        return AvroEvents(*ids)

    def _registry_setting(self) -> str:
        return f"registry: {{urls: ['{self.registry.url}']}}\n" if self.registry.port else ""

    def updates(self) -> list[Figure]:
        """FEATURES with a view that emits, until every update is in Kafka; reads what NORMALIZE wrote first."""
        group, topic = f"updates{self.round}", "n0.changes.results"
        spec = bench_spec("results", TOPIC)
        emitting = [view.model_copy(update={"emit": True}) for view in spec.features]
        path = self.configure("n0", group, [spec.model_copy(update={"features": emitting})])
        self.redis.flush()
        process, pids = start_stage(["--stage", "features"], path, path.parent / "log"), self.broker_pids
        try:
            progress = self._progress(group, "features", topic)
            first = first_commit(process, progress, broker_pids=pids)
            watched = watch("updates", process, [progress], broker_pids=pids)
            self._until_relayed(self.config(path))
            last = mark(process, self.events, pids)
        finally:
            stop(process)
        return [between("FEATURES with updates", first, last, watched.rss_bytes)]

    def _until_relayed(self, config: Config) -> None:
        """Wait until no feature update waits in Redis."""
        layout, deadline = Layout("hg", config.redis.buckets), time.monotonic() + DEADLINE_SECONDS
        with self.redis.client() as client:
            while any(client.xlen(layout.outbox(bucket)) for bucket in range(config.redis.buckets)):
                assert time.monotonic() < deadline, f"not relayed after {DEADLINE_SECONDS} s"
                time.sleep(LOOK_SECONDS)

    def _progress(self, group: str, stage: str, topic: str) -> Progress:
        return Progress(self.kafka.address, f"{group}-{stage}", [(topic, p) for p in range(PARTITIONS)])

    def _run(self, name: str, arguments: list[str], path: Path, progress: list[Progress]) -> Figure:
        process = start_stage(arguments, path, path.parent / "log")
        try:
            figure = watch(name, process, progress, broker_pids=self.broker_pids)
        finally:
            code = stop(process)
        return figure if code == 0 else replace(figure, note=f"exit {code}")

    def together(self) -> list[Figure]:
        """All stages in their processes under one supervisor: from NORMALIZE's first commit to the last one of all."""
        prefix = group = f"t{self.round}"
        path = self.configure(prefix, group, [bench_spec("results", TOPIC)])
        self.redis.flush()
        process, pids = start_stage([], path, path.parent / "log"), self.broker_pids
        try:
            source = self._progress(group, "normalize", TOPIC)
            first = first_commit(process, source, broker_pids=pids)
            watched = [watch("normalize", process, [source], broker_pids=pids)]
            rest = [self._progress(group, stage, f"{prefix}.changes.results") for stage in STAGES[1:]]
            watched.append(watch("the others", process, rest, broker_pids=pids))
            last = mark(process, self.events, pids)
        finally:
            stop(process)
        return [between("all stages together", first, last, max(figure.rss_bytes for figure in watched))]

    def latency(self) -> list[Figure]:
        """From commit to feature at 2,000 events/s; its own topic, NORMALIZE and FEATURES only. Printed as a note."""
        topic, prefix = f"latency{self.round}.public.results", f"l{self.round}"
        self._create({topic: PARTITIONS})
        path = self.configure(prefix, prefix, [bench_spec("results", topic)])
        self.redis.flush()
        layout = Layout("hg", self.config(path).redis.buckets)
        stages = [start_stage(["--stage", stage], path, path.parent / stage) for stage in ("normalize", "features")]
        try:
            with self.redis.client() as client:
                seen = measure(
                    self.kafka.address,
                    topic,
                    client,
                    lambda row: layout.values(VIEW_ID, str(row)),
                    seconds=LATENCY_SECONDS,
                )
        finally:
            for stage in stages:
                stop(stage)
        p50, p99, worst = (f"{each * 1e3:.0f} ms" for each in (seen.p50, seen.p99, seen.worst))
        note = f"p50 {p50}, p99 {p99}, worst {worst}, {seen.samples} samples"
        return [Figure("commit to feature", RATE, 0.0, 0.0, 0, note)]

    def wide(self) -> list[Figure]:
        """NORMALIZE over 150 tables of four partitions."""
        return self._tables("wide", [JSON])

    def mixed(self) -> list[Figure]:
        """The same, where the tables have the six formats in turn."""
        return self._tables("mixed", [JSON, *FAMILIES.values()])

    def _tables(self, name: str, families: Sequence[Family]) -> list[Figure]:
        turns = zip(range(WIDE_TABLES), itertools.cycle(families), strict=False)
        tables = [replace(family, topic=f"{name}.public.t{number}") for number, family in turns]
        if self.round == 0:
            self._create({family.topic: PARTITIONS for family in tables})
            for family in tables:
                fill(self.kafka.address, family.topic, self.events // WIDE_TABLES, make=self._make(family))
        group = f"{name}{self.round}"
        path = self.configure(
            group, group, [family.spec(f"t{number}", family.topic) for number, family in enumerate(tables)]
        )
        partitions = [(family.topic, number) for family in tables for number in range(PARTITIONS)]
        progress = Progress(self.kafka.address, f"{group}-normalize", partitions)
        return [self._run(f"NORMALIZE, {WIDE_TABLES} tables, {name}", ["--stage", "normalize"], path, [progress])]


def table(figures: list[Figure]) -> str:
    """Return the figures as one table, with ratios to the others that read the same rows in the same run."""
    others = [(YARDSTICK, "ratio"), (TUNED, "tuned"), (HAND_WRITTEN, "hand"), (PASSING, "passed")]
    rates = {figure.name: figure.events_per_second for figure in figures}
    heads = " ".join(f"{head:>6}" for _, head in others)
    lines = [f"{'row':38} {'events/s':>10} {heads} {'CPU s/M':>8} {'broker':>7} {'RSS MB':>7}  note"]
    for f in figures:
        ratios = " ".join(f"{f.events_per_second / rates.get(name, float('nan')):>6.2f}" for name, _ in others)
        lines.append(
            f"{f.name:38} {f.events_per_second:>10,.0f} {ratios} {f.cpu_seconds_per_million:>8.1f} "
            f"{f.broker_cpu_seconds_per_million:>7.1f} {f.rss_bytes / 2**20:>7.0f}  {f.note}"
        )
    return "\n".join(lines)


def best(rounds: list[list[Figure]]) -> list[Figure]:
    """Return each row's best of all rounds."""
    found: dict[str, Figure] = {}
    for figure in (f for figures in rounds for f in figures):
        if figure.name not in found or figure.events_per_second > found[figure.name].events_per_second:
            found[figure.name] = figure
    return list(found.values())


def main() -> None:
    """Run the rows that were asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is printed")
    parser.add_argument("--rows", default=",".join(ROWS))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
    services = Services(folder)
    rounds: list[list[Figure]] = []
    try:
        bench = Bench(services, folder, events=options.events)
        rows: dict[str, Callable[[], list[Figure]]] = {
            "yardstick": bench.yardstick, "hand": bench.hand, "stock": bench.stock, "together": bench.together,
            "latency": bench.latency, "wide": bench.wide, "mixed": bench.mixed, "updates": bench.updates,
            **{name: lambda family=family: bench.family(family) for name, family in FAMILIES.items()},  # type: ignore[misc]
            **{stage: lambda stage=stage: bench.stage(stage) for stage in STAGES},  # type: ignore[misc]
        }  # fmt: skip
        for bench.round in range(options.rounds):
            figures = []
            for row in options.rows.split(","):
                figures += rows[row]()
                print(table(figures).splitlines()[-1], file=sys.stderr)
            rounds.append(figures)
    finally:
        bench.registry.kill()
        services.close()
    print(table(best(rounds)))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
