"""What the transport says of itself, for `status` and metrics: plain values, made from any thread without waiting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.transport.ladder import Trouble
from connectors.transport.lane import Lane
from connectors.transport.partition import Partition, Status
from connectors.transport.partitions import Partitions
from schemas.errors import HeadgateError


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of this worker. Ages are in seconds; None where nothing is known."""

    topic: str
    partition: int
    lane: str
    status: str  # resolving, running, held
    position: int  # the next offset to come; -1 before it is resolved
    done: int | None  # everything below it is done
    committed: int | None
    end: int | None
    lag: int | None
    unfinished_age_seconds: float | None  # since the oldest unfinished run came
    begun_age_seconds: float | None  # since the oldest unfinished run was begun
    last_timestamp_ms: int
    idle_seconds: float
    paused: str  # why nothing is read; empty if it is
    hint: str
    stopped: bool = False  # this worker paused it by itself, until somebody decides


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane of this worker."""

    name: str
    bytes_used: int
    bytes_max: int
    paused: bool
    records_total: int
    groups_total: int
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class TransportView:
    """All of it."""

    partitions: list[PartitionView]
    lanes: list[LaneView]
    paused_topics: dict[str, str]  # by the stage, with the reason
    commit_failures: int
    failure: str  # what is ending the worker
    broker_away: bool = False
    broker_says: str = ""  # why none lets us in, where one said so


def view_partition(partition: Partition, partitions: Partitions, resolving: str, now: float) -> PartitionView:
    """Return one partition's view; `resolving` is why its start is not known yet."""
    runs = tuple(partition.runs)
    begun = [run.begun_at for run in runs if run.begun_at is not None]
    why, hint = _why_paused(partition, partitions, resolving)
    return PartitionView(
        topic=partition.key[0],
        partition=partition.key[1],
        lane=partition.assignment.lane,
        status=partition.status.value,
        position=partition.position,
        done=partition.head,
        committed=partition.committed,
        end=partition.end,
        lag=partition.lag(),
        unfinished_age_seconds=now - runs[0].arrived_at if runs else None,
        begun_age_seconds=now - min(begun) if begun else None,
        last_timestamp_ms=partition.last_timestamp,
        idle_seconds=now - partition.last_arrival,
        paused=why,
        hint=hint,
        stopped=partition.status is Status.HELD or partition.key[0] in partitions.paused_topics,
    )


def _why_paused(partition: Partition, partitions: Partitions, resolving: str) -> tuple[str, str]:
    if partition.trouble is not None:
        return partition.trouble.message, partition.trouble.hint
    if partition.status is Status.RESOLVING:
        return resolving, ""  # it begins: only what keeps it from that is a wait
    reason = partitions.paused_topics.get(partition.key[0])
    if isinstance(reason, HeadgateError):
        return reason.message, reason.hint
    if reason is not None:
        return reason, "resume the table when its cause is gone"
    if partition.suspect:
        return "the broker does not know the topic: finding out whether it was made anew", ""
    return ("its lane is full", "") if partition.budget.paused or partition.waits else ("", "")


def view_lanes(lanes: Iterable[Lane], partitions: Partitions) -> list[LaneView]:
    """Return the lanes' views."""
    views = []
    for lane in lanes:
        budget = partitions.budgets[lane.name]
        views.append(
            LaneView(
                lane.name,
                budget.used,
                budget.bytes_max,
                budget.paused,
                lane.records_total,
                lane.groups_total,
                lane.ladder.trouble,
            )
        )
    return views
