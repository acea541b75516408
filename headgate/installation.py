"""An installation as seen from here: what its workers wrote to Kafka, what local ones answer, what is left over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headgate.local_stages import ask_local_stages
from headgate.supervisor import stage_names
from schemas.config import Config
from schemas.errors import HeadgateError, SourceUnavailable
from streams.destinations import LeftOver, left_over
from streams.settings import is_embedded
from streams.workers import StatusReader, WorkerState, merged, missing_stages, read_workers

KAFKA_SECONDS_MAX = 12.0  # its client says after ten why nobody answers
_AGAIN_SECONDS = 5.0
_LEFT_OVER_SECONDS = 30.0  # how often a watch asks what is left over

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """The workers found, the stages that none works for, and why Kafka could not be asked, where it could not.

    `left_over` is of destinations that were removed from the configuration.
    """

    workers: list[WorkerState]
    missing: list[str]
    unheard: HeadgateError | None = None
    left_over: Sequence[LeftOver] = ()

    @property
    def is_well(self) -> bool:
        """Tell whether every stage has a worker, none is gone or silent, and Kafka was asked."""
        sick = any(worker.is_sick for worker in self.workers)
        return bool(self.workers) and not sick and not self.missing and self.unheard is None


def seen_of(
    config: Config,
    local: list[WorkerState],
    told: list[WorkerState],
    unheard: HeadgateError | None,
    left: Sequence[LeftOver] = (),
) -> Seen:
    """Return what is seen; what is missing is known only where Kafka was asked."""
    workers = merged(local, told)
    missing = [] if unheard is not None else missing_stages(stage_names(list(config.notify)), workers)
    return Seen(workers, missing, unheard, left)


async def look(config: Config) -> Seen:
    """Ask the local workers and read what all wrote, both at once; a Kafka that is away is waited for a few seconds."""
    reading, left = _on_a_thread(lambda: read_workers(config)), _on_a_thread(lambda: removed_destinations(config))
    local = await ask_local_stages(Path(config.web.state_folder))
    try:
        async with asyncio.timeout(KAFKA_SECONDS_MAX):
            told = await asyncio.wrap_future(reading)
    except TimeoutError:
        return seen_of(config, local, [], _unanswered())
    except HeadgateError as error:
        return seen_of(config, local, [], error)
    try:
        async with asyncio.timeout(KAFKA_SECONDS_MAX):
            found = await asyncio.wrap_future(left)
    except TimeoutError:
        found = []
    return seen_of(config, local, told, None, found)


def removed_destinations(config: Config) -> list[LeftOver]:
    """Return what is left of destinations that the configuration does not name and that run nowhere.

    None where that cannot be told; `headgate check` says why.
    """
    if is_embedded(config):
        return []
    try:
        return [each for each in left_over(config) if not each.members]
    except HeadgateError:
        return []


def _unanswered() -> SourceUnavailable:
    return SourceUnavailable(
        f"Kafka did not answer within {KAFKA_SECONDS_MAX:.0f} seconds",
        hint="only the workers of this machine are shown; `headgate check` says more",
    )


def _on_a_thread(ask: Callable[[], T]) -> Future[T]:
    """Ask on a thread that the end of the process does not wait for."""
    future: Future[T] = Future()

    def answer() -> None:
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001  whoever waits decides
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(found)

    threading.Thread(target=answer, name="status", daemon=True).start()
    return future


class Watched:
    """The same, kept up to date: `headgate.status` is read once and then followed, on threads of its own."""

    def __init__(self, config: Config) -> None:
        """Begin to read."""
        self._config = config
        self._reader: StatusReader | None = None
        self._unheard: HeadgateError | None = _unanswered()
        self._left: list[LeftOver] = []
        self._closing = threading.Event()
        for work in (self._begin, self._look_for_left_over):
            threading.Thread(target=work, name="status", daemon=True).start()

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

    def _look_for_left_over(self) -> None:
        while not self._closing.is_set():
            self._left = removed_destinations(self._config)
            self._closing.wait(_LEFT_OVER_SECONDS)

    async def look(self) -> Seen:
        """Return what is seen now."""
        local = await ask_local_stages(Path(self._config.web.state_folder))
        told = self._reader.workers() if self._reader is not None else []
        return seen_of(self._config, local, told, self._unheard, self._left)

    def close(self) -> None:
        """Leave."""
        self._closing.set()
        if self._reader is not None:
            self._reader.close()
