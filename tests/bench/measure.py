"""Processes measured while they work: progress by committed offsets, processor seconds, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.services import wait_until

DEADLINE_SECONDS = 300.0
MARKERS_MAX = 3
LOOK_SECONDS = 0.05
# What a broker answers of a group until it has found the group's coordinator: for seconds after its own start.
NOT_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    name: str
    events_per_second: float
    cpu_seconds_per_million: float
    broker_cpu_seconds_per_million: float
    rss_bytes: int
    note: str = ""


@dataclass(slots=True)
class Progress:
    """Reads how far a group has committed, as its own member-less consumer."""

    bootstrap: str
    group: str
    partitions: Sequence[tuple[str, int]]
    _consumer: Consumer | None = field(default=None, init=False)

    def committed(self) -> int:
        """Return the sum of the committed offsets."""
        parts = wait_until(self._committed, f"the coordinator of {self.group} answers")
        return sum(part.offset for part in parts if part.offset > 0)

    def _committed(self) -> list[TopicPartition]:
        """Return each partition with its committed offset; none of them while the group has no coordinator."""
        if self._consumer is None:
            self._consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group, "log_level": 0})
        try:
            return list(self._consumer.committed([TopicPartition(*key) for key in self.partitions], timeout=20))
        except KafkaException as error:
            if error.args[0].code() in NOT_YET:
                return []
            raise

    def ends(self) -> int:
        """Return the sum of the high watermarks."""
        self.committed()
        assert self._consumer is not None
        return sum(self._consumer.get_watermark_offsets(TopicPartition(*key), timeout=20)[1] for key in self.partitions)


def family_cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor seconds of processes and their children."""
    total = 0.0
    for process in _family(pids):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended between the two calls; what it used is lost, and the run is about to end
        total += times.user + times.system
    return total


def family_rss_bytes(pids: Sequence[int]) -> int:
    """Return the largest resident memory among processes and their children."""
    sizes = [0]
    for process in _family(pids):
        try:
            sizes.append(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return max(sizes)


def _family(pids: Sequence[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def start_stage(arguments: Sequence[str], config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `headgate run` with `arguments`."""
    environment = {**os.environ, "HEADGATE_CONFIG": str(config)}
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "headgate", "run", "--config", str(config), *arguments],
            env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip


class Mark(NamedTuple):
    """How far a process was at a moment, and what it and the broker had used until then."""

    at: float
    committed: int
    cpu_seconds: float
    broker_cpu_seconds: float


def mark(process: subprocess.Popen[bytes], committed: int, broker_pids: Sequence[int]) -> Mark:
    """Return the mark of this moment."""
    return Mark(time.monotonic(), committed, family_cpu_seconds([process.pid]), family_cpu_seconds(broker_pids))


def between(name: str, first: Mark, last: Mark, rss_bytes: int) -> Figure:
    """Return what was done, and used, from one mark to another."""
    events = max(last.committed - first.committed, 1)
    return Figure(
        name,
        events / max(last.at - first.at, 1e-9),
        (last.cpu_seconds - first.cpu_seconds) / events * 1e6,
        (last.broker_cpu_seconds - first.broker_cpu_seconds) / events * 1e6,
        rss_bytes,
    )


def first_commit(process: subprocess.Popen[bytes], progress: Progress, *, broker_pids: Sequence[int]) -> Mark:
    """Return the mark of the first commit, once there is one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (committed := progress.committed()):
        assert process.poll() is None, f"ended with {process.returncode} before its first commit"
        assert time.monotonic() < deadline, f"nothing committed after {DEADLINE_SECONDS} s"
        time.sleep(LOOK_SECONDS)
    return mark(process, committed, broker_pids)


def watch(
    name: str, process: subprocess.Popen[bytes], progress: Sequence[Progress], *, broker_pids: Sequence[int]
) -> Figure:
    """Return the figure of `process` once all of `progress` has reached its end; the process still runs.

    The end of a partition written by transactions is their marker, which is no record and is never committed.
    """
    total = sum(one.ends() - MARKERS_MAX * len(one.partitions) for one in progress)
    started, rss = time.monotonic(), 0
    marks: list[Mark] = []
    while not marks or marks[-1].committed < total:
        assert process.poll() is None, f"{name} ended with {process.returncode}"
        assert time.monotonic() - started < DEADLINE_SECONDS, (
            f"{name}: {marks[-1].committed if marks else 0} of {total} after {DEADLINE_SECONDS} s"
        )
        done = sum(one.committed() for one in progress)
        if done and (not marks or done > marks[-1].committed):
            marks.append(mark(process, done, broker_pids))
            rss = max(rss, family_rss_bytes([process.pid]))
        time.sleep(LOOK_SECONDS)
    return between(name, marks[0], marks[-1], rss)


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a stage in good order; return its exit code."""
    process.terminate()
    return process.wait(30)
