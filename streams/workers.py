"""What the workers of an installation say of themselves, as read from `headgate.status`, and the sums over them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import msgspec

from connectors.transport.tail import CompactedReader, Entry
from schemas.change import Operation
from schemas.config import Config
from schemas.errors import VersionRefused
from schemas.topics import TopicNames
from schemas.versions import STATUS
from streams.registration import open_admin
from streams.settings import client_settings, is_embedded
from streams.status import count_rows, iso

TELL_SECONDS = 5.0  # how often a worker writes its state
GONE_SECONDS = 4 * TELL_SECONDS  # a worker that wrote nothing for so long is told of as gone
IDLE_SECONDS_MAX = 10.0  # while the states are read
OPERATIONS = tuple(map(str, (Operation.SNAPSHOT, Operation.INSERT, Operation.UPDATE, Operation.DELETE)))
STATES_BYTES_MAX = 64 * 1024 * 1024
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode
_SICK = frozenset({"gone", "failed", "silent", "dead", "unreadable"})


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker: who it is, how it does in one word, and what it said last; `since` is when it said so."""

    stage: str
    instance: str
    slot: int
    state: str
    pid: int = 0
    url: str = ""
    since: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its slot."""
        return f"{self.stage}-{self.instance}-{self.slot}"

    @property
    def is_sick(self) -> bool:
        """Tell whether somebody should look after it."""
        return self.state in _SICK

    def document(self) -> dict[str, Any]:
        """Return who it is, what it said, its state in one word, and since when where it is another machine's."""
        identity = {"stage": self.stage, "instance": self.instance, "slot": self.slot, "pid": self.pid}
        return {**identity, "url": self.url, "since": self.since, **self.status, "state": self.state}


def state_of_record(entry: Entry, *, now: float) -> WorkerState | None:
    """Return the worker that a record tells of; None where it tells that it has ended, or is not of ours."""
    if entry.value is None:
        return None
    at = entry.timestamp_ms / 1000
    since = iso(at) if at > 0 else ""
    name = entry.key.decode("utf-8", "replace")
    try:
        STATUS.check_json(entry.value, f"the state of {name}")
        status = _DECODE(entry.value)
        stage, instance, slot = status["stage"], status["instance"], int(status["slot"])
        pid = int(status.get("pid", 0))
    except VersionRefused as refused:
        told = {"last_error": {"kind": "configuration", "message": refused.message, "hint": refused.hint, "at": since}}
        return WorkerState(name, "", 0, "unreadable", since=since, status=told)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None
    state = "gone" if now - at > GONE_SECONDS else str(status.get("state", "unknown"))
    return WorkerState(str(stage), str(instance), slot, state, pid, since=since, status=status)


def states_of_records(entries: Collection[Entry], *, now: float) -> list[WorkerState]:
    """Return the workers that records tell of, by stage and slot.

    They have the broker's time, which `now` may be behind: it is not before the newest of them.
    """
    at = max([now, *(entry.timestamp_ms / 1000 for entry in entries)])
    found = (state_of_record(entry, now=at) for entry in entries)
    return sorted((each for each in found if each is not None), key=lambda each: each.name)


class StatusReader:
    """The states of all workers, from any machine that reaches Kafka; `follow` keeps them up to date."""

    def __init__(self, config: Config) -> None:
        """Connect when first asked."""
        self._config, self._topic = config, TopicNames(config.kafka.topic_prefix).status
        self._entries: dict[bytes, Entry] = {}
        self._lock = threading.Lock()
        self._reader: CompactedReader | None = None

    def load(self) -> Self:
        """Read the topic to its end; one that is not there holds nothing.

        Raises:
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: it does not let this user read.
        """
        if not open_admin(self._config).describe([self._topic]):
            return self
        reader = CompactedReader(
            self._topic, client_settings(self._config), embedded=is_embedded(self._config), bytes_max=STATES_BYTES_MAX
        )
        self._reader = reader
        self._entries = reader.load_entries(idle_seconds_max=IDLE_SECONDS_MAX)
        return self

    def follow(self) -> None:
        """Take up what is written from now on, on a thread of its own, until `close`."""
        if self._reader is not None:
            self._reader.follow(self._take)

    def _take(self, entry: Entry) -> None:
        with self._lock:
            self._entries[entry.key] = entry

    def workers(self) -> list[WorkerState]:
        """Return the workers as of now, by stage and slot."""
        with self._lock:
            entries = list(self._entries.values())
        return states_of_records(entries, now=time.time())

    def close(self) -> None:
        """Leave."""
        if self._reader is not None:
            self._reader.close()


def read_workers(config: Config) -> list[WorkerState]:
    """Return the workers as of now; see `StatusReader.load` for what it raises."""
    reader = StatusReader(config)
    try:
        return reader.load().workers()
    finally:
        reader.close()


def merged(local: Iterable[WorkerState], told: Iterable[WorkerState]) -> list[WorkerState]:
    """Return all workers once: what one of this machine answers itself is newer than what it wrote.

    Of one that does not answer, what it wrote last is shown beside its state.
    """
    found = {each.name: each for each in told}
    for each in local:
        written = found.get(each.name)
        if not each.status and written is not None:
            found[each.name] = replace(each, status=written.status, since=written.since)
        else:
            found[each.name] = each
    return sorted(found.values(), key=lambda each: each.name)


def missing_stages(stages: Iterable[str], workers: Iterable[WorkerState]) -> list[str]:
    """Return the stages that no worker works for, in their order."""
    alive = {each.stage for each in workers if not each.is_sick}
    return [stage for stage in stages if stage not in alive]


def table_sums(workers: Iterable[WorkerState]) -> list[dict[str, Any]]:
    """Return one row per stage, table and topic over all workers that are there; ages in seconds."""
    rows: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for worker in workers:
        if not worker.is_sick:
            for row in worker.status.get("tables", []):
                place = (worker.stage, str(row.get("table")), str(row.get("topic")))
                rows.setdefault(place, []).append(row)
    return [
        {"stage": stage, "table": table, "topic": topic, "workers": len(of), **_sum(of)}
        for (stage, table, topic), of in sorted(rows.items())
    ]


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    paused = next((row for row in rows if row.get("paused")), None)
    return {
        "partitions": sum(row.get("partitions") or 0 for row in rows),
        "lag": _over(sum, rows, "lag"),
        "freshness_seconds": _over(min, rows, "freshness_seconds"),
        "silence_seconds": _over(min, rows, "silence_seconds"),
        "oldest_unfinished_seconds": _over(max, rows, "oldest_unfinished_seconds"),
        "paused": paused["paused"] if paused else None,
        "hint": paused.get("hint", "") if paused else "",
        "unknown_columns": sorted({column for row in rows for column in row.get("unknown_columns") or ()}),
        "evolved": _evolved(rows),
        "pending": _added(rows, "pending"),
        "sweeping": any(row.get("sweeping") for row in rows),
        "parked": _added(rows, "parked"),
        "resync": next((row["resync"] for row in rows if row.get("resync")), None),  # one worker completes it
    }


def _evolved(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the columns that are not as registered, each once: all workers run one spec, within a moment."""
    found = {column["column"]: column for row in rows for column in row.get("evolved") or ()}
    return [found[name] for name in sorted(found)]


def _added(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, int] | None:
    """Return the figures of `pending` or `parked`, added up; None where no row has any.

    Pending are views of which a part is still to be filled, parked are records of a table that is paused beside others.
    """
    told = [row[what] for row in rows if row.get(what)]
    return {name: sum(each[name] for each in told) for name in told[0]} if told else None


def _over(fold: Any, rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    known = [row[name] for row in rows if row.get(name) is not None]
    return fold(known) if known else None


def quarantine_sums(workers: Iterable[WorkerState]) -> list[dict[str, Any]]:
    """Return one row per table and reason over all workers that are there: what they quarantined since they started."""
    return count_rows(_counted(workers, "quarantined", "reason"), "reason")


def operation_sums(workers: Iterable[WorkerState]) -> list[dict[str, Any]]:
    """Return one row per table over all workers that are there: its changes since they started, by operation."""
    sums: dict[str, dict[str, Any]] = {}
    for (table, operation), n in sorted(_counted(workers, "emitted", "operation").items()):
        sums.setdefault(table, {"table": table, **dict.fromkeys(OPERATIONS, 0)})[operation] = n
    return list(sums.values())


def _counted(workers: Iterable[WorkerState], field: str, what: str) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for worker in workers:
        for row in worker.status.get(field, []) if not worker.is_sick else ():
            counts[str(row.get("table") or ""), str(row.get(what))] += int(row.get("count") or 0)
    return counts


def stage_sums(workers: Iterable[WorkerState], stages: Iterable[str]) -> list[dict[str, Any]]:
    """Return one row per stage, also for one without a worker."""
    by_stage: dict[str, list[WorkerState]] = {stage: [] for stage in stages}
    for worker in workers:
        by_stage.setdefault(worker.stage, []).append(worker)
    return [_stage_sum(stage, of) for stage, of in by_stage.items()]


def _stage_sum(stage: str, workers: Sequence[WorkerState]) -> dict[str, Any]:
    there = [each for each in workers if not each.is_sick]
    rows = [row for each in there for row in each.status.get("tables", [])]
    return {
        "stage": stage,
        "workers": len(there),
        "not_there": [each.name for each in workers if each.is_sick],
        "partitions": sum(int(each.status.get("assigned") or 0) for each in there),
        "lag": _over(sum, [row for each in there for row in _by_topic(each)], "lag"),
        "paused_tables": len({row.get("table") for row in rows if row.get("paused")}),
    }


def _by_topic(worker: WorkerState) -> Iterable[Mapping[str, Any]]:
    """Return a row for each topic: one of several tables has a row for each of them, with the same lag."""
    return {row.get("topic"): row for row in worker.status.get("tables", [])}.values()
