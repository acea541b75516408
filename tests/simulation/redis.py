"""A model of Redis as the ledger uses it: buckets that can each lose their last writes, and a script in Python.

The script keeps every change it was sent and says which row they make, by the rule of `docs/redis.md` alone: it shares
no code and no idea with `ledger.lua`. That the two agree is the business of tests/property/test_ledger.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from schemas.errors import SinkUnavailable
from sinks.redis.layout import STANDINGS
from sinks.redis.ledger import SCRIPT_SHA
from tests.simulation.loop import PROCESS
from tests.simulation.network import Network

UNAVAILABLE = object()
STANDING = "standing "  # before the name of what is written to a bucket's other hash
Said = tuple[str, dict[str, Any] | None]  # a position, and what it says of each column; None: a delete
Row = tuple[str, dict[str, Any]]


def winner(changes: Sequence[Said]) -> Row | None:
    """The truth for one key: the highest delete hides what is below it; a column has what is said last of it."""
    deleted = max((position for position, row in changes if row is None), default="")
    left = sorted(((p, row) for p, row in changes if row is not None and p >= deleted), key=lambda said: said[0])
    if not left:
        return None
    known: dict[str, Any] = {}
    for _, row in left:
        known |= {name: value for name, value in row.items() if value is not UNAVAILABLE}
    return left[-1][0], known


class Bucket:
    """One bucket: what it was told, in order, so that its last writes can be lost."""

    def __init__(self) -> None:
        self.wrote: list[tuple[float, str, Any]] = []  # when, and a field's text or a row's change

    def fields(self) -> dict[str, str]:
        """Return what the hash of offsets holds."""
        return self._texts(standings=False)

    def standings(self) -> dict[str, str]:
        """Return what the hash of standings holds."""
        return {name.removeprefix(STANDING): text for name, text in self._texts(standings=True).items()}

    def _texts(self, *, standings: bool) -> dict[str, str]:
        texts = ((name, text) for _, name, text in self.wrote if isinstance(text, str))
        return {name: text for name, text in texts if name.startswith(STANDING) is standings}

    def rows(self) -> dict[str, list[Said]]:
        """Return what is known of each key."""
        found: dict[str, list[Said]] = {}
        for _, key, said in self.wrote:
            if not isinstance(said, str):
                found.setdefault(key, []).append(said)
        return found


class Redis:
    """One server."""

    def __init__(self, clock: Callable[[], float], buckets: int) -> None:
        self.clock = clock
        self.life = 0
        self.up = True
        self.marker: bytes | None = None
        self.buckets = [Bucket() for _ in range(buckets)]
        self.on_field: Callable[[int, str, str], None] = lambda *_: None
        self.on_rows: Callable[[int, list[tuple[str, Said]]], None] = lambda *_: None

    def restart(self, lost: Callable[[int], float], *, breaks: bool = True) -> None:
        """Come back without what each bucket was told in its last `lost(bucket)` seconds.

        Connections break, unless something between holds them.
        """
        self.life += breaks
        for number, bucket in enumerate(self.buckets):
            since = self.clock() - lost(number)
            bucket.wrote = [write for write in bucket.wrote if write[0] <= since]
        if not any(bucket.wrote for bucket in self.buckets):
            self.marker = None

    def connection(self, network: Network) -> Wire:
        """Return a connection that is not open yet."""
        return Wire(network, self)

    def run(self, command: Sequence[Any]) -> Any:
        """Answer one command."""
        match command:
            case ("SCRIPT", "LOAD", _):
                return SCRIPT_SHA.encode()
            case ("SET", _, value, "NX"):
                self.marker = self.marker or value
                return b"OK"
            case ("GET", _):
                return self.marker
            case ("HMGET", key, *names):
                bucket = self.buckets[_number(key)]
                held = bucket.standings() if key.endswith(STANDINGS) else bucket.fields()
                return [text.encode() if (text := held.get(name)) is not None else None for name in names]
            case ("HSETNX", key, name, text):
                if name not in self.buckets[_number(key)].fields():
                    self._set(_number(key), name, text)
                return 1
            case ("HSET", key, name, text) if not key.endswith(STANDINGS):  # of another life of its topic
                self._set(_number(key), name, text)
                return 1
            case ("HSET", key, *flat):
                wrote = self.buckets[_number(key)].wrote
                wrote += [(self.clock(), STANDING + name, text) for name, text in zip(*[iter(flat)] * 2, strict=True)]
                return len(flat) // 2
            case ("DEL", _):  # the counter of feature updates, which are not modelled
                return 0
            case ("EVALSHA", _, 1, key, packed):
                return self._script(_number(key), msgspec.msgpack.decode(packed))
        raise AssertionError(f"no command of ours: {command[0]}")

    def _set(self, bucket: int, name: str, text: str) -> None:
        self.on_field(bucket, name, text)
        self.buckets[bucket].wrote.append((self.clock(), name, text))

    def _script(self, number: int, args: list[Any]) -> list[Any]:
        at, rows = 7, []  # behind base, time, sections, the terms of the outbox, and how many moves there are
        for _ in range(args[2]):
            at, of_section = _section(args, at)
            rows += of_section
        bucket = self.buckets[number]
        before = bucket.rows()
        bucket.wrote += [(self.clock(), key, said) for key, said in rows]
        self.on_rows(number, rows)
        changed = sum(said not in before.get(key, ()) for key, said in rows)
        refused: list[Any] = []
        held = bucket.fields()
        for index, (name, expected, new) in enumerate(
            zip(args[at::3], args[at + 1 :: 3], args[at + 2 :: 3], strict=True)
        ):
            if held.get(name) == expected:
                self._set(number, name, new)
            elif held.get(name) != new:
                refused += [index, text.encode() if (text := held.get(name)) is not None else None]
        return [changed, refused, [], 0, []]


def _section(args: list[Any], at: int) -> tuple[int, list[tuple[str, Said]]]:
    """Read a section as `ledger.lua` describes it."""
    count = args[at + 3]
    columns = args[at + 4 : at + 4 + 2 * count : 2]
    at += 4 + 2 * count
    stop = at + 1 + args[at]
    at += 1
    rows: list[tuple[str, Said]] = []
    while at < stop:
        key, position, state = args[at : at + 3]
        at += 3
        if state == "d":
            rows.append((key, (position, None)))
            at += 1
            continue
        row: dict[str, Any] = {}
        for name, letter in zip(columns, state or "v" * count, strict=True):
            row[name] = args[at] if letter == "v" else None if letter == "n" else UNAVAILABLE
            at += letter == "v"
        rows.append((key, (position, row)))
    assert at == stop, "a section is as long as it says"
    return at, rows


def _number(key: str) -> int:
    return int(key.partition("{b")[2].partition("}")[0])


class Wire:
    """What stands in for `sinks.redis.wire.Wire`: one connection, several calls in flight, answered in their order."""

    def __init__(self, network: Network, redis: Redis) -> None:
        self._network, self._redis = network, redis
        self._life: int | None = None
        self._turn = 0
        self._free_at = 0.0
        self.opened = 0
        self.run_id = ""

    @property
    def is_open(self) -> bool:
        """Whether calls can be sent."""
        return self._life is not None

    async def open(self) -> None:
        if self.is_open:
            return
        await asyncio.sleep(self._network.delay())
        self._refuse_if_away()
        if not self.is_open:
            self._life = self._redis.life
            self.run_id = f"life {self._life}"
            self.opened += 1

    async def close(self) -> None:
        self._life = None
        self._turn += 1

    async def exchange(self, commands: Sequence[Sequence[Any]], *, opened: int | None = None) -> list[Any]:
        process = PROCESS.get()
        assert process is not None, "a connection belongs to a process"
        life, turn = self._life, self._turn
        if life is None or opened not in (None, self.opened):
            raise SinkUnavailable("the connection to Redis is lost")
        lost = self._network.loses(self._network.loop.world)
        self._free_at = max(self._free_at, self._network.clock() + self._network.delay())
        answers: asyncio.Future[list[Any]] = self._network.loop.create_future()
        self._network.task(self._carry(commands, life, lost, answers))
        try:
            found = await answers
        except BaseException:
            if self._turn == turn:
                await self.close()
            raise
        if self._turn != turn:
            raise SinkUnavailable("the connection to Redis is lost")
        return found

    async def _carry(
        self, commands: Sequence[Sequence[Any]], life: int, lost: str, answers: asyncio.Future[list[Any]]
    ) -> None:
        """Bring the commands there, also those of a worker that is frozen or dead by then."""
        await asyncio.sleep(self._free_at - self._network.clock())
        found = []
        if lost != "before" and self._redis.life == life and self._redis.up:
            for command in commands:
                found.append(self._redis.run(command))
                if len(commands) > 1 and self._network.random.random() < 0.1:
                    await asyncio.sleep(self._network.delay() / 3)
                if self._redis.life != life:
                    break
        self._free_at = max(self._free_at, self._network.clock())
        await asyncio.sleep(self._network.delay())
        if answers.done():
            return
        if lost or self._redis.life != life or len(found) != len(commands):
            answers.set_exception(SinkUnavailable("Redis does not answer"))
        else:
            answers.set_result(found)

    def _refuse_if_away(self) -> None:
        if self._network.over or not self._redis.up:
            raise SinkUnavailable("Redis does not answer")
