"""Whether a client still has a broker, or has lost all of them for good while they answer others.

A broker that was frozen and comes back may say for a moment that the cluster has no brokers. librdkafka then gives up
those it knows, and sometimes never looks for others: every call waits for ever, and no error tells of it. Only a new
client helps, so a worker whose client is in that state ends and is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from time import monotonic
from typing import Any

import orjson
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.transport.settings import ClientSettings
from schemas.errors import TransportFatal

STATISTICS: Mapping[str, Any] = {"statistics.interval.ms": 5_000}
HEAR_SECONDS = 5.0
ALONE_SECONDS = 8.0  # a client without a broker for so long is doubted
AGAIN_SECONDS = 12.0  # more than a client waits before it connects anew
TIMES = 2  # so often in a row the brokers answered another client, and still not this one
_ANSWER_SECONDS = 3.0


class Hearing:
    """Has a producer hear its statistics while nothing is written; what it does not hear piles up in the client."""

    def __init__(self, thread: Executor, hear: Callable[[], object]) -> None:
        """`hear` is called on the producer's `thread`, behind what is being written."""
        self._thread, self._hear = thread, hear
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Hear from now on."""
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Hear no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(HEAR_SECONDS)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._hear)


class Brokers:
    """What a client's statistics say of its connections; `hear` is its `stats_cb`."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Have heard nothing."""
        self.alone_since: float | None = None  # no broker is connected
        self._clock = clock

    def hear(self, text: str) -> None:
        """Take one text of statistics."""
        self.note(orjson.loads(text))

    def note(self, said: Mapping[str, Any]) -> None:
        """Take statistics; the coordinator's connection does not count, no records come by it."""
        brokers = said.get("brokers", {}).values()
        if any(broker["state"] == "UP" and broker.get("source") != "logical" for broker in brokers):
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = self._clock()


class Lifeline:
    """Decides, from how long a client has been alone and from whether brokers answer another one, that it is cut."""

    def __init__(self, answers: Callable[[], bool], clock: Callable[[], float] = monotonic) -> None:
        """`answers` asks the brokers by a new client; it may take some seconds."""
        self._answers = answers
        self._clock = clock
        self._asked_at: float | None = None
        self._answered = 0

    def is_doubtful(self, alone_since: float | None) -> bool:
        """Tell whether it is time to ask; of no use while the client has a broker."""
        if alone_since is None:
            self._answered = 0
            return False
        now = self._clock()
        asked_lately = self._asked_at is not None and now - self._asked_at < AGAIN_SECONDS
        return now - alone_since >= ALONE_SECONDS and not asked_lately

    def is_cut(self, alone_since: float | None) -> bool:
        """Tell whether a client that has been alone since then has lost its brokers; False while that is not sure."""
        if not self.is_doubtful(alone_since):
            return False
        self._asked_at = self._clock()
        self._answered = self._answered + 1 if self._answers() else 0
        return self._answered >= TIMES


def lifeline_of(client: ClientSettings) -> Lifeline:
    """Return the lifeline of a client with these settings."""
    return Lifeline(lambda: answers_anew(client))


def answers_anew(client: ClientSettings) -> bool:
    """Tell whether brokers answer a new client."""
    try:
        admin = AdminClient({**client.librdkafka(), "log_level": 0})
        return bool(admin.describe_cluster(request_timeout=_ANSWER_SECONDS).result(2 * _ANSWER_SECONDS).nodes)
    except (KafkaException, TimeoutError):
        return False


def cut_off(what: str) -> TransportFatal:
    """Return the error that ends a worker whose client is cut."""
    return TransportFatal(
        f"{what} has lost its brokers, though they answer others",
        hint="the supervisor starts the worker again; nothing is lost",
    )


def fetchers(statistics: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield topic and state of each partition that librdkafka's statistics name."""
    for topic, said in statistics.get("topics", {}).items():
        for partition in said.get("partitions", {}).values():
            yield topic, partition
