"""Prometheus metrics of one stage process: read from its status when scraped, so that a record costs nothing.

`METRICS` is the one table of names; docs/metrics.md is made from it (`python -m streams.metrics`).
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TABLES_MAX = 500  # series per metric and process; the tables beyond share the label `(other)`
OTHER_TABLES = "(other)"
COUNTERS_MAX = 300

Snapshot = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric: its name, what it means, and the field of the status that it is read from."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    field: str
    help: str


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "headgate_up", "gauge", ("stage",), "state", "1 while the stage runs, 0 while it starts, waits or stops."
    ),
    MetricSpec(
        "headgate_start_time_seconds", "gauge", ("stage",), "started_at", "When the process started, as a Unix time."
    ),
    MetricSpec("headgate_assigned_partitions", "gauge", ("stage",), "assigned", "Partitions that this worker reads."),
    MetricSpec("headgate_paused_tables", "gauge", ("stage",), "tables", "Tables that are paused or cannot begin."),
    MetricSpec(
        "headgate_last_error_time_seconds",
        "gauge",
        ("stage", "kind"),
        "last_error",
        "When the last error was seen, as a Unix time.",
    ),
    MetricSpec(
        "headgate_lag_records",
        "gauge",
        ("stage", "table"),
        "lag",
        "Records that stand in the topic and are not done yet.",
    ),
    MetricSpec(
        "headgate_freshness_seconds",
        "gauge",
        ("stage", "table"),
        "freshness_seconds",
        "Age of the newest change that is done, by the source's commit time.",
    ),
    MetricSpec(
        "headgate_silence_seconds",
        "gauge",
        ("stage", "table"),
        "silence_seconds",
        "Time since the source last sent anything, heartbeats included.",
    ),
    MetricSpec(
        "headgate_oldest_unfinished_seconds",
        "gauge",
        ("stage", "table"),
        "oldest_unfinished_seconds",
        "Age of the oldest chunk that was begun and is not done.",
    ),
    MetricSpec(
        "headgate_parked_records",
        "gauge",
        ("stage", "table"),
        "parked",
        "Records of a table that is paused, or has stopped, in a topic that others share.",
    ),
    MetricSpec("headgate_buffered_rows", "gauge", ("stage",), "buffered_rows", "Rows taken and not committed yet."),
    MetricSpec("headgate_buffered_bytes", "gauge", ("stage",), "buffered_bytes", "Bytes taken and not committed yet."),
    MetricSpec(
        "headgate_outbox_entries", "gauge", ("stage",), "outbox_entries", "Entries of feature updates not relayed yet."
    ),
    MetricSpec(
        "headgate_outbox_bytes", "gauge", ("stage",), "outbox_bytes", "Bytes of feature updates not relayed yet."
    ),
    MetricSpec(
        "headgate_quarantined_total",
        "counter",
        ("stage", "table", "reason"),
        "quarantined",
        "Records put into quarantine since the process started; table is empty where it was of none.",
    ),
    MetricSpec(
        "headgate_emitted_total",
        "counter",
        ("stage", "table", "operation"),
        "emitted",
        "Changes written to output topics since the process started; a row that was read, not changed, is a snapshot.",
    ),
    MetricSpec(
        "headgate_work_total",
        "counter",
        ("stage", "what"),
        "counters",
        "What the stage counted since it started, by name.",
    ),
)
_BY_NAME = {spec.name: spec for spec in METRICS}
_TABLE_METRICS = tuple(spec for spec in METRICS if spec.labels == ("stage", "table"))
_TABLE_COUNTERS = tuple(spec for spec in METRICS if spec.labels[:2] == ("stage", "table") and spec.kind == "counter")
_HELD = tuple(
    spec for spec in METRICS if spec.field.startswith(("buffered_", "outbox_"))
)  # among the counters, but what is held now
_PER_SUM = frozenset({"lag"})  # tables beyond the bound add up in these; of the others the worst is shown


def stage_registry(snapshot: Snapshot) -> CollectorRegistry:
    """Return the registry of this process: its status as metrics, and what the system says of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(snapshot))
    ProcessCollector(registry=registry)
    return registry


class StatusCollector(Collector):
    """Turns the status of a stage into metrics at the moment of a scrape."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Read `snapshot` on every scrape."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield one family per row of `METRICS`."""
        status = self._snapshot()
        stage = str(status["stage"])
        tables = list(status.get("tables", ()))
        yield _gauge("headgate_up", [stage], float(status["state"] == "running"))
        yield _gauge("headgate_start_time_seconds", [stage], unix_time(status["started_at"]))
        yield _gauge("headgate_assigned_partitions", [stage], float(status.get("assigned", 0)))
        yield _gauge("headgate_paused_tables", [stage], float(sum(1 for table in tables if table.get("paused"))))
        if error := status.get("last_error"):
            yield _gauge("headgate_last_error_time_seconds", [stage, str(error["kind"])], unix_time(error["at"]))
        for spec in _TABLE_METRICS:
            yield _table_gauge(spec, stage, tables)
        for spec in _TABLE_COUNTERS:
            yield _table_counter(spec, stage, status.get(spec.field, ()))
        counters = dict(status.get("counters", {}))
        for spec in _HELD:
            if (held := counters.pop(spec.field, None)) is not None:
                yield _gauge(spec.name, [stage], float(held))
        yield _counters(stage, counters)


def _gauge(name: str, labels: list[str], value: float) -> Metric:
    spec = _BY_NAME[name]
    family = GaugeMetricFamily(name, spec.help, labels=spec.labels)
    family.add_metric(labels, value)
    return family


def _table_gauge(spec: MetricSpec, stage: str, tables: Iterable[Mapping[str, Any]]) -> Metric:
    family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
    for table, value in _bounded(spec.field, tables).items():
        family.add_metric([stage, table], value)
    return family


def _bounded(field: str, tables: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the values by table; a table of several topics is one, and those beyond `TABLES_MAX` are `(other)`."""
    values: dict[str, float] = {}
    for row in tables:
        value = row.get(field)
        if isinstance(value, Mapping):
            value = value["records"]
        if value is None:
            continue
        table = str(row["table"])
        name = table if table in values or len(values) < TABLES_MAX else OTHER_TABLES
        before = values.get(name, 0.0)
        values[name] = before + value if field in _PER_SUM else max(before, value)
    return values


def _table_counter(spec: MetricSpec, stage: str, rows: Iterable[Mapping[str, Any]]) -> Metric:
    """Return what was counted by table and the metric's last label; the tables beyond `TABLES_MAX` together."""
    what = spec.labels[-1]
    counts: Counter[tuple[str, str]] = Counter()
    tables: set[str] = set()
    for row in rows:
        table = str(row.get("table") or "")
        name = table if table in tables or len(tables) < TABLES_MAX else OTHER_TABLES
        tables.add(name)
        counts[name, str(row[what])] += int(row["count"])
    family = CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
    for (table, of), count in sorted(counts.items()):
        family.add_metric([stage, table, of], float(count))
    return family


def _counters(stage: str, counters: Mapping[str, float]) -> Metric:
    spec = _BY_NAME["headgate_work_total"]
    family = CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
    for name in sorted(counters)[:COUNTERS_MAX]:
        family.add_metric([stage, re.sub(r"[^A-Za-z0-9_.:-]", "_", name)[:100]], float(counters[name]))
    return family


def unix_time(text: str | float) -> float:
    """Return a time of the status, ISO 8601 in UTC, as seconds since 1970."""
    return float(text) if isinstance(text, int | float) else dt.datetime.fromisoformat(text).timestamp()


def metrics_page() -> str:
    """Return docs/metrics.md."""
    rows = [f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} |" for m in METRICS]
    return "\n".join(
        [
            "# Metrics",
            "",
            "Each stage process serves these at `/metrics`, beside Prometheus' own `process_*`.",
            "This page is made by `python -m streams.metrics`; a test compares.",
            "",
            f"`table` takes at most {TABLES_MAX} values per process; the tables beyond share `{OTHER_TABLES}`.",
            "",
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
