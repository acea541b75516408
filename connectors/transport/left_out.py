"""Topics that a group reads and that it gave to none of its members: the client does not notice by itself.

The leader of a classic group divides the partitions that the broker knows at that moment. A topic that is deleted and
made anew is unknown in between; subscribed to just then by a client that remembers it from before, it is left out, and
as the client remembers as many partitions as it finds later, nothing has the group divide again (librdkafka 2.16:
`rd_kafka_cgrp_metadata_update_check` compares with its cache, not with what the leader saw).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from time import monotonic

from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.resolve import Membership
from connectors.transport.routes import PATTERN_MARK
from connectors.transport.settings import ConsumerSettings
from schemas.errors import HeadgateError

_SETTLED_SECONDS = 3.0  # after the last assignment; doubled as long as dividing again did not help
_SETTLED_SECONDS_MAX = 60.0


class LeftOut:
    """Has the group divide again where a topic that exists is nobody's; asked once after each assignment."""

    def __init__(
        self,
        settings: ConsumerSettings,
        lookups: Membership,
        report: Callable[[str, Mapping[str, object]], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Report through `report`."""
        self._settings = settings
        self._lookups = lookups
        self._report = report
        self._clock = clock
        self._looked_for = -math.inf  # the assignment that was looked at
        self._patience = _SETTLED_SECONDS

    async def look(self, partitions: Partitions, poller: PollThread) -> None:
        """Look at the last assignment, if it has settled and was not looked at."""
        assigned_at = partitions.assigned_at
        settled = self._clock() - assigned_at >= self._patience
        if not settled or assigned_at <= self._looked_for or self._settings.group_protocol != "classic":
            return
        mine = {topic for topic, _ in partitions.keys()}  # noqa: SIM118 - a method of its own
        found = await self._nobodys([each for each in poller.routes.subscription() if each not in mine])
        if found is None:
            return
        self._looked_for = assigned_at
        self._patience = min(self._patience * 2, _SETTLED_SECONDS_MAX) if found else _SETTLED_SECONDS
        if found:
            hint = "the group divides its partitions again, by itself"
            self._report("topics_left_out", {"topics": sorted(found), "hint": hint})
            poller.call(_divide_again)

    async def _nobodys(self, lacking: list[str]) -> AbstractSet[str] | None:
        """Return which of the topics exist and are nobody's; None where that cannot be told yet."""
        names = [each for each in lacking if not each.startswith(PATTERN_MARK)]
        if not names or not self._settings.topic_ids:
            return frozenset()
        try:
            divided = await self._lookups.divided(self._settings.group)
            return None if divided is None else (await self._lookups.ids(names)).keys() - divided
        except HeadgateError:  # away, or not allowed to: what reads says so
            return None


def _divide_again(thread: PollThread) -> None:
    if thread.settings.incremental:  # which goes by the difference, and there is none
        thread.consumer.unsubscribe()
    thread.subscribe()
