"""The rows of a worker's views in Redis, and how far each partition has come there.

Promise: what `write` was given is in Redis once its task has ended without an error. Every new connection is looked at
first: if a bucket holds less than it acknowledged, `ensure` says how far back each field must go.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from schemas.config import MIB, RedisConfig
from schemas.errors import OutboxFull, SinkUnavailable
from schemas.failpoints import failpoint
from sinks.redis.floor import ViewFloor
from sinks.redis.floor_sweep import FloorSweep, read_floors
from sinks.redis.fold import Gatherer, Section, touched_by
from sinks.redis.handover import Gift, Send, gifts_of, give, hand_over, note
from sinks.redis.layout import offset_text, read_offset
from sinks.redis.ledger import Applied, Arguments, Call, Ledger, OutboxTerms, commands
from sinks.redis.offsets import Mark, Moves, OffsetBook, lowest
from sinks.redis.rows import TableRows, ViewPlan
from sinks.redis.sharing import tellings
from sinks.redis.standing import Standings
from sinks.redis.sweep import Horizon, forget_handovers, forget_left, sweep_tombstones
from sinks.redis.updates import update_row_bytes_max

COUNTS = (
    "rows", "rows_changed", "calls", "moves_refused", "fields_fallen_back", "updates", "outbox_full", "floors",
    "floor_rows_swept", "handed_over",
)  # fmt: skip
CROWDED_SECONDS = 0.2  # until a sweep looks again whether the relay has made room

Fallen = dict[str, int]  # field → the offset to go back to


class FeatureStore:
    """The online side of one FEATURES worker; fields are those of `layout.offset_field`."""

    def __init__(
        self, config: RedisConfig, *, clock: Callable[[], float], message_bytes_max: int = MIB,
        incarnation: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:  # fmt: skip
        """Connect at `ensure`; `message_bytes_max` is what the topics of feature updates take."""
        self._config = config
        self._clock = clock
        self._incarnation = incarnation
        self._emitted_row_bytes_max = update_row_bytes_max(config.row_bytes_max, message_bytes_max)
        self._ledger = Ledger(config)
        self.standings = Standings(self._ledger)
        self._book = OffsetBook()
        self._connection = 0  # the one on which the fields were read
        self._checking = asyncio.Lock()
        self._sharing = asyncio.Lock()
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))

    async def close(self) -> None:
        """Leave; what is in flight fails with SinkUnavailable."""
        await self._ledger.close()

    async def ensure(self) -> Fallen:
        """Have a connection on which the fields were read; return those that hold less than was acknowledged.

        Raises:
            SinkUnavailable: Redis does not answer.
            ConfigurationError: what is there under the prefix is not a layout that this version knows.
        """
        async with self._checking:
            if self._ledger.wire.is_open and self._connection == self._ledger.wire.opened:
                return {}
            await self._ledger.open()
            opened = self._ledger.wire.opened
            self._book.disconnected()
            fallen = await self.read_again()
            self._connection = opened
            return fallen

    @property
    def connection(self) -> int:
        """The number of the connection, 0 while there is none: what was acknowledged on another one may be lost."""
        return self._ledger.wire.opened if self._ledger.wire.is_open else 0

    async def are_there(self, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Say of rows (kind and id of the view, key) which of them Redis has.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        keys = [self._ledger.layout.ledger(*row) for row in rows]
        return [bool(found) for found in await self._ledger.ask([("EXISTS", key) for key in keys])]

    async def sweep(self, view: str, horizon: Horizon) -> tuple[int, int, int]:
        """Give back what is kept of rows of a view, given by its id, that are behind the horizon.

        Return how many tombstones went, how many rows entities have forgotten that they left, and of how many keys that
        had changed, or were to be taken over, nothing is expected any more.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        ask, layout = self._ledger.ask, self._ledger.layout
        tombstones = await sweep_tombstones(ask, layout, view, horizon)
        left = await forget_left(ask, layout, view, horizon.applied_before_ms)
        return tombstones, left, await forget_handovers(ask, layout, view, horizon.applied_before_ms)

    async def floors(self, views: Sequence[str]) -> dict[str, ViewFloor]:
        """Return the floors of views, given by their ids, that have one.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        return await read_floors(self._ledger.ask, self._ledger.layout, views)

    async def sweep_floor(self, plan: ViewPlan, floor: ViewFloor) -> None:
        """Take away the rows of a view that stand below its floor, one delete each, and say that it is swept.

        Raises:
            SinkUnavailable: Redis does not answer, or was connected to anew, or an outbox is full: some rows may be
                left, and it says SWEEPING.
        """
        opened = self._ledger.wire.opened
        apply = self._sender(opened)

        async def send(sections: Mapping[int, Mapping[str, Arguments]]) -> int:
            while plan.emits and await self._is_crowded(sections):  # noqa: ASYNC110 - Redis does not call back
                await asyncio.sleep(CROWDED_SECONDS)
            applied = await apply(sections)
            await apply(tellings(self._ledger.layout, applied.told, {plan.id: plan}))
            return applied.changed

        sweep = FloorSweep(self._ledger.ask, send, self._ledger.layout, plan, floor)
        self.counts["floor_rows_swept"] += await sweep.sweep()
        if self.connection != opened:
            raise SinkUnavailable("Redis was connected to anew", hint="the sweep begins again")
        await sweep.end()

    async def _is_crowded(self, buckets: Iterable[int]) -> bool:
        """Say whether one of the outboxes is half full: what is live has the rest of it, and goes first."""
        asked = [("MEMORY", "USAGE", self._ledger.layout.outbox(bucket)) for bucket in buckets]
        sizes = await self._ledger.ask(asked)
        return max((size or 0 for size in sizes), default=0) > self._outbox_share // 2

    @property
    def _outbox_share(self) -> int:
        return self._config.outbox_bytes_max // self._config.buckets

    def knows(self, fields: Iterable[str]) -> bool:
        """Say whether all of `fields` were taken up."""
        return all(field in self._book.marks for field in fields)

    async def take_up(self, fields: Mapping[str, str]) -> dict[str, int | None]:
        """Read fields, given with their topic's id; return the lowest offset of each, None if it is another topic's.

        A field that a bucket does not have is written there as 0: its view or partition is new, or Redis has lost it.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        texts = await self._read(list(fields))
        ours = {field: found for field, found in texts.items() if _is_of(fields[field], found)}
        await self._begin_absent(ours, fields)
        for field, found in ours.items():
            held = [text if text is not None else offset_text(fields[field], 0) for text in found]
            self._book.begin(field, fields[field], held)
        return {field: lowest(self._book.marks[field].seen) if field in ours else None for field in fields}

    async def begin_anew(self, fields: Mapping[str, str]) -> None:
        """Write the start of `fields`, given with their topic's id, where they are of another life of that topic.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        texts = await self._read(list(fields))
        other: dict[int, list[tuple[str, str]]] = {}
        for field, by_bucket in texts.items():
            for bucket, text in enumerate(by_bucket):
                if not _is_of(fields[field], [text]):
                    other.setdefault(bucket, []).append((field, fields[field]))
        if other:
            await self._ledger.begin(other, anew=True)

    def keep(self, fields: Container[str]) -> None:
        """Drop all fields but these: the others are no longer this worker's."""
        self._book.keep(fields)

    def gatherer(self) -> Gatherer:
        """Return an empty gatherer for the rows of one round."""
        return Gatherer(self._ledger.layout, self._config.row_bytes_max, self._emitted_row_bytes_max)

    def write(self, gatherers: Sequence[Gatherer], behind: Mapping[str, int]) -> asyncio.Task[bool]:
        """Begin to send a round, and the offsets behind it; the task tells whether Redis has lost something.

        Moves are counted on here and sent in the order of these calls, so this is no coroutine. A round in which keys
        change counts on them later: let nothing else be under way. Only such a round has more than one gatherer.
        """
        marks = self._book.marks_of(behind)
        if all(gatherer.handover is None for gatherer in gatherers):
            (gatherer,) = gatherers
            return self._write(gatherer, marks)
        return asyncio.create_task(self._write_moving(gatherers, marks))

    async def _write_moving(self, gatherers: Sequence[Gatherer], marks: Mapping[Mark, int]) -> bool:
        """Write rows, hand over what new keys take from old ones, write what was put behind that; then move offsets.

        They move wherever a part had rows: a table whose keys stay has none in the last part, and a loss of those that
        it had in the first would not show.
        """
        opened, lost = self._ledger.wire.opened, False
        for gatherer in gatherers:
            lost |= await self._write_part(gatherer, opened)
            if (handover := gatherer.handover) is not None:
                self.counts["handed_over"] += await hand_over(self._sender(opened), self._ledger.layout, handover)
                lost |= await self._write_part(handover.leaving, opened)
        self._stay_on(opened)
        moves = self._book.moves_of(touched_by(gatherers), marks)
        return await self._send({}, moves) or lost

    def _write_part(self, part: Gatherer, opened: int) -> asyncio.Task[bool]:
        self._stay_on(opened)
        return self._write(part, {})

    def _stay_on(self, opened: int) -> None:
        if self.connection != opened:
            raise SinkUnavailable("the connection to Redis is lost", hint="the rows are sent again")

    async def give(self, gifts: Sequence[Gift], plans: Mapping[str, ViewPlan], *, opened: int) -> None:
        """Give rows what is theirs from old keys, on the connection of that number.

        Raises:
            SinkUnavailable: Redis does not answer; nothing is known of them, give them again.
        """
        self.counts["handed_over"] += await give(self._sender(opened), self._ledger.layout, gifts, plans)

    async def note(self, table: TableRows, moves: Sequence[Any], since: Sequence[str], *, opened: int) -> None:
        """Have old keys of changes of keys pass on what they are given from now on, on the connection of that number.

        Raises:
            SinkUnavailable: Redis does not answer; do it again.
        """
        await note(self._sender(opened), self._ledger.layout, table, moves, since)

    def _sender(self, opened: int) -> Send:
        async def send(sections: Mapping[int, Mapping[str, Arguments]]) -> Applied:
            applied = await self._exchange(self._calls(sections, {}), {}, opened)
            self.counts["updates"] += applied.appended
            return applied

        return send

    async def _pass_on(self, applied: Applied, sections: Mapping[int, Mapping[str, Arguments]], opened: int) -> None:
        """Bring what came late to keys that have changed to where their rows are."""
        if applied.handed:
            found = (section for views in sections.values() for section in views.values())
            plans = {section.plan.id: section.plan for section in found if isinstance(section, Section)}
            await self.give(gifts_of(applied.handed), plans, opened=opened)

    def _write(self, gatherer: Gatherer, marks: Mapping[Mark, int]) -> asyncio.Task[bool]:
        self.counts["rows"] += gatherer.rows
        sections, sharing = gatherer.told(shares=False), gatherer.told(shares=True)
        self.counts["floors"] += len(gatherer.floors)
        plain = self._send(sections, self._book.moves_of(sections, marks))
        if not sharing:
            return plain
        plans = {section.plan.id: section.plan for views in gatherer.sharing.values() for section in views.values()}
        return asyncio.create_task(self._write_sharing(plain, sharing, plans, marks, self._ledger.wire.opened))

    async def _write_sharing(
        self,
        plain: asyncio.Task[bool],
        sharing: Mapping[int, Mapping[str, Arguments]],
        plans: Mapping[str, ViewPlan],
        marks: Mapping[Mark, int],
        opened: int,
    ) -> bool:
        """Write rows, then tell their entities; each step can be repeated, and offsets move behind the second."""
        try:
            lost = await plain
        except asyncio.CancelledError:
            plain.cancel()
            raise
        async with self._sharing:  # one round after the other: a later one must not move offsets over an earlier one
            self._stay_on(opened)
            calls = self._calls(sharing, {})
            applied = await self._exchange(calls, {}, opened)
            await self._pass_on(applied, sharing, opened)
            failpoint("features.before_entities")
            entities = tellings(self._ledger.layout, applied.told, plans)
            touched = {b: {*sharing.get(b, ()), *entities.get(b, ())} for b in {*sharing, *entities}}
            return await self._send(entities, self._book.moves_of(touched, marks)) or lost

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def reach(self, fields: Iterable[str], offset: int) -> None:
        """Note that all rows below `offset` are in Redis."""
        for mark in filter(None, map(self._book.marks.get, fields)):
            mark.reached = max(mark.reached, offset)

    async def move_all(self) -> Fallen:
        """Move every bucket, also those without rows, to what was reached; return what Redis has lost.

        Every field is read, also where nothing is to be moved: a worker to which nothing comes would else never learn
        of a loss, nor that its connection is dead. The layout's marker is there afterwards.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        await self._move({field: mark.reached for field, mark in self._book.marks.items()})
        await self._ledger.mark()
        return await self.read_again()

    async def move(self, offsets: Mapping[str, int]) -> Fallen:
        """Move fields in every bucket to an offset each, where they stand below it; return what Redis has lost.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        return await self.read_again() if await self._move(offsets) else {}

    async def _move(self, offsets: Mapping[str, int]) -> bool:
        moves: Moves = {}
        for field, offset in offsets.items():
            mark = self._book.marks.get(field)
            for bucket, move in mark.moves(offset) if mark is not None else ():
                moves.setdefault(bucket, []).append(move)
        return bool(moves) and await self._send({}, moves)

    async def read_again(self) -> Fallen:
        """Read every field anew and write those that are gone; return those that hold less than was acknowledged.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        ids = {field: mark.topic_id for field, mark in self._book.marks.items()}
        texts = await self._read(list(ids))
        lost = {bucket for field, found in texts.items() for bucket in self._book.lost_in(field, found)}
        if lost:  # before anything is written there: readers may have seen numbers that are to come again
            await self._ledger.count_anew(lost)
        await self._begin_absent(texts, ids)
        # A field that was dropped meanwhile is nobody's business.
        back = {field: self._book.compare(field, found) for field, found in texts.items() if field in self._book.marks}
        fallen = {field: offset for field, offset in back.items() if offset is not None}
        self.counts["fields_fallen_back"] += len(fallen)
        return fallen

    def _send(self, sections: Mapping[int, Mapping[str, Arguments]], moves: Moves) -> asyncio.Task[bool]:
        # Of this connection: on the next one Redis may be another, whose updates count anew.
        opened = self._ledger.wire.opened
        return asyncio.create_task(self._apply(self._calls(sections, moves), moves, sections, opened))

    def _calls(self, sections: Mapping[int, Mapping[str, Arguments]], moves: Moves) -> dict[int, Call]:
        terms = OutboxTerms(self._ledger.wire.run_id, self._incarnation(), self._outbox_share)
        calls = commands(self._ledger.layout, sections, moves, now_ms=self._now_ms(), outbox=terms)
        self.counts["calls"] += len(calls)
        return calls

    async def _exchange(self, calls: Mapping[int, Call], moves: Moves, opened: int) -> Applied:
        try:
            return await self._ledger.apply(calls, moves, opened=opened)
        except OutboxFull:
            self.counts["outbox_full"] += 1
            raise

    async def _apply(
        self, calls: Mapping[int, Call], moves: Moves, sections: Mapping[int, Mapping[str, Arguments]], opened: int
    ) -> bool:
        """Send calls and take their answers into the book; return whether Redis has lost something."""
        applied = await self._exchange(calls, moves, opened)
        self.counts["rows_changed"] += applied.changed
        self.counts["updates"] += applied.appended
        self.counts["moves_refused"] += len(applied.refused)
        refused = {(refusal.bucket, refusal.move) for refusal in applied.refused}
        for bucket, made in moves.items():
            self._book.arrived(bucket, [move for move in made if (bucket, move) not in refused])
        lost = [self._book.refused(refusal) for refusal in applied.refused]
        if any(lost):
            self._connection = 0  # the fields are read again, also where a later round of the same step fails
        await self._pass_on(applied, sections, opened)
        return any(lost)

    async def _read(self, fields: Sequence[str]) -> dict[str, list[str | None]]:
        by_bucket = await self._ledger.offsets(fields)
        return {field: [texts[index] for texts in by_bucket] for index, field in enumerate(fields)}

    async def _begin_absent(self, texts: Mapping[str, Sequence[str | None]], ids: Mapping[str, str]) -> None:
        absent: dict[int, list[tuple[str, str]]] = {}
        for field, by_bucket in texts.items():
            for bucket, text in enumerate(by_bucket):
                if text is None:
                    absent.setdefault(bucket, []).append((field, ids[field]))
        if absent:
            await self._ledger.mark()
            await self._ledger.begin(absent)


def _is_of(topic_id: str, texts: Sequence[str | None]) -> bool:
    return all(text is None or read_offset(text)[0] == topic_id for text in texts)
