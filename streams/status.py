"""How a stage stands: lag, freshness, silence, what is unfinished, paused or failing, per table.

Names and figures only: never a value of a row.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from connectors.transport.chunk import by_topic
from connectors.transport.snapshot import LaneView, PartitionView, TransportView
from schemas.errors import ErrorKind, HeadgateError, TableStopped, Unavailable, naming
from schemas.evolution import EvolvedEntry
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.stage import Stage
from streams.tables import TableDirectory

if TYPE_CHECKING:
    from streams.parking import Waiting

UNKNOWN_COLUMNS_SHOWN = 20
RESOLVING = "resolving"  # a partition whose start is not known yet
VERSION = importlib.metadata.version("headgate")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stage process knows of itself at one moment."""

    name: str
    stage: Stage
    counters: Mapping[str, float]
    started_at: str
    started: bool
    stopping: bool
    waiting: Unavailable | None  # what it waits for before it can begin
    view: TransportView
    tables: TableDirectory
    names: TopicNames
    quarantined: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by table ("" for none) and reason
    emitted: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by table and operation


def status_of(at: Standing, *, now: float) -> dict[str, Any]:
    """Return the status of a stage process; the web server adds stage, instance, slot and pid."""
    paused = [entry for entry in at.tables.values() if entry.paused and at.name == "normalize"]
    # The relay's topic is empty, and nobody's table; what was read before is of interest where something waits.
    again = [each for each in at.view.partitions if _is_read_again(each.topic, at.names)]
    read = [each for each in at.view.partitions if each.topic != at.names.relay and each not in again]
    waiting = [each for each in again if each.lag or each.paused]
    under_way = UnderWay.of(at.stage)
    return {
        "stage": at.name,
        "version": VERSION,
        "pid": os.getpid(),
        "started_at": at.started_at,
        "state": state_of(at),
        "assigned": len(read),
        "tables": [
            *(
                table_status(table, of, at, now, under_way)
                for topic, of in by_topic(sorted([*read, *waiting], key=_by_name)).items()
                for table in _tables_of(topic, at.names, at.tables)
            ),
            *(paused_status(entry, under_way.parking.get(entry.spec.table)) for entry in paused),
        ],
        "quarantined": count_rows(at.quarantined, "reason"),
        "emitted": count_rows(at.emitted, "operation"),
        "last_error": last_error(at, now),
        "counters": dict(at.counters),
    }


def _is_read_again(topic: str, names: TopicNames) -> bool:
    """Tell whether a topic holds records that were redriven or parked."""
    return topic == names.redrive or names.parked_table(topic) is not None


def count_rows(counts: Mapping[tuple[str, str], int], what: str) -> list[dict[str, Any]]:
    """Return what was counted by table ("" for none) and `what`, a row for each pair."""
    return [{"table": table or None, what: of, "count": n} for (table, of), n in sorted(counts.items()) if n]


def state_of(at: Standing) -> str:
    """Return `starting`, `running`, `waiting` (for something that is away) or `stopping`."""
    if at.stopping:
        return "stopping"
    if at.waiting is not None or at.view.broker_away or any(_waits(lane) for lane in at.view.lanes):
        return "waiting"
    if waits_for(at.stage) is not None or any(
        each.status == RESOLVING and each.lag is None for each in at.view.partitions
    ):
        return "waiting"
    return "running" if at.started else "starting"


def waits_for(stage: Stage) -> HeadgateError | None:
    """Return what a stage waits for outside of its steps."""
    ask = getattr(stage, "waits_for", None)
    return ask() if ask is not None else None


def _waits(lane: LaneView) -> bool:
    return lane.trouble is not None and lane.trouble.kind in {ErrorKind.UNAVAILABLE, ErrorKind.ABORTED}


def _by_name(partition: PartitionView) -> tuple[str, int]:
    return partition.topic, partition.partition


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Tables whose views are filled, of which rows below a floor are taken away, whose resync is not complete.

    And what is parked of those that wait beside others.
    """

    filling: Mapping[str, Any]
    sweeping: Collection[str]
    resyncing: Mapping[str, Any]
    parking: Mapping[str, Waiting]

    @classmethod
    def of(cls, stage: Stage) -> UnderWay:
        """Ask a stage once for all of its tables; one that does not know such a thing has none of it."""
        return cls(*(getattr(stage, name, dict)() for name in ("filling", "sweeping", "resyncing", "parking")))


def table_status(
    table: str, partitions: list[PartitionView], at: Standing, now: float, under_way: UnderWay
) -> dict[str, Any]:
    """Return the figures of one topic, these are its partitions, as those of a table; ages in seconds.

    A topic of several tables has the same for each: what one of them waits for, all do.
    """
    lags = [each.lag for each in partitions if each.lag is not None]
    newest = max((each.last_timestamp_ms for each in partitions), default=-1)
    paused = next((each for each in partitions if each.paused and each.paused != "its lane is full"), None)
    unknown = getattr(at.stage, "unknown_columns", {}).get(table, ())
    parked = under_way.parking.get(table) if at.names.parked_table(partitions[0].topic) is None else None
    filling = under_way.filling.get(table)
    return {
        "table": table,
        "topic": partitions[0].topic,
        "partitions": len(partitions),
        "lag": sum(lags) if lags else None,
        "freshness_seconds": max(now - newest / 1000, 0.0) if newest >= 0 else None,
        "silence_seconds": min((each.idle_seconds for each in partitions), default=None),
        "oldest_unfinished_seconds": max((each.unfinished_age_seconds or 0.0 for each in partitions), default=0.0)
        or None,
        **_paused(paused, parked, table),
        "unknown_columns": sorted(unknown)[:UNKNOWN_COLUMNS_SHOWN],
        "evolved": evolved_columns(at.tables.unmasked(table)) if at.name == "normalize" and table in at.tables else [],
        "pending": {"done": filling.done, "total": filling.total} if filling is not None else None,
        "parked": parked_figures(parked),
        "sweeping": table in under_way.sweeping,
        "resync": under_way.resyncing.get(table),
    }


def parked_figures(parked: Waiting | None) -> dict[str, int] | None:
    """Return how much is parked of a table, None where nothing is."""
    return None if parked is None else {"records": parked.records, "bytes": parked.bytes}


def _paused(paused: PartitionView | None, parked: Waiting | None, table: str) -> dict[str, str | None]:
    """Return why a table waits, and what to do: its topic does, or what comes of it is parked."""
    if paused is not None:
        return {"paused": paused.paused, "hint": _hint(paused, table)}
    if parked is None:
        return {"paused": None, "hint": ""}
    again = f"`headgate tables resume {table}`; until then what comes of it is parked, and the others go on"
    return {"paused": parked.reason or None, "hint": f"{parked.hint}; then {again}" if parked.hint else again}


def _hint(paused: PartitionView, table: str) -> str:
    """Return what to do about a pause; one that this worker made by itself does not hold the table's other workers."""
    if not paused.stopped or "tables res" in paused.hint:
        return naming(paused.hint, table)
    again = f"this worker alone paused it: `headgate tables resume {table}` has all workers try again"
    return f"{paused.hint}; {again}" if paused.hint else again


def paused_status(entry: TableEntry, parked: Waiting | None = None) -> dict[str, Any]:
    """Return the row of a table that somebody paused: nothing of it is read, or it is parked."""
    return {
        "table": entry.spec.table,
        "topic": ", ".join(entry.spec.topics),
        "partitions": 0,
        "lag": None,
        "freshness_seconds": None,
        "silence_seconds": None,
        "oldest_unfinished_seconds": None,
        "paused": entry.paused,
        "hint": f"headgate tables resume {entry.spec.table}",
        "unknown_columns": [],
        "evolved": evolved_columns(entry),
        "pending": None,
        "sweeping": False,
        "parked": parked_figures(parked),
        "resync": None,
    }


def evolved_columns(entry: TableEntry | None, most: int = UNKNOWN_COLUMNS_SHOWN) -> list[dict[str, str]]:
    """Return the columns that are not as they were registered, so many of them: what each is, and since when."""
    if not isinstance(entry, EvolvedEntry):
        return []
    columns = entry.spec.columns
    return [{"column": name, "type": str(columns[name].type), "since": since} for name, since in entry.since.items()][
        :most
    ]


def _tables_of(topic: str, names: TopicNames, tables: TableDirectory) -> list[str]:
    """Return the tables that a topic is read for, but for those that are paused beside others; else its own name."""
    if topic.startswith(names.changes("")):
        return [names.table_of(topic)]
    if (parked := names.parked_table(topic)) is not None:
        return [parked]
    try:
        readers = tables.of_topic(topic)
    except TableStopped:  # several lay claim to it: it is paused, and the pause says so
        return [topic]
    if readers is None:
        return [topic]
    return [table for table, entry in readers.entries.items() if not entry.paused] or list(readers.entries)


def last_error(at: Standing, now: float) -> dict[str, Any] | None:
    """Return what is wrong at present, else what went wrong last, else None."""
    for lane in at.view.lanes:
        if (trouble := lane.trouble) is not None:
            return _error(trouble.kind.value, trouble.message, trouble.hint, trouble.since)
    if at.view.broker_away:
        if at.view.broker_says:
            hint = "look at kafka.tls and kafka.sasl; `headgate check` says more"
            return _error("unavailable", f"no broker lets us in: {at.view.broker_says}", hint, now)
        return _error("unavailable", "no broker answers", "is it up, and is kafka.bootstrap right?", now)
    error: HeadgateError | None = at.waiting or waits_for(at.stage) or getattr(at.stage, "last_error", None)
    if error is not None:
        return _error(error.kind.value, error.message, error.hint, now)
    for table, unreadable in at.tables.unreadable.items():
        return _error(unreadable.kind.value, f"{table}: {unreadable.message}", unreadable.hint, now)
    return None


def _error(kind: str, message: str, hint: str, at: float) -> dict[str, Any]:
    return {"kind": kind, "message": message, "hint": hint, "at": iso(at)}


def iso(at: float) -> str:
    """Return a time in seconds since 1970 as text."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
