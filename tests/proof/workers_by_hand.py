"""Workers of an installation that a proof starts one by one, and what they say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


@dataclass(slots=True)
class Workers:
    """An installation in a folder, with a worker of each stage that was started."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def configure(self, kafka: str, redis: str, more: Mapping[str, Any] | None = None) -> None:
        """Write the configuration."""
        (self.folder / "state").mkdir(parents=True)
        document = {
            "kafka": {"bootstrap": kafka}, "redis": {"url": redis}, "lake": {"warehouse": str(self.folder / "lake")},
            "web": {"state_folder": str(self.folder / "state")}, **(more or {}),
        }  # fmt: skip
        self.file.write_text(json.dumps(document))

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.folder / "headgate.yaml"

    def verb(self, *arguments: str, code: int = 0) -> tuple[str, float, float]:
        """Run a verb that ends so; return what it printed, how long it took, and how much of the processor."""
        began, before = time.monotonic(), os.times()
        command = [*_command(), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=_environment(), capture_output=True, check=False)
        after = os.times()
        assert done.returncode == code, done.stderr.decode()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return done.stdout.decode(), time.monotonic() - began, used

    def start(self, stage: str) -> psutil.Process:
        """Start a worker of a stage."""
        command = [*_command(), "run", "--stage", stage, "--slot", "0", "--instance", "proof"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=_environment(), stdout=log, stderr=log)
        self.processes[stage] = process
        return psutil.Process(process.pid)

    def status(self, stage: str) -> dict[str, Any] | None:
        """Return what a worker says of itself; None before it says anything.

        Raises:
            AssertionError: it has ended.
        """
        assert self.processes[stage].poll() is None, (self.folder / "log").read_text()[-4_000:]
        try:
            (file,) = (self.folder / "state").glob(f"{stage}-*.json")
            url = json.loads(file.read_text())["url"]
            with urllib.request.urlopen(f"{url}/status", timeout=30) as answer:  # noqa: S310 - an address of our own
                return dict(json.load(answer))
        except (ValueError, OSError):
            return None

    def end(self) -> None:
        """End all workers, cleanly.

        Raises:
            AssertionError: one did not.
        """
        for process in self.processes.values():
            process.terminate()
        codes = {stage: process.wait(60) for stage, process in self.processes.items()}
        self.processes.clear()
        assert not any(codes.values()), (codes, (self.folder / "log").read_text()[-4_000:])


@contextmanager
def workers_in(folder: Path) -> Iterator[Workers]:
    """Have workers whose processes do not outlive the block."""
    workers = Workers(folder)
    try:
        yield workers
        workers.end()
    finally:
        for process in workers.processes.values():
            process.kill()
            process.wait()


def _command() -> list[str]:
    return [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py")]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_CONFIG": "headgate.yaml"}


def memory_mb(process: psutil.Process) -> float:
    """Return what a process holds, in MB."""
    return float(process.memory_info().rss) / MIB


def change(table: str, row: int, columns: Mapping[str, Any]) -> bytes:
    """Return the insert of a row, as Debezium sends it from PostgreSQL, committed now."""
    source = {
        "connector": "postgresql", "name": "clinic", "ts_us": int(time.time() * 1e6), "snapshot": "false", "db": "d",
        "sequence": f'["{row}","{row + 1}"]', "schema": "public", "table": table, "txId": 7, "lsn": row + 1,
    }  # fmt: skip
    return json.dumps({"before": None, "after": {"id": row, **columns}, "source": source, "op": "c"}).encode()
