"""Watchdogs: a client without brokers, a run begun and not done for long, a partition that should bring something.

One that is paused though nothing wants it. And topics that the group gave to nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic

from connectors.transport.kept_offsets import KeptOffsets
from connectors.transport.lane import Lane
from connectors.transport.left_out import LeftOut
from connectors.transport.lifeline import Lifeline, cut_off, lifeline_of
from connectors.transport.partition import Partition
from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.resolve import Membership
from connectors.transport.settings import ConsumerSettings

Report = Callable[[str, Mapping[str, object]], None]

_LOOK_SECONDS = 1.0
_TROUBLE_SECONDS = 60.0  # how long trouble is remembered


class Watch:
    """Reports what stands still, once for each time it does."""

    def __init__(
        self,
        settings: ConsumerSettings,
        report: Report,
        *,
        lifeline: Lifeline | None = None,
        membership: Membership | None = None,
        lanes: Mapping[str, Lane] | None = None,
    ) -> None:
        """Report through `report`; with `membership` topics that are nobody's, too.

        And with the stage's `lanes` have the offsets kept of topics that its book names, and that are not read now.
        """
        self._settings = settings
        self._kept = None if membership is None or lanes is None else KeptOffsets(settings, membership, lanes)
        self._left_out = None if membership is None else LeftOut(settings, membership, report)
        self._lifeline = lifeline or lifeline_of(settings.client)
        self._report = report
        self._stuck: set[tuple[str, int]] = set()
        self._silent: set[tuple[str, int]] = set()
        self._left_paused: dict[Partition, bool] = {}  # with whether it was said
        self._away = False

    async def live(self, partitions: Partitions, poller: PollThread, should_stop: Callable[[], bool]) -> None:
        """Look every second, until the service stops; a consumer that lost its brokers ends the worker."""
        while not should_stop():
            await asyncio.sleep(_LOOK_SECONDS)
            self.hear(partitions)
            if await self._is_cut(partitions):
                poller.listener.ended(cut_off("the consumer"))
                return
            if self._left_out is not None:
                await self._left_out.look(partitions, poller)
            if self._kept is not None:
                await self._kept.look(partitions, poller)
            for silent in self.look(partitions.all(), monotonic(), self.patience(partitions, monotonic())):
                # A seek to its own position makes the client fetch again; the order check goes on as before.
                poller.call(partial(PollThread.fetch_again, partition=silent))
            for left in self.look_for_pauses(partitions):
                poller.call(partial(PollThread.fetch_again, partition=left))

    async def _is_cut(self, partitions: Partitions) -> bool:
        alone = partitions.brokers.alone_since
        if not self._lifeline.is_doubtful(alone):
            return False
        cut = await asyncio.to_thread(self._lifeline.is_cut, alone)
        return cut and partitions.brokers.alone_since == alone  # it may have found one meanwhile

    def hear(self, partitions: Partitions) -> None:
        """Report that no broker answers, with the reason if one gave it, and that one answers again."""
        if partitions.broker_away != self._away:
            self._away = partitions.broker_away
            event = "broker_away" if self._away else "broker_back"
            self._report(event, {"error": self._settings.security.without_secrets(partitions.broker_says)})

    def patience(self, partitions: Partitions, now: float) -> float:
        """Return how long a partition below its end may be silent: less after trouble, for ever without a broker."""
        if partitions.broker_away:
            return math.inf
        troubled = partitions.troubled_at is not None and now - partitions.troubled_at < _TROUBLE_SECONDS
        return self._settings.silent_seconds_in_trouble if troubled else self._settings.silent_seconds

    def look(self, partitions: list[Partition], now: float, patience: float) -> list[Partition]:
        """Report what stands still, and return the partitions that bring nothing though they should."""
        fresh = []
        stuck, silent = set(), set()
        for partition in partitions:
            begun = [run.begun_at for run in tuple(partition.runs) if run.begun_at is not None]
            if begun and now - min(begun) > self._settings.stuck_seconds:
                stuck.add(partition.key)
                if partition.key not in self._stuck:
                    self._say("run_stuck", partition, now - min(begun))
            if is_silent(partition, now, patience):
                silent.add(partition.key)
                fresh.append(partition)
                if partition.key not in self._silent:
                    self._say("partition_silent", partition, now - partition.last_arrival)
        self._stuck, self._silent = stuck, silent
        return fresh

    def look_for_pauses(self, partitions: Partitions) -> list[Partition]:
        """Report and return what is paused at the client though nothing wants it, now and the look before.

        Once may be between a reason's end and the client's resume.
        """
        if partitions.broker_away:
            return []
        found = [each for each in partitions.all() if each.paused and not partitions.is_to_pause(each)]
        again = [each for each in found if each in self._left_paused]
        for partition in again:
            if not self._left_paused[partition]:
                self._say("partition_left_paused", partition, monotonic() - partition.last_arrival)
        self._left_paused = {each: each in self._left_paused for each in found}
        return again

    def _say(self, event: str, partition: Partition, seconds: float) -> None:
        topic, number = partition.key
        self._report(
            event, {"topic": topic, "partition": number, "position": partition.position, "seconds": round(seconds, 1)}
        )


def is_silent(partition: Partition, now: float, seconds: float) -> bool:
    """Tell whether records stand in the log above a running partition's position, and have not come for so long."""
    if not partition.running or partition.paused or now - partition.last_arrival < seconds:
        return False
    return -1 < partition.fetch_position < partition.fetch_end and partition.position < partition.fetch_end
