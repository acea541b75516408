"""`headgate run`: one process per worker slot, started again when it dies, and all of them stopped within a bound.

Promise: while the supervisor runs, every slot has a process or a reason why not; when it ends, however, none is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from headgate.cli.codes import MEANING, ExitCode
from headgate.leash import STOP_SECONDS, Leash

QUICK_DEATH_SECONDS = 10.0
BACKOFF_SECONDS_MAX = 30.0
BACKOFF_SECONDS_FIRST = 0.5
_SETTLED = frozenset({ExitCode.CONFIGURATION, ExitCode.USAGE})  # starting again does not mend these by itself

OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A worker to run: a stage and the number of its slot."""

    stage: str
    slot: int

    def __str__(self) -> str:
        """Give `<stage>-<slot>`."""
        return f"{self.stage}-{self.slot}"


def places(destinations: Sequence[str], workers: Mapping[str, int]) -> list[Place]:
    """Return the workers of an installation: each stage once, or as often as `workers` says."""
    stages = ["normalize", "features", "alerts", "lake", *(f"notify-{name}" for name in destinations)]
    return [Place(stage, slot) for stage in stages for slot in range(workers.get(stage, 1))]


def stage_names(destinations: Sequence[str]) -> list[str]:
    """Return the stages of an installation, in the order of the data's way."""
    return [place.stage for place in places(destinations, {})]


@dataclass(slots=True)
class Worker:
    """What is known of one place: its process, its deaths, why it died last."""

    place: Place
    pid: int | None = None
    started: float = 0.0
    deaths: int = 0
    quick_deaths: int = 0
    reason: str = ""
    settled: bool = False
    forced: bool = False
    exit_code: int | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs `places`, each by the command that `command` gives, until `stop`.

    `log` names the file that takes a worker's output; None leaves it on our own stderr.
    """

    places: Sequence[Place]
    command: Callable[[Place], list[str]]
    on_event: OnEvent
    log: Callable[[Place], Path | None] = lambda place: None  # noqa: ARG005  by default nothing is kept in files
    stop_seconds: float = STOP_SECONDS
    quick_death_seconds: float = QUICK_DEATH_SECONDS
    workers: list[Worker] = field(init=False)
    _stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _killing: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Know every worker from the start."""
        self.workers = [Worker(place) for place in self.places]

    def stop(self) -> None:
        """Ask all workers to end; called a second time, end them by force."""
        if self._stopping.is_set():
            self._killing.set()
        self._stopping.set()

    async def run(self) -> int:
        """Return when all workers have ended after `stop`, or none of them can run.

        The code is 0 where all ended without an error, 3 where no worker's configuration was right, else 1.
        """
        leash = Leash()
        try:
            tasks = [asyncio.create_task(self._keep(worker, leash)) for worker in self.workers]
            await asyncio.gather(*tasks)
        finally:
            leash.close()
        if self.workers and all(worker.settled for worker in self.workers):
            return ExitCode.CONFIGURATION
        return ExitCode.OK if all(w.exit_code in {0, None} and not w.forced for w in self.workers) else ExitCode.FOUND

    async def _keep(self, worker: Worker, leash: Leash) -> None:
        while not self._stopping.is_set():
            try:
                code = await self._run_once(worker, leash)
                why = reason_of(code, self.log(worker.place))
            except OSError as error:  # of memory, processes or files there may be enough again in a moment
                code, why = ExitCode.UNAVAILABLE, f"cannot be started: {error.strerror or error}"
                worker.started = time.monotonic()
            worker.exit_code = code
            worker.pid = None
            if self._stopping.is_set():
                return
            await self._after_death(worker, code, why)

    async def _after_death(self, worker: Worker, code: int, why: str) -> None:
        """Wait as long as the last deaths say: not at all after the first."""
        worker.deaths += 1
        quick = time.monotonic() - worker.started < self.quick_death_seconds
        worker.quick_deaths = worker.quick_deaths + 1 if quick else 0
        worker.reason = why
        worker.settled = code in _SETTLED
        delay = BACKOFF_SECONDS_MAX if worker.settled else backoff_seconds(worker.quick_deaths)
        self.on_event("worker_died", {"worker": str(worker.place), "reason": worker.reason, "again_in_seconds": delay})
        if all(other.settled for other in self.workers):
            self.stop()
        if delay:
            await _wait(self._stopping, delay)

    async def _run_once(self, worker: Worker, leash: Leash) -> int:
        """Return the exit code of one process; negative is the signal that ended it."""
        path = self.log(worker.place)
        output: IO[bytes] | None = path.open("ab") if path is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command(worker.place),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output or sys.stderr.fileno(),
                stderr=output,
                env=leash.environment(os.environ),
                pass_fds=(leash.read_end,),
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which passes it on in order
            )
        finally:
            if output is not None:
                output.close()
        worker.pid, worker.started, worker.settled = process.pid, time.monotonic(), False
        self.on_event("worker_started", {"worker": str(worker.place), "pid": process.pid})
        return await self._until_ended(worker, process)

    async def _until_ended(self, worker: Worker, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.create_task(process.wait())
        try:
            if await _first(ended, self._stopping.wait()):
                return await ended
            _signal(process, signal.SIGTERM)
            if not await _first(ended, _wait(self._killing, self.stop_seconds)):
                worker.forced = True
                self.on_event("worker_killed", {"worker": str(worker.place), "after_seconds": self.stop_seconds})
                _signal(process, signal.SIGKILL)
            return await ended
        finally:
            if not ended.done():  # we are cancelled ourselves: leave nothing behind
                _signal(process, signal.SIGKILL)
                ended.cancel()


def backoff_seconds(quick_deaths: int) -> float:
    """Return how long to wait before the next start: nothing after one death, then doubling up to the maximum."""
    if quick_deaths < 2:  # noqa: PLR2004  the first death costs nothing
        return 0.0
    return float(min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2 ** min(quick_deaths - 2, 20)))


def reason_of(code: int, log: Path | None) -> str:
    """Return why a process ended: the signal or the exit code, and the last error that it wrote to `log`."""
    if code < 0:
        named = -code in set(signal.Signals)  # most real-time signals have no name
        what = f"ended by {signal.Signals(-code).name}" if named else f"ended by signal {-code}"
    else:
        meaning = MEANING.get(ExitCode(code)) if code in set(ExitCode) else None
        what = f"exit code {code}" + (f" ({meaning})" if meaning else "")
    said = _last_error(log) if log is not None else ""
    return f"{what}: {said}" if said else what


def _last_error(log: Path, *, tail_bytes: int = 16_384) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - tail_bytes))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((said for line in reversed(lines) if (said := error_in(line))), "")


def error_in(line: str) -> str:
    """Return the error that a line of a worker's output tells of: `error: …`, or the field `error` of a JSON line."""
    if line.startswith("error: "):
        return line.removeprefix("error: ")
    start = line.find("{")
    try:
        fields = json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        return ""
    return str(fields.get("error", "")) if isinstance(fields, dict) else ""


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return  # it has ended by itself meanwhile


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Return when `event` is set, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _first(task: asyncio.Task[int], other: Any) -> bool:
    """Wait for whichever comes first; tell whether it was `task`, and leave nothing of `other` running."""
    waiting = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()


def worker_command(place: Place, *, config: Path, instance: str, extra: Sequence[str] = ()) -> list[str]:
    """Return the command that runs one worker, by path and with -P: no package of the user's folder interferes."""
    entry = Path(__file__).with_name("__main__.py")
    own = ["run", "--stage", place.stage, "--slot", str(place.slot), "--instance", instance, "--config", str(config)]
    return [sys.executable, "-P", str(entry), *own, *extra]
