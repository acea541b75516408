"""Where a FEATURES worker stands in each partition, and where a loss in Redis sends it back to.

Promise: the offsets in Redis never pass over a row that is not there. A view is pending until all is in it that was
read, or stood in the log, before it began or was lost. What the log no longer reaches is held for a rebuild
(rebuild.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from schemas.errors import TableStopped
from sinks.redis.layout import offset_field
from sinks.redis.standing import Standing
from sinks.redis.store import Fallen, FeatureStore
from streams.place import Key, Place, TakenUp, is_gone, is_through, lake_lacks, moved, new_place

if TYPE_CHECKING:
    from sinks.lake.stand import Stand

LOG = structlog.get_logger("streams.features")

Logs = Callable[[Iterable[Key]], Awaitable[Mapping[Key, tuple[int, int]]]]
Lags = Callable[[], Mapping[Key, int | None]]


class Consumer(Protocol):
    """What is asked of the transport here."""

    async def seek(self, assignment: Any, offset: int) -> bool:
        """Read a partition anew from `offset`."""

    async def pause(self, topic: str, reason: TableStopped) -> None:
        """Stop reading a table."""


class Places:
    """The partitions of one worker."""

    def __init__(
        self,
        store: FeatureStore,
        consumer: Consumer,
        *,
        fields_of: Callable[[Any], list[str]],
        transactional: bool,
        logs: Logs | None = None,
        lags: Lags = dict,
    ) -> None:
        """Ask `logs` for the first and next offset of logs as they are now, `lags` for what is still to be read."""
        self._store = store
        self._consumer = consumer
        self._fields_of = fields_of
        self._transactional = transactional
        self._logs = logs
        self._lags = lags
        self._places: dict[Key, Place] = {}
        self.on_held: Callable[[str], None] | None = None  # is told the topic of what is to be rebuilt

    # -- what is asked while records come ----------------------------------------------------------------------------

    def all(self, topic: str | None = None) -> list[Place]:
        """Return the places that are still ours, of one topic or of all."""
        places = [place for place in self._places.values() if not place.assignment.lost]
        return [place for place in places if topic is None or place.assignment.topic == topic]

    def held(self, topic: str) -> list[Place]:
        """Return the places of a topic that wait for a rebuild."""
        return [place for place in self.all(topic) if place.held]

    def is_new(self, assignment: Any) -> bool:
        """Say whether a partition, or a view of it, has not been taken up."""
        place = self._of(assignment)
        return place is None or not self._store.knows(self._fields_of(assignment))

    def stands_by(self, run: Any) -> bool:
        """Say whether all that comes before `run` is in Redis, or on its way there."""
        place = self._of(run.assignment)
        return not run.lost and (place is None or place.stands())

    def history_below(self, assignment: Any, view: str) -> float:
        """Return the offset below which what a view, given by its id, is told of a partition is no news to anyone.

        It was read before; infinity while the view is filled from the lake beside what comes.
        """
        place = self._of(assignment)
        if place is None:
            return 0
        pending = offset_field(view, assignment.topic, assignment.partition) in place.pending
        return float("inf") if place.held and pending else place.news

    def news_begin(self, assignment: Any) -> int:
        """Return the offset from which on nothing of a partition was read before."""
        place = self._of(assignment)
        return 0 if place is None else place.news

    def read(self, run: Any) -> None:
        """Note that a run's rows are in Redis."""
        place = self._of(run.assignment)
        if place is None or run.lost or place.back is not None:
            return
        place.read_to = max(place.read_to, run.next)
        if place.stands():
            self._store.reach(self._fields_of(run.assignment), run.next)

    def _of(self, assignment: Any) -> Place | None:
        place = self._places.get((assignment.topic, assignment.partition))
        return place if place is not None and place.assignment is assignment else None

    # -- beginning ---------------------------------------------------------------------------------------------------

    async def starts(self, assignments: Sequence[Any]) -> dict[Any, int]:
        """Return where to begin: the lowest offset that Redis has for a partition, where that is below Kafka's.

        What the log does not reach is held, and its partition begins at Kafka's offset, or where the log begins.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        starts: dict[Any, int] = {}
        for taken in await self._take_up(assignments):
            assignment = taken.place.assignment
            known = [] if assignment.committed is None else [assignment.committed]
            start = max(min([*taken.reachable(), *known], default=assignment.low), assignment.low)
            if start != assignment.committed:
                starts[assignment] = start
            taken.place.read_to = start
            self._hold(taken.place, taken.gone)
        return starts

    async def begin(self, assignments: Mapping[Any, int]) -> None:
        """Take up partitions, or new views of them, that are read on from an offset; go back where Redis is behind it.

        Raises:
            SinkUnavailable: Redis does not answer.
            SourceUnavailable: Kafka does not.
        """
        await self._ask_logs(list(assignments))
        for taken in await self._take_up(list(assignments)):
            place, lowest = taken.place, min(taken.reachable(), default=None)
            if place.read_to < 0:
                place.read_to = assignments[place.assignment]
            if lowest is not None and lowest < assignments[place.assignment]:
                self._send_back(place, lowest)
            self._hold(place, taken.gone)
        await self.go_back({})

    async def change(self, topics: set[str]) -> None:
        """Take up specs of the tables of `topics` that changed.

        Raises:
            SinkUnavailable: Redis does not answer.
            SourceUnavailable: Kafka does not.
        """
        self.drop_lost()
        places = [place for place in self.all() if place.assignment.topic in topics]
        for place in places:
            place.losses += place.held  # a rebuild under way fills the views of before
        again = [place for place in places if self.is_new(place.assignment)]
        if again:
            await self.begin({place.assignment: place.read_to for place in again})

    def drop_lost(self) -> None:
        """Forget partitions that left, and views that are gone: their fields are another worker's to move."""
        self._places = {key: place for key, place in self._places.items() if not place.assignment.lost}
        fields = {name for place in self._places.values() for name in self._fields_of(place.assignment)}
        for place in self._places.values():
            place.pending &= fields
        self._store.keep(fields)

    async def _take_up(self, assignments: Sequence[Any]) -> list[TakenUp]:
        """Read the fields of partitions; one of another topic is paused, one without views left out."""
        if not assignments:
            return []
        self.drop_lost()
        fields = {assignment: self._fields_of(assignment) for assignment in assignments}
        new = {name for of in fields.values() for name in of if not self._store.knows([name])}
        accepted = {name: a.topic_id for a in assignments if a.decision is not None for name in fields[a]}
        if accepted:
            await self._store.begin_anew(accepted)
        offsets = await self._store.take_up({name: a.topic_id for a in assignments for name in fields[a]})
        found: list[TakenUp] = []
        for assignment in assignments:
            own = {name: offset for name in fields[assignment] if (offset := offsets[name]) is not None}
            if len(own) < len(fields[assignment]):
                await self._consumer.pause(assignment.topic, moved(assignment.topic))
                continue
            place = self._of(assignment) or new_place(assignment)
            self._places[assignment.topic, assignment.partition] = place
            if own:
                gone = {name for name, offset in own.items() if self.is_gone(assignment, offset)}
                found.append(TakenUp(place, own, gone))
        await self._stand(found, new)
        return found

    async def _stand(self, found: Iterable[TakenUp], new: Collection[str]) -> None:
        """Find which views are pending, and say so in Redis where it does not stand there.

        So is one of `new` fields that stands behind what was read: it was taken out and is back.
        """
        held = await self._store.standings.read([name for taken in found for name in taken.offsets])
        changed: dict[str, Standing] = {}
        for place, offsets, gone in found:
            place.read_before()
            for name, offset in offsets.items():
                was = held[name]
                if was is not None and was.pending:
                    place.target = max(place.target, was.offset)
                is_back = name in new and offset < place.read_to
                unknown = offset == 0 or is_back or name in gone or (was is not None and was.pending)
                if unknown and (name in gone or offset < place.target):
                    place.pending.add(name)
                if was is None or was.pending is not (name in place.pending):
                    pending = name in place.pending
                    changed[name] = place.standing() if pending else Standing(False, offset)
        await self._store.standings.write(changed)

    # -- losses ------------------------------------------------------------------------------------------------------

    async def go_back(self, fallen: Fallen) -> None:
        """Go back in the partitions for which Redis holds less than it acknowledged; also where it failed before.

        Raises:
            SinkUnavailable: Redis does not answer. What was lost is kept in mind.
            SourceUnavailable: Kafka does not; the same.
        """
        for place in self.all():
            lost = {name: fallen[name] for name in self._fields_of(place.assignment) if name in fallen}
            if lost:
                place.fallen = {**place.fallen, **lost}
                place.pending |= lost.keys()
                place.read_before()
                place.losses += 1
        lost_now = [place for place in self.all() if place.fallen]
        if lost_now:
            await self.ask_logs(lost_now)
            await self._store.standings.write({name: place.standing() for place in lost_now for name in place.pending})
            for place in lost_now:
                lost, place.fallen = place.fallen, {}
                gone = {name for name, offset in lost.items() if self.is_gone(place.assignment, offset)}
                reachable = [offset for name, offset in lost.items() if name not in gone]
                if reachable:
                    self._send_back(place, min(reachable))
                self._hold(place, gone)
        await self._seek()

    async def read_from(self, place: Place, offset: int) -> None:
        """Read a partition from `offset`, unless it is read from there or below."""
        if place.read_to > offset:
            self._send_back(place, offset)
            await self._seek()

    def _send_back(self, place: Place, offset: int) -> None:
        assignment = place.assignment
        LOG.warning("features.go_back", topic=assignment.topic, partition=assignment.partition, offset=offset)
        place.back = offset if place.back is None else min(offset, place.back)

    async def _seek(self) -> None:
        """Go back in partitions, also in those that could not before: one refuses that does not read yet."""
        for place in self.all():
            offset = place.back
            if offset is None or (
                not await self._consumer.seek(place.assignment, offset) and not place.assignment.lost
            ):
                continue
            if place.back == offset:  # else it must go further back meanwhile
                place.back, place.read_to = None, offset

    def _hold(self, place: Place, gone: set[str]) -> None:
        if not gone:
            return
        place.held, place.done, place.total = True, 0, 0
        place.losses += 1
        place.pending |= gone
        if self.on_held is not None:
            self.on_held(place.assignment.topic)

    def is_gone(self, assignment: Any, offset: int) -> bool:
        """Say whether the log no longer holds what comes at `offset`."""
        return is_gone(assignment, offset, transactional=self._transactional)

    def lake_lacks(self, assignment: Any, stand: Stand | None) -> str:
        """Return why the lake does not reach the log of a partition; empty if it does."""
        return lake_lacks(assignment, stand, transactional=self._transactional)

    async def ask_logs(self, places: Iterable[Place]) -> None:
        """Learn where logs begin and end now: retention went on since the assignment.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        await self._ask_logs([place.assignment for place in places])

    async def _ask_logs(self, assignments: Sequence[Any]) -> None:
        if self._logs is None or not assignments:
            return
        found = await self._logs([(each.topic, each.partition) for each in assignments])
        for each in assignments:
            each.low, each.high = found.get((each.topic, each.partition), (each.low, each.high))

    # -- rebuilds ----------------------------------------------------------------------------------------------------

    async def filled(self, began: Mapping[Place, int], connection: int) -> bool:
        """Let the offsets of rebuilt partitions move on; False where Redis may have lost something since it was begun.

        `began` are their losses at the beginning. On another connection than at the beginning nothing is known of what
        was written, and these offsets would not show it: they stood still.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        ours = [place for place in began if not place.assignment.lost]
        if any(place.losses != began[place] or place.back is not None for place in ours):
            return False
        if self._store.connection != connection:
            return False
        fields = {place: self._fields_of(place.assignment) for place in ours}
        reached = {place: place.read_to for place in ours}
        fallen = await self._store.move({name: reached[place] for place in ours for name in fields[place]})
        for place in ours:
            if place.losses == began[place]:
                place.held = False
                self._store.reach(fields[place], reached[place])
        await self.go_back(fallen)
        await self.settle()
        return True

    async def give_up(self, places: Iterable[Place]) -> None:
        """Go on from where the log begins, without what is neither there nor in the lake.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        places = list(places)
        lows = {name: place.assignment.low for place in places for name in self._fields_of(place.assignment)}
        await self.go_back(await self._store.move(lows))
        for place in places:
            place.held = False
            self._send_back(place, place.assignment.low)
        await self._seek()

    # -- pending and complete ----------------------------------------------------------------------------------------

    async def settle(self, *, quiet: bool = False) -> None:
        """Say of views that hold all there was that they are complete; with `quiet` also of a log without more records.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        waiting = [place for place in self.all() if place.pending and place.stands()]
        lags = self._lags() if quiet and waiting else {}
        if not any(is_through(place, lags) for place in waiting):
            return
        await self.go_back(await self._store.move_all())
        through = [place for place in waiting if place.pending and place.stands() and is_through(place, lags)]
        complete = {name: Standing(False, place.read_to) for place in through for name in place.pending}
        pending = [(place, place.pending) for place in through]
        for place in through:
            place.pending = set()
        try:
            await self._store.standings.write(complete)
        except BaseException:
            for place, names in pending:
                place.pending |= names
            raise
        for place in through:
            LOG.info("features.complete", topic=place.assignment.topic, partition=place.assignment.partition)

    async def tell(self) -> None:
        """Say in Redis how far pending views are.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        await self._store.standings.write({name: place.standing() for place in self.all() for name in place.pending})

    def filling(self) -> dict[str, Standing]:
        """Return how far the tables are, by topic, whose views are not complete."""
        found: dict[str, Standing] = {}
        for place in self.all():
            if place.pending:
                here, so_far = place.standing(), found.get(place.assignment.topic, Standing(True))
                total, done = so_far.total + here.total, so_far.done + here.done
                found[place.assignment.topic] = Standing(True, 0, done, total)
        return found
