"""Online features in Redis: one ledger per view and bucket, where an older change never wins.

Promise: at-least-once in, exact state out. Redis itself refuses a change whose position is not above the stored one,
and the same script then moves the bucket's offsets, each only if it holds what we last saw there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import msgspec

from schemas.config import RedisConfig
from schemas.errors import OutboxFull, SinkUnavailable
from sinks.redis.layout import Layout, offset_text
from sinks.redis.migrate import brought_up
from sinks.redis.wire import Wire, checked

PARTS = (
    "outbox.lua", "rows.lua", "floors.lua", "left.lua", "ranks.lua", "sharing.lua", "handover.lua", "ledger.lua",
)  # fmt: skip
SCRIPT = b"".join(files("sinks.redis").joinpath(part).read_bytes() for part in PARTS)
SCRIPT_SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()  # Redis names scripts by SHA-1


Call = tuple[Any, ...]


class Arguments(Protocol):
    """The rows of one view and bucket."""

    @property
    def emits(self) -> bool:
        """Say whether what they change becomes feature updates."""
        ...

    def arguments(self) -> list[Any]:
        """Return them as a section of `ledger.lua`."""
        ...


class Move(NamedTuple):
    """One offset of one bucket: moved to `new` only if it holds `expected`."""

    field: str
    expected: str
    new: str


class Refused(NamedTuple):
    """A move that did not happen, and what its field holds; None: nothing, so Redis has lost it."""

    bucket: int
    move: Move
    held: str | None


@dataclass(frozen=True, slots=True)
class OutboxTerms:
    """On what terms a call may append feature updates."""

    life: str  # of the server: in another one numbers that readers have seen may be lost
    incarnation: str  # the new one, where it has to begin
    bytes_max: int  # of one bucket's outbox


@dataclass(frozen=True, slots=True)
class Applied:
    """What a round of calls did; every row of it is in Redis, or was there already."""

    changed: int
    refused: list[Refused]
    told: list[Any]  # for `sharing.tellings`
    appended: int = 0  # feature updates
    handed: list[Any] = field(default_factory=list)  # for `handover.gifts_of`


def commands(
    layout: Layout,
    sections: Mapping[int, Mapping[str, Arguments]],
    moves: Mapping[int, Sequence[Move]],
    *,
    now_ms: int,
    outbox: OutboxTerms | None = None,
) -> dict[int, Call]:
    """Return the arguments of one EVALSHA per bucket that has rows or moves; `outbox` if a view emits. Pure."""
    encode = msgspec.msgpack.Encoder().encode
    calls: dict[int, Call] = {}
    for bucket in sorted({*sections, *moves}):
        views = list(sections.get(bucket, {}).values())
        terms: Sequence[Any] = ("", "", 0)
        if any(section.emits for section in views):
            assert outbox is not None, "updates are appended on terms"
            terms = (outbox.life, outbox.incarnation, outbox.bytes_max)
        arguments = [layout.base(bucket), str(now_ms), len(views), *terms, len(moves.get(bucket, ()))]
        for section in views:
            arguments += section.arguments()
        for move in moves.get(bucket, ()):
            arguments += move
        calls[bucket] = ("EVALSHA", SCRIPT_SHA, 1, layout.offsets(bucket), encode(arguments))
    return calls


class Ledger:
    """The online side of the feature views of one installation."""

    def __init__(self, config: RedisConfig) -> None:
        self.layout = Layout(config.key_prefix, config.buckets)
        self.wire = Wire(config)

    async def open(self) -> None:
        """Connect, load the script and check the layout, unless all this was done on this connection.

        Raises:
            SinkUnavailable: Redis does not answer.
            ConfigurationError: the layout there is not one that this version knows, or has another number of buckets.
        """
        if self.wire.is_open:
            return
        await self.wire.open()
        try:
            await self._prepare()
        except BaseException:
            await self.wire.close()  # half prepared is not open
            raise

    async def _prepare(self) -> None:
        await self.mark()
        (loaded,) = await self.ask([("SCRIPT", "LOAD", SCRIPT)])
        assert loaded.decode() == SCRIPT_SHA, "Redis names a script by its SHA-1"

    async def mark(self) -> None:
        """Have the layout's marker there, also after Redis has lost it.

        Raises:
            SinkUnavailable: Redis does not answer.
            ConfigurationError: the layout there is not one that this release reads, or has another number of buckets.
        """
        try:
            await brought_up(self.wire.exchange, self.layout)
        except BaseException:
            await self.wire.close()
            raise

    async def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send `commands` and return their replies, none of which is an error.

        Raises:
            SinkUnavailable: Redis does not answer, or cannot take one now. The connection ends: what is promoted in the
                place of a server that is READONLY is found by a new one only.
        """
        replies = await self.wire.exchange(commands)
        try:
            return [checked(reply) for reply in replies]
        except BaseException:
            await self.wire.close()
            raise

    async def close(self) -> None:
        """Leave; what is in flight fails with SinkUnavailable."""
        await self.wire.close()

    async def apply(
        self, calls: Mapping[int, Call], moves: Mapping[int, Sequence[Move]], *, opened: int | None = None
    ) -> Applied:
        """Send what `commands` made and return once Redis has answered every call.

        With `opened` only on the connection of that number (`Wire.opened`).

        Raises:
            SinkUnavailable: Redis did not answer, or cannot take it now; nothing is known of the rows, send them again.
            OutboxFull: of one bucket nothing was written, of the others nothing is known; send them again.
                What is in flight behind it is refused in that bucket, too, where a view emits.
        """
        replies = await self.wire.exchange(list(calls.values()), opened=opened)
        assert len(replies) == len(calls), "Redis answers every command once"
        changed, appended, refused, told, handed = 0, 0, [], [], []
        try:
            for bucket, reply in zip(calls, replies, strict=True):
                _raise_unwritten(bucket, reply)
                count, rest, tell, updates, gifts = checked(reply)
                changed += count
                appended += updates
                told += tell
                handed += gifts
                for index, held in zip(rest[::2], rest[1::2], strict=True):
                    refused.append(Refused(bucket, moves[bucket][index], None if held is None else held.decode()))
        except BaseException:
            await self.wire.close()  # the script is loaded and the offsets are read again before anything else is sent
            raise
        return Applied(changed, refused, told, appended, handed)

    async def offsets(self, fields: Sequence[str]) -> list[list[str | None]]:
        """Return what each bucket holds for `fields`: one list per bucket, one text or None per field.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        if not fields:
            return [[] for _ in range(self.layout.buckets)]
        replies = await self.ask([("HMGET", self.layout.offsets(b), *fields) for b in range(self.layout.buckets)])
        return [[None if text is None else text.decode() for text in reply] for reply in replies]

    async def begin(self, absent: Mapping[int, Sequence[tuple[str, str]]], *, anew: bool = False) -> None:
        """Write fields that are not there: the start of a view or partition, or of what Redis has lost.

        With `anew` also over those that are there: they are of another life of their topic.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        calls = [
            ("HSET" if anew else "HSETNX", self.layout.offsets(bucket), field, offset_text(topic_id, 0))
            for bucket, fields in absent.items()
            for field, topic_id in fields
        ]
        await self.ask(calls)

    async def count_anew(self, buckets: Iterable[int]) -> None:
        """Have the updates of `buckets` counted under a new incarnation: Redis has lost something there.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        await self.ask([("DEL", self.layout.counter(bucket)) for bucket in buckets])


def _raise_unwritten(bucket: int, reply: Any) -> None:
    """Raise what a call means that was refused before it wrote anything."""
    word, _, what = str(reply).partition(" ") if isinstance(reply, Exception) else ("", "", "")
    if word == "OUTBOXFULL":
        raise OutboxFull(
            f"{what} bytes of feature updates wait in bucket {bucket} of Redis, more than its share",
            hint="it goes on when the relay has written them to Kafka; else raise redis.outbox_bytes_max",
        )
    if word == "OUTBOXBEHIND":
        raise SinkUnavailable(
            f"bucket {bucket} of Redis lacks what was sent before of {what}: it was refused, or is lost",
            hint="its offsets are read again, and the rows are sent again",
        )
