"""What a replay says of itself to `headgate.status`, as if it were a worker of a stage of that name."""

from __future__ import annotations

import os
import time
from typing import Any

from connectors.transport.chunk import by_topic
from schemas.errors import HeadgateError
from streams.replaying import Replaying
from streams.status import VERSION, iso

STAGE = "replay"


def status_of_replay(replaying: Replaying, started_at: str) -> dict[str, Any]:
    """Return its state: a row for each topic, whose lag and `pending` say how much of it is left."""
    failure: HeadgateError | None = replaying.stopped
    return {
        "stage": STAGE,
        "instance": replaying.table,
        "slot": 0,
        "version": VERSION,
        "pid": os.getpid(),
        "started_at": started_at,
        "state": "running",
        "assigned": sum(len(topic.ranges) for topic in replaying.replay.topics.values()),
        "tables": _rows(replaying),
        "quarantined": [],
        "emitted": [],
        "last_error": None if failure is None else _error(failure),
        "counters": dict(replaying.counts),
    }


def waiting(replaying: Replaying) -> str:
    """Say which stage it waits for, or nothing."""
    return f"waits for {replaying.pace.waits_for} to read on" if replaying.pace.waits_for else ""


def _rows(replaying: Replaying) -> list[dict[str, Any]]:
    rows, hint = [], waiting(replaying)
    for topic, ranges in by_topic(replaying.ranges()).items():
        total = sum(end - first for first, end in replaying.replay.topics[topic].ranges.values())
        left = sum(each.left for each in ranges)
        row: dict[str, Any] = {
            "table": replaying.table,
            "topic": topic,
            "partitions": len(ranges),
            "lag": left,
            "pending": {"done": total - left, "total": total},
            "hint": hint,
            "unknown_columns": [],
            "evolved": [],
            "sweeping": False,
        }
        ages = ("freshness_seconds", "silence_seconds", "oldest_unfinished_seconds")
        rows.append({**row, **dict.fromkeys((*ages, "paused", "parked"))})
    return rows


def _error(error: HeadgateError) -> dict[str, str]:
    return {"kind": error.kind.value, "message": error.message, "hint": error.hint, "at": iso(time.time())}
