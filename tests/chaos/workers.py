"""Workers of an installation, each a process of its own that a test starts, signals and ends: without a supervisor.

What a supervisor hides is seen here: exit codes, how long an end takes, two workers of a stage that come and go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from tests.chaos.template import Forked, Template
from tests.faults import armed, kill, thaw
from tests.services import reaper, wait_until
from tests.workloads.installation import ROOT, STAGES, Installation

INSTANCE = "proof"
START_SECONDS = 120.0
END_SECONDS = 30.0
VERB_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class Worker:
    """One process of one slot."""

    stage: str
    slot: int
    process: subprocess.Popen[bytes] | Forked
    points: Mapping[str, str]

    @property
    def pid(self) -> int:
        """Its id."""
        return self.process.pid

    def ended(self) -> bool:
        """Say whether it has ended."""
        return self.process.poll() is not None

    def wait(self) -> int:
        """Return its exit code once it has ended; one that does not in time says in the log where its threads are.

        Raises:
            subprocess.TimeoutExpired: it did not end by itself.
        """
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
            raise


@dataclass(slots=True)
class Workers:
    """All that were started; leaving the context leaves none."""

    installation: Installation
    all: list[Worker] = field(default_factory=list)
    tree: Path = ROOT  # the release that they run
    environment: Mapping[str, str] = field(default_factory=dict)  # beside their own
    template: Template = field(default_factory=lambda: Template(ROOT))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.all:
            if not worker.ended():
                thaw(worker.pid)
                kill(worker.pid)
                worker.process.wait(10)
            reaper.forget(worker.pid)
        self.template.close()

    def start(
        self, stage: str, slot: int = 0, *, points: Mapping[str, str] | None = None, apply: bool = False,
        config: str = "headgate.yaml",
    ) -> Worker:  # fmt: skip
        """Start a worker; it does not run yet. `points` are failpoints, `apply` registers the tables first."""
        arguments = ["run", "--config", config, "--instance", INSTANCE, "--stage", stage, "--slot", str(slot)]
        process = self._process([*arguments, *(["--apply", "tables"] if apply else [])], armed(points or {}))
        with suppress(psutil.NoSuchProcess):  # it has met its failpoint already
            reaper.watch(process.pid)
        worker = Worker(stage, slot, process, dict(points or {}))
        self.all.append(worker)
        return worker

    def _process(self, arguments: Sequence[str], points: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
        """Start the process: forked, but where it is of another release or must begin in another environment."""
        folder, path = self.installation.folder, self.installation.log
        if self.tree == ROOT and not self.environment:
            return self.template.start(arguments, folder=folder, log=path, environment=points)
        command = [sys.executable, "-P", str(self.tree / "headgate" / "__main__.py"), *arguments]
        with path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(self.tree), **self.environment, **points},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self, slots: int = 1) -> None:
        """Start `slots` workers of every stage and return once each of them runs."""
        first = self.start(STAGES[0], apply=True)
        self.wait_runs(first)
        others = [
            self.start(stage, slot) for slot in range(slots) for stage in STAGES if (stage, slot) != (STAGES[0], 0)
        ]
        for worker in others:
            self.wait_runs(worker)

    def running(self, stage: str | None = None) -> list[Worker]:
        """Return those that have not ended, of one stage or of all."""
        return [worker for worker in self.all if not worker.ended() and stage in {None, worker.stage}]

    def wait_runs(self, worker: Worker) -> None:
        """Return once a worker says that it runs; one that ended instead is a failure, or has met its failpoint."""

        def runs() -> bool:
            if worker.ended():
                assert worker.points, f"{worker.stage} ended with {worker.process.returncode}"
                return True
            return self.status(worker).get("state") in {"running", "waiting"}

        wait_until(runs, f"{worker.stage} {worker.slot} runs", deadline_seconds=START_SECONDS)

    def status(self, worker: Worker) -> dict[str, Any]:
        """Return what a worker says of itself; {} if it does not answer."""
        path = self.installation.state_folder / f"{worker.stage}-{INSTANCE}-{worker.slot}.json"
        with suppress(OSError, ValueError, KeyError):
            state = json.loads(path.read_bytes())
            if state["pid"] == worker.pid:
                with urllib.request.urlopen(f"{state['url']}/status", timeout=2) as answer:  # noqa: S310  loopback
                    found: dict[str, Any] = json.load(answer)
                    return found
        return {}

    def verb(self, *arguments: str) -> int:
        """Run a verb of the command line and return its exit code."""
        command = [sys.executable, "-P", str(self.tree / "headgate" / "__main__.py"), *arguments]
        with self.installation.log.open("ab") as log:
            return subprocess.run(
                [*command, "--config", "headgate.yaml"],
                cwd=self.installation.folder, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(self.tree)}, timeout=VERB_SECONDS, check=False,
            ).returncode  # fmt: skip

    def end(self, worker: Worker, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait; return the exit code and the seconds that it took."""
        began = time.monotonic()
        worker.process.send_signal(number)
        code = worker.wait()
        reaper.forget(worker.pid)
        return code, time.monotonic() - began

    def kill(self, worker: Worker) -> None:
        """End a worker as a crash would."""
        kill(worker.pid)
        worker.process.wait(10)
        reaper.forget(worker.pid)

    def stop(self) -> list[str]:
        """End all by SIGTERM, at the same time; return what was not as it must be: a code other than 0."""
        running = self.running()
        for worker in running:
            thaw(worker.pid)
            worker.process.send_signal(signal.SIGTERM)
        codes = {worker: worker.wait() for worker in running}
        for worker in running:
            reaper.forget(worker.pid)
        return [f"{worker.stage} {worker.slot} ended with {code}" for worker, code in codes.items() if code]
