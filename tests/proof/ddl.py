"""Real PostgreSQL and MariaDB → Debezium → Headgate, while tables change: lake and Redis are the sources.

python -m tests.proof.ddl --rows 20000 --source both --seed 7

Fourteen changes of three tables are made while rows flow; no stage is started again. Where a change of a schema alters
rows (a default that fills a new column, a renamed column), no log says so: such rows are touched in the end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import yaml
from duckdb import DuckDBPyConnection

from schemas.config import Config, read_config
from schemas.table import LATEST, TableEntry
from sinks.lake.view import open_lake_sql
from streams.apply import apply_folder
from streams.registration import load_tables
from tests.oracles import (
    AlertKey,
    Change,
    Shape,
    Verdict,
    ViewShape,
    check_all_views,
    check_conservation,
    check_deliveries,
    check_latest,
    check_origins,
    check_streams,
    expected_alerts,
    read_lake,
    read_records,
    read_stored,
    require,
)
from tests.oracles.evolving import check_columns, check_rows, check_schema_versions, to_last_change
from tests.oracles.topic import Record
from tests.oracles.values import from_python
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import RedisServer, wait_until
from tests.workloads.changing_sources import SOURCES, ChangingSource, Key, Row, Servers
from tests.workloads.changing_tables import CHANGES, INT_MAX, MARIADB, TABLES, ChangingTable
from tests.workloads.changing_writer import Writer
from tests.workloads.ends import wait_quiet
from tests.workloads.installation import BUCKETS, NAMESPACE, SECRET, Installation
from tests.workloads.webhook import Webhook

EVOLUTION = {"unknown_columns": "add", "type_changes": "text"}
QUIET_SECONDS = 300.0
VIEW_SECONDS = 60.0
RULE = "wide-ward"
SHARED = ("normalize", "features", "lake")  # stages that may have several workers here


def document(source: ChangingSource, table: ChangingTable, *, last: bool) -> dict[str, Any]:
    """Return a table's spec: as somebody registers it at first, or (`last`) once all changes of its schema are known.

    The last one keeps the columns that are gone, for the sake of older rows, and has a view more, of all others.
    """
    name = f"{source.name}_{table.name}"
    views = [{"view": f"{name}-first", "entity": name, "columns": list(table.shown)}]
    if last:
        rest = [column for column in table.in_the_end if column not in table.key]
        views.append({"view": f"{name}-all", "entity": name, "columns": rest})
    when = f"op = 'insert' and after.ward > {INT_MAX}" if table.name == "patients" else "after.revision < 0"
    values = {"ward": "after.ward"} if table.name == "patients" else {}
    return {
        "table": name,
        "topics": [source.topic(table.name)],
        "key": list(table.key),
        "columns": table.ever if last else dict(table.at_first),
        "before": "full" if source.name == MARIADB else "none",
        "features": views,
        "rules": [{"rule": RULE, "when": when, "values": values, "severity": "info"}],
        **EVOLUTION,
    }


def wide_ward(change: Change) -> Mapping[str, Any] | None:
    """Return the values of the alert of a patient whose ward is no int."""
    row = change.after
    wide = change.op == "insert" and row is not None and row["ward"] > INT_MAX
    return {"ward": str(row["ward"])} if wide and row is not None else None


@dataclass(slots=True)
class Run:
    """A proof under way: sources with their writers, and what follows them."""

    installation: Installation
    redis: RedisServer
    webhook: Webhook
    writers: list[Writer]
    shapes: dict[str, Shape]  # the installation's own: what is registered so far
    records: dict[str, list[Record]] = field(default_factory=dict)
    _apply: threading.Lock = field(default_factory=threading.Lock)

    @property
    def config(self) -> Config:
        """Its configuration."""
        return read_config((self.installation.folder / "headgate.yaml").read_text(), name="headgate.yaml")

    def has_begun(self) -> bool:
        """Say whether each table has a change on its output: read in one go, all would be of the last spec."""
        topics = map(self.installation.changes_topic, self.shapes)
        return all(read_records(self.installation.kafka, topic) for topic in topics)

    def apply(self, *documents: Mapping[str, Any], force: bool = False) -> None:
        """Apply specs while all stages run, with `force` also what their readers have to be told of."""
        with self._apply:
            folder = self.installation.folder / "tables"
            for each in documents:
                (folder / f"{each['table']}.yaml").write_text(yaml.safe_dump(each, sort_keys=False))
                self.shapes[each["table"]] = Shape.of(dict(each))
            apply_folder(self.config, folder, force=force)

    def flow(self, writer: Writer, rows: int) -> None:
        """Write rows and change schemas; then the specs are brought up to date, and rows flow on."""
        source = writer.source
        for change in writer.flow(rows):
            print(f"{source.name}: {writer.rows:,} rows, then {change.table}: {change.what}", flush=True)
            if change.creates:
                self.apply(document(source, TABLES[change.table], last=False))
        # The key has become wider, and so have the keys of the records.
        self.apply(*(document(source, table, last=True) for table in TABLES.values()), force=True)
        print(f"{source.name}: {writer.rows:,} rows, then the last specs are applied", flush=True)
        writer.write(rows // 20)
        writer.touch_silent()
        print(f"{source.name}: {writer.rows:,} rows, of which {writer.touched:,} touch what no log told", flush=True)


def prove(
    servers: Servers,
    redis: RedisServer,
    folder: Path,
    *,
    sources: Sequence[str],
    rows: int,
    seed: int,
    workers: int = 1,
) -> list[Verdict]:
    """Let `rows` rows flow from each of `sources`, with all changes of schemas in between; ask every oracle.

    NORMALIZE, FEATURES and LAKE have so many `workers` each.
    """
    print(f"seed {seed}, {rows:,} rows and {len(CHANGES)} schema changes of each of {', '.join(sources)}")
    with ExitStack() as stack, Webhook(SECRET) as webhook:
        writers = [Writer(SOURCES[name](servers), seed) for name in sources]
        for writer in writers:
            writer.write(rows // 20)
            writer.follow()
            stack.callback(writer.source.close)
        shapes: dict[str, Shape] = {}
        for writer in writers:
            documents = (document(writer.source, TABLES[name], last=False) for name in writer.live)
            shapes |= {each["table"]: Shape.of(each) for each in documents}
        with Installation(
            folder, servers.kafka.address, redis.address, webhook.url, shapes,
            arguments=tuple(word for stage in SHARED for word in ("--workers", f"{stage}={workers}")),
        ) as installation:  # fmt: skip
            run = Run(installation, redis, webhook, writers, shapes)
            began = time.monotonic()
            installation.start()
            print(f"all stages run after {time.monotonic() - began:.1f} s", flush=True)
            wait_until(run.has_begun, "first rows of all tables are through", deadline_seconds=QUIET_SECONDS)
            first = processes(installation)
            with ThreadPoolExecutor(len(writers)) as pool:
                for done in [pool.submit(run.flow, writer, rows) for writer in writers]:
                    done.result()
            wait_quiet(installation, records=sum(w.records for w in writers), deadline_seconds=QUIET_SECONDS)
            print(f"quiet after {time.monotonic() - began:.1f} s", flush=True)
            again = same_workers(installation, first, at_least=len(SHARED))
            verdicts = look(run)
            installation.stop()
            return [again, *verdicts]


def processes(installation: Installation) -> dict[str, int]:
    """Return the process of each worker, by its name."""
    return {path.stem: json.loads(path.read_bytes())["pid"] for path in installation.state_folder.glob("*.json")}


def same_workers(installation: Installation, before: Mapping[str, int], *, at_least: int) -> Verdict:
    """Check that each worker is the process that it was, and that there are so many."""
    verdict, now = Verdict("no worker was started again", {"workers": len(before)}), processes(installation)
    for worker in sorted(before.keys() | now.keys()):
        if before.get(worker) != now.get(worker):
            verdict.differ(f"{worker} is another process")
    verdict.at_least("workers", at_least)
    return verdict


def look(run: Run) -> list[Verdict]:
    """Read the ends and the sources, and ask every oracle."""
    everything: list[Change] = []
    verdicts, rows, in_force = [], {}, load_tables(run.config)
    with open_lake_sql(run.config.lake) as lake:
        for writer in run.writers:
            for table in TABLES.values():
                name = f"{writer.source.name}_{table.name}"
                rows[name] = writer.source.rows(table.name, table.in_the_end, table.key)
                found, changes = look_at_table(run, lake, in_force[name], table, rows[name])
                verdicts += found
                everything += changes
    verdicts += look_at_quarantine(run, everything)
    verdicts += look_at_redis(run, rows)
    alerts: dict[AlertKey, Mapping[str, Any]] = {}
    for name in (name for name in rows if name.endswith("_patients")):
        mine = [change for change in everything if change.record.topic == run.installation.changes_topic(name)]
        alerts |= expected_alerts(name, {(RULE, 1): wide_ward}, mine)
    verdicts.append(check_deliveries(alerts, run.webhook.deliveries, alert_of=lambda body: body["data"]))
    work = Verdict("the workload")
    for writer in run.writers:
        figures = {"rows": writer.rows, "schema changes": writer.changes, "touched": writer.touched}
        work.figures |= {f"{what} of {writer.source.name}": figure for what, figure in figures.items()}
        work.at_least(f"schema changes of {writer.source.name}", 10)
    return [*verdicts, work]


def look_at_table(
    run: Run, lake: DuckDBPyConnection, entry: TableEntry, table: ChangingTable, rows: Mapping[Key, Row]
) -> tuple[list[Verdict], list[Change]]:
    """Ask what concerns one table alone; return its changes too."""
    installation, name = run.installation, entry.spec.table
    ever = run.shapes[name]
    last = Shape.of({**ever.document, "columns": dict(table.in_the_end)})
    records = read_records(installation.kafka, installation.changes_topic(name))
    changes = [to_last_change(ever, record) for record in records]
    in_lake = read_lake(installation.warehouse, NAMESPACE, ever)
    in_the_end = [replace(each, row={column: each.row[column] for column in last.columns}) for each in in_lake]
    names = ", ".join(f'"{column}"' for column in last.columns)
    folded = lake.sql(f'select {names} from "{name}{LATEST}"').to_arrow_table().to_pylist()
    latest = (tuple(from_python(type_, row[each]) for each, type_ in last.columns.items()) for row in folded)
    source = (tuple(row[each] for each in last.columns) for row in rows.values())
    verdicts = [
        check_columns(name, table.ever, {each: str(column.type) for each, column in entry.spec.columns.items()}),
        check_schema_versions(name, records, at_least=1 if table.at_first == table.ever else 2),
        check_streams(changes, name=name),
        check_latest(last, in_the_end, rows),
        check_origins(ever, in_lake, changes),
        check_rows(f"lake, the view of the latest rows of {name}", list(last.columns), source, latest),
    ]
    return verdicts, changes


def look_at_quarantine(run: Run, changes: Sequence[Change]) -> list[Verdict]:
    """Check that each record of the sources was emitted or is a tombstone, and that nothing is in quarantine."""
    installation = run.installation
    topics = {topic for shape in run.shapes.values() for topic in shape.topics}
    entries = [orjson.loads(r.value or b"") for r in read_records(installation.kafka, installation.quarantine_topic)]
    quarantine = Verdict("quarantine is empty", {"entries": len(entries)})
    for entry in entries:
        quarantine.differ(f"{entry['stage']}: {entry['reason']}: {entry['message']} at {entry['origin']}")
    conservation = check_conservation(
        (record for topic in topics for record in read_records(installation.kafka, topic)),
        emitted=[change.origin for change in changes],
        quarantined=[tuple(entry["origin"]) for entry in entries if entry["stage"] == "normalize"],
        topics=topics,
        at_least=sum(writer.records for writer in run.writers),
    )
    return [quarantine, conservation]


def look_at_redis(run: Run, rows: Mapping[str, Mapping[Key, Row]]) -> list[Verdict]:
    """Compare all views with the source's rows, once the views that came last are complete."""
    views = [view for shape in run.shapes.values() for view in ViewShape.all_of(shape)]

    def verdicts() -> list[Verdict]:
        with run.redis.client() as client:
            stored = read_stored(client, run.installation.key_prefix)
        return check_all_views(views, stored, rows, buckets=BUCKETS)

    def holds() -> bool:
        return all(verdict.holds for verdict in verdicts())

    try:
        wait_until(holds, "Redis has the rows", deadline_seconds=VIEW_SECONDS, poll_seconds=1.0)
    except TimeoutError:
        print("Redis has not the rows of the sources")
    return verdicts()


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="of each source")
    parser.add_argument("--source", choices=[*SOURCES, "both"], default="both")
    parser.add_argument("--workers", type=int, default=1, help="of NORMALIZE, FEATURES and LAKE each")
    options = parser.parse_args(arguments)
    sources = list(SOURCES) if options.source == "both" else [options.source]
    with services_of_its_own() as (services, folder):
        kafka = services.kafka()
        servers = Servers(kafka, services.connect(kafka), services.postgres(), services.mariadb())
        redis = services.redis(private=True)
        rows, seed, workers = options.rows, options.seed, options.workers
        require(*prove(servers, redis, folder, sources=sources, rows=rows, seed=seed, workers=workers))
        print(f"ddl: proved with seed {options.seed}")


if __name__ == "__main__":
    main()
