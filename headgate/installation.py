"""All workers of an installation as seen from this machine: what they wrote to Kafka, and what local ones answer."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from headgate.local_stages import ask_local_stages
from headgate.supervisor import stage_names
from schemas.config import Config
from schemas.errors import HeadgateError, SourceUnavailable
from streams.workers import StatusReader, WorkerState, merged, missing_stages, read_workers

KAFKA_SECONDS_MAX = 12.0  # its client says after ten why nobody answers
_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The workers found, the stages that none works for, and why Kafka could not be asked, where it could not."""

    workers: list[WorkerState]
    missing: list[str]
    unheard: HeadgateError | None = None

    @property
    def is_well(self) -> bool:
        """Tell whether every stage has a worker, none is gone or silent, and Kafka was asked."""
        sick = any(worker.is_sick for worker in self.workers)
        return bool(self.workers) and not sick and not self.missing and self.unheard is None


def seen_of(config: Config, local: list[WorkerState], told: list[WorkerState], unheard: HeadgateError | None) -> Seen:
    """Return what is seen; what is missing is known only where Kafka was asked."""
    workers = merged(local, told)
    missing = [] if unheard is not None else missing_stages(stage_names(list(config.notify)), workers)
    return Seen(workers, missing, unheard)


async def look(config: Config) -> Seen:
    """Ask the local workers and read what all wrote, both at once; a Kafka that is away is waited for a few seconds."""
    reading = _on_a_thread(config)
    local = await ask_local_stages(Path(config.web.state_folder))
    try:
        told = await asyncio.wait_for(asyncio.wrap_future(reading), KAFKA_SECONDS_MAX)
    except TimeoutError:
        return seen_of(config, local, [], _unanswered())
    except HeadgateError as error:
        return seen_of(config, local, [], error)
    return seen_of(config, local, told, None)


def _unanswered() -> SourceUnavailable:
    return SourceUnavailable(
        f"Kafka did not answer within {KAFKA_SECONDS_MAX:.0f} seconds",
        hint="only the workers of this machine are shown; `headgate check` says more",
    )


def _on_a_thread(config: Config) -> Future[list[WorkerState]]:
    """Read on a thread that the end of the process does not wait for."""
    future: Future[list[WorkerState]] = Future()

    def read() -> None:
        try:
            found = read_workers(config)
        except BaseException as error:  # noqa: BLE001  whoever waits decides
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(found)

    threading.Thread(target=read, name="status", daemon=True).start()
    return future


class Watched:
    """The same, kept up to date: `headgate.status` is read once and then followed, on threads of its own."""

    def __init__(self, config: Config) -> None:
        """Begin to read."""
        self._config = config
        self._reader: StatusReader | None = None
        self._unheard: HeadgateError | None = _unanswered()
        self._closing = threading.Event()
        threading.Thread(target=self._begin, name="status", daemon=True).start()

    def _begin(self) -> None:
        while not self._closing.is_set():
            reader = StatusReader(self._config)
            try:
                reader.load()
            except HeadgateError as error:
                reader.close()
                self._unheard = error
                self._closing.wait(_AGAIN_SECONDS)
                continue
            reader.follow()
            self._reader, self._unheard = reader, None
            return

    async def look(self) -> Seen:
        """Return what is seen now."""
        local = await ask_local_stages(Path(self._config.web.state_folder))
        told = self._reader.workers() if self._reader is not None else []
        return seen_of(self._config, local, told, self._unheard)

    def close(self) -> None:
        """Leave."""
        self._closing.set()
        if self._reader is not None:
            self._reader.close()
