"""Workers forked from one process that has imported all that they need, so that each begins within a tenth of a second.

A worker that is started by its command line spends seconds on imports, which a run with hundreds of starts can not
afford. What is forked is a process of its own all the same: it goes through the same entry with the same arguments,
and is signalled and killed like any other.

As a script this is that process: it reads a worker to start from each line of stdin, and writes what has ended to
stdout. It has one thread, so that a fork copies nothing half-way.
"""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PRELOADED = (
    "headgate.cli.verbs", "headgate.leash", "headgate.slot", "headgate.supervisor", "streams.app", "streams.normalize",
    "streams.features", "streams.alerts", "streams.lake", "streams.notify",
)  # fmt: skip
ANSWER_SECONDS = 60.0
_ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # Arrow's jemalloc, which no worker uses
_LOOK_SECONDS = 0.02


class Forked:
    """A worker; it answers as `subprocess.Popen` does."""

    def __init__(self, pid: int) -> None:
        """Take a process that runs."""
        self.pid = pid
        self.returncode: int | None = None
        self.over = threading.Event()

    def poll(self) -> int | None:
        """Return its exit code, below 0 for a signal; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if not self.over.wait(timeout):
            raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True)
class Template:
    """The process from which workers are forked; it begins with the first of them and ends with the context."""

    path: Path  # of the release
    _process: subprocess.Popen[str] | None = None
    _workers: dict[int, Forked] = field(default_factory=dict)
    _begun: list[Forked] = field(default_factory=list)
    _heard: threading.Condition = field(default_factory=threading.Condition)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, arguments: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str]) -> Forked:
        """Start `headgate` with arguments in a folder, its output behind `log`."""
        order = {"arguments": list(arguments), "folder": str(folder), "log": str(log), "environment": dict(environment)}
        with self._lock:  # one order at a time: the next answer is its answer
            stdin = self._opened()
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            with self._heard:
                assert self._heard.wait_for(lambda: self._begun, ANSWER_SECONDS), "the template of workers is silent"
                return self._begun.pop()

    def close(self) -> None:
        """End the template; its workers go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _opened(self) -> IO[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, env={**os.environ, "PYTHONPATH": str(self.path), **_ONE_THREAD}, start_new_session=True,
            )  # fmt: skip
            threading.Thread(target=self._hear, args=(self._process.stdout,), name="template", daemon=True).start()
        assert self._process.stdin is not None
        return self._process.stdin

    def _hear(self, lines: IO[str]) -> None:
        for line in lines:
            said = json.loads(line)
            with self._heard:
                if "code" in said:
                    worker = self._workers.pop(said["pid"])
                    worker.returncode = said["code"]
                    worker.over.set()
                else:
                    self._workers[said["pid"]] = worker = Forked(said["pid"])
                    self._begun.append(worker)
                    self._heard.notify_all()


# ── the process itself ──


def serve(release: str) -> None:
    """Fork workers until stdin ends."""
    sys.path[:0] = [] if release in sys.path else [release]
    import_module("streams.memory").share_one_allocator()  # as a worker does before it loads Arrow
    for name in PRELOADED:
        import_module(name)
    gc.collect()
    gc.freeze()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"a fork copies one thread only, and there are {threads}"
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    while True:
        if select.select([orders], [], [], _LOOK_SECONDS)[0]:
            line = orders.readline()
            if not line:
                return
            order = json.loads(line)
            if (pid := os.fork()) == 0:
                orders.close()
                become(order)
            _say({"pid": pid})
        _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say({"pid": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


def _say(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def become(order: dict[str, Any]) -> None:
    """Be the worker of an order; ends the process."""
    os.setsid()
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for ours, theirs in ((0, nothing), (1, log), (2, log)):
        os.dup2(theirs, ours)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    sys.argv = ["headgate", *order["arguments"]]
    import_module("headgate.cli.main").main()


if __name__ == "__main__":
    serve(sys.argv[1])
