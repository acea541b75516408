"""Offsets of topics that a group has read and does not read now, such as those of paused tables: committed again.

Kafka keeps a group's offset for as long as some member subscribes to its topic. Else it drops it some days after it
was committed (`offsets.retention.minutes`, 7 days), also while the group lives: the table could not go on where it
stood. So one member, now and then, commits again what stands there.

Another member may begin to read such a topic at that moment, and its offset must not be set back. What is read of the
broker is committed at once or not at all, on the owning thread, between two rebalances: a classic group refuses the
commit of a generation that has ended. With KIP-848 nobody fences it off, but a topic is taken up, read and committed
in no such moment, and what its reader commits next counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.transport.hearing import NOT_ALLOWED
from connectors.transport.history import Key
from connectors.transport.lane import Lane
from connectors.transport.partitions import Partitions
from connectors.transport.poll import PollThread
from connectors.transport.resolve import Membership
from connectors.transport.settings import ConsumerSettings
from schemas.errors import HeadgateError

_FIRST_SECONDS = 600.0  # after the start: a worker that is started anew each day does it, too
_AGAIN_SECONDS = 60.0  # where the group was dividing its partitions, or nothing was kept for now
_READ_SECONDS = 2.0
_AT_ONCE_SECONDS = 0.5
_LASTING = NOT_ALLOWED | {KafkaError.UNKNOWN_TOPIC_OR_PART}  # refusals that are the same a minute later


class KeptOffsets:
    """Has the offsets kept of all that the stage's book names, if this worker is the one to do it."""

    def __init__(
        self,
        settings: ConsumerSettings,
        lookups: Membership,
        lanes: Mapping[str, Lane],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`lanes` are the stage's; those that keep a book share it."""
        self._settings = settings
        self._lookups = lookups
        self._lanes = lanes
        self._clock = clock
        self._due = clock() + min(_FIRST_SECONDS, settings.keep_offsets_seconds)
        self._again_seconds = _AGAIN_SECONDS
        self._followed: float | None = None  # the assignment by which another member was the one to do it

    async def look(self, partitions: Partitions, poller: PollThread) -> None:
        """Do it if it is time."""
        book = next((lane.settings.book for lane in self._lanes.values() if lane.settings.book is not None), None)
        if book is None or not self._settings.topic_ids:
            return
        soon = self._clock() + min(self._again_seconds, self._settings.keep_offsets_seconds)
        assigned_at = partitions.assigned_at
        if self._followed not in (None, assigned_at):  # the broker tells it of a group before its members hear of it
            self._followed, self._due = None, min(self._due, soon)
        if self._clock() < self._due:
            return
        self._due = soon
        try:
            divided = await self._lookups.divided(self._settings.group)
            if divided is None:
                return
            leads = _leads(divided, partitions)
            known = await book.everything() if leads else {}
        except HeadgateError:  # away, or not allowed to: what reads says so
            return
        self._followed = None if leads else assigned_at
        idle = [(topic, number) for topic, numbers in known.items() if topic not in divided for number in numbers]
        if idle:
            poller.call(partial(self._commit, idle=idle))
        else:
            self._put_off()

    def _commit(self, thread: PollThread, idle: Sequence[Key]) -> None:
        if commit_again(thread, idle):
            self._put_off()
        else:  # a broker that is always so slow keeps who polls waiting ever more seldom
            self._again_seconds *= 2

    def _put_off(self) -> None:
        self._again_seconds = _AGAIN_SECONDS
        self._due = self._clock() + self._settings.keep_offsets_seconds


def _leads(divided: AbstractSet[str], partitions: Partitions) -> bool:
    """Tell whether this is the member that does it for the group: the one that has the first partition of all."""
    return bool(divided) and (min(divided), 0) in partitions.keys()  # noqa: SIM118 - a method of its own


def commit_again(thread: PollThread, idle: Sequence[Key]) -> bool:
    """Commit anew where the group stands in those of `idle` that it has an offset of, and that nobody has to read.

    Returns False where it was not done and may be soon.
    """
    wanted = [TopicPartition(*key) for key in idle if thread.routes.lane_of(key[0]) is None]
    if not wanted:
        return True
    began = monotonic()
    try:
        said = thread.consumer.committed(wanted, timeout=_READ_SECONDS)
        stands = [
            TopicPartition(each.topic, each.partition, each.offset, each.metadata or "")
            for each in said
            if each.error is None and each.offset >= 0
        ]
        if monotonic() - began > _AT_ONCE_SECONDS:
            return False  # a broker that is so slow is asked again another time
        if not stands:
            return True
        stored = thread.consumer.commit(offsets=stands, asynchronous=False) or []
        errors = [each.error for each in stored if each.error is not None]
    except KafkaException as error:
        stored, errors = [], [error.args[0]]
    if errors:
        thread.listener.report("offsets_not_kept", {"error": errors[0].str()})
    if len(stored) > len(errors):
        thread.listener.report("offsets_kept", {"partitions": len(stored) - len(errors)})
    return all(each.code() in _LASTING for each in errors)
