"""What stands in for confluent-kafka's Consumer and Producer, and for the administration: they speak to the model.

A call may take its time, and a request may be lost before or behind its effect. A worker that is cut off hears nothing
and goes on with what it has, as a real one does; one that was put out of its group learns it when it next polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.transport.resolve import Committed
from schemas.errors import SourceUnavailable
from tests.simulation.broker import Broker, Entry, Key, Member, Transaction
from tests.simulation.loop import PROCESS, Event, Killed, Process, block, pause
from tests.simulation.network import Network

_IDLE_SECONDS = 1.0  # an idle poll returns so often; the product asks for a tenth, which only costs steps
TOPIC_ID = "id-1"
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - confluent-kafka's public name of a local error


class Message:
    """A record as the consumer brings it."""

    __slots__ = ("_entry", "_key", "_offset")

    def __init__(self, key: Key, offset: int, entry: Entry) -> None:
        self._key, self._offset, self._entry = key, offset, entry

    def __len__(self) -> int:
        return len(self._entry.value or b"")

    def topic(self) -> str:
        return self._key[0]

    def partition(self) -> int:
        return self._key[1]

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._entry.key

    def value(self) -> bytes | None:
        return self._entry.value

    def headers(self) -> Any:
        return self._entry.headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._entry.at_ms

    def error(self) -> None:
        """It is none."""


class Place:
    """Where a consumer stands in one partition."""

    def __init__(self) -> None:
        self.at = 0
        self.paused = False


class Consumer:
    """One consumer of one process."""

    def __init__(self, settings: Mapping[str, Any], *, network: Network, broker: Broker, waking: Event) -> None:
        process = PROCESS.get()
        assert process is not None, "a consumer belongs to a process"
        self._process, self._network, self._broker = process, network, broker
        self._name: str = settings["group.id"]
        self._on_commit: Callable[..., None] = settings["on_commit"]
        self._group = broker.group(self._name)
        self._member: Member | None = None
        self._waking = waking
        self._topics: list[str] = []
        self._callbacks: dict[str, Any] = {}
        self._places: dict[Key, Place] = {}
        self._generation = 0
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self._arrives_at = 0.0  # requests of one connection arrive in their order
        self._lives = 0
        self._closed = False

    # -- membership --------------------------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self._topics, self._callbacks = topics, callbacks

    def unsubscribe(self) -> None:
        self._topics = []

    def consumer_group_metadata(self) -> tuple[str, str, int]:
        return self._name, self._member.name if self._member is not None else "", self._generation

    def close(self) -> None:
        self._check()
        if self._member is not None and not self._process.cut:
            pause(self._network.delay())
            self._group.leave(self._member.name)
        self._closed = True

    def _all(self) -> list[Key]:
        return self._broker.partitions_of(self._topics)

    def _check(self) -> None:
        if self._network.over or not self._process.alive:
            raise Killed

    def _attend(self) -> None:
        """Do what membership asks for, as within `poll`."""
        member, group = self._member, self._group
        if self._process.cut:
            return
        if member is not None and group.members.get(member.name) is not member:  # put out
            self._take_away("on_lost")
            self._member = member = None
        if member is None:
            pause(self._network.delay())
            self._lives += 1
            self._member = Member(f"{self._process.name}/{self._lives}", self._process, self._network.clock())
            group.join(self._member, self._all())
        elif group.rebalancing and not member.joined:
            self._take_away("on_revoke")
            if group.members.get(member.name) is member:
                group.join(member, self._all())
        if self._member is not None and not group.rebalancing and self._member.told != group.generation:
            self._member.told = self._generation = group.generation
            given = list(self._member.assigned)
            self._callbacks["on_assign"](self, [TopicPartition(*key) for key in given])

    def _take_away(self, how: str) -> None:
        taken = [TopicPartition(*key) for key in self._places]
        if taken:
            self._callbacks[how](self, taken)
        self._places.clear()

    # -- records -----------------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> Message | None:
        self._check()
        self._tell_commits()
        self._attend()
        found = self._fetch(1)
        if not found:
            block(self._wait(timeout))
            self._check()
            self._tell_commits()
            self._attend()
            found = self._fetch(1)
        return found[0] if found else None

    async def _wait(self, timeout: float) -> None:  # noqa: ASYNC109 - librdkafka's argument
        seconds = max(timeout, self._network.random.uniform(0.5, 1.0) * _IDLE_SECONDS)
        event = self._waking
        self._network.watch(event)
        await event.wait_until_set(seconds)
        self._network.unwatch(event)
        await asyncio.sleep(self._network.delay() / 10)

    def consume(self, count: int, linger: float) -> list[Message]:
        self._check()
        if linger or self._network.random.random() < 0.3:
            pause(self._network.delay() / 5)
            self._attend()
        return self._fetch(self._network.random.randint(1, count))

    def _fetch(self, most: int) -> list[Message]:
        if self._process.cut:
            return []
        found: list[Message] = []
        for key, place in self._places.items():
            if place.paused or len(found) >= most:
                continue
            records, place.at = self._broker.read(key, place.at, most - len(found))
            found += [Message(key, offset, entry) for offset, entry in records]
        return found

    # -- what the owning thread asks ---------------------------------------------------------------------------------

    def assign(self, places: list[TopicPartition]) -> None:
        self._places = {(each.topic, each.partition): Place() for each in places}

    def pause(self, places: list[TopicPartition]) -> None:
        for each in places:
            self._places[each.topic, each.partition].paused = True

    def resume(self, places: list[TopicPartition]) -> None:
        for each in places:
            self._places[each.topic, each.partition].paused = False

    def seek(self, place: TopicPartition) -> None:
        self._check()
        if self._network.random.random() < self._network.trouble / 2:
            raise KafkaException(KafkaError(KafkaError._STATE, "not fetching yet"))  # noqa: SLF001 - the same
        if place.offset >= 0:
            self._places[place.topic, place.partition].at = place.offset

    def get_watermark_offsets(self, place: TopicPartition, timeout: float = 0, *, cached: bool = False) -> Any:
        return 0, self._broker.stable_end((place.topic, place.partition))

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self._check()
        request = self._send(offsets, self.consumer_group_metadata())
        if asynchronous:
            self._network.task(self._told_later(request, offsets))
            return offsets
        error = block(request)
        self._check()
        if error is not None:
            raise KafkaException(error)
        return offsets

    async def _told_later(self, request: Any, offsets: list[TopicPartition]) -> None:
        self._answers.append((await request, offsets))

    def _tell_commits(self) -> None:
        answers, self._answers = self._answers, []
        for error, offsets in answers:
            self._on_commit(error, offsets)

    async def _send(self, offsets: list[TopicPartition], who: tuple[str, str, int]) -> KafkaError | None:
        network = self._network
        self._arrives_at = max(self._arrives_at, network.clock() + network.delay())
        lost = network.loses(self._process)
        await asyncio.sleep(self._arrives_at - network.clock())
        if lost == "before":
            return KafkaError(TIMED_OUT, "the request was lost")
        if not self._group.accepts(who[1], who[2]):
            return KafkaError(KafkaError.ILLEGAL_GENERATION, "not of this generation")
        for each in offsets:
            self._broker.store(self._name, (each.topic, each.partition), each.offset, each.metadata or "")
        await asyncio.sleep(network.delay())
        return KafkaError(TIMED_OUT, "the answer was lost") if lost == "behind" else None


class Producer:
    """One transactional producer of one process."""

    def __init__(self, settings: Mapping[str, Any], *, network: Network, broker: Broker) -> None:
        process = PROCESS.get()
        assert process is not None, "a producer belongs to a process"
        self._process, self._network, self._broker = process, network, broker
        self._id: str = settings["transactional.id"]
        self._epoch = -1
        self._transaction: Transaction | None = None

    def init_transactions(self, timeout: float) -> None:
        def effect() -> None:
            self._epoch = self._broker.init(self._id)

        self._request(effect)
        while self._id in self._broker.open:
            pause(0.02)

    def begin_transaction(self) -> None:
        self._check()
        assert self._transaction is None, "one transaction after the other"
        while (before := self._broker.open.get(self._id)) is not None and before.state != "open":
            pause(0.01)  # CONCURRENT_TRANSACTIONS, asked again
        self._fence()
        self._transaction = Transaction(self._id, self._network.clock())
        self._broker.open[self._id] = self._transaction

    def produce(self, topic: str, value: bytes, key: bytes | None, partition: int, *rest: Any) -> None:
        transaction = self._transaction
        assert transaction is not None, "a record is of a transaction"
        if self._network.random.random() < 0.2:
            pause(self._network.delay() / 5)
        self._check()
        if self._is_old(transaction):
            return  # refused: the commit says so
        at = max(partition, 0)
        headers = rest[-1] if rest else []
        now_ms = int(self._network.clock() * 1000)
        self._broker.append((topic, at), Entry(key, value, headers, now_ms, transaction))

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], metadata: Any, timeout: float) -> None:
        transaction = self._transaction
        assert transaction is not None, "offsets are of a transaction"
        name, member, generation = metadata

        self._fail_now_and_then()

        def effect() -> None:
            self._fence(transaction)
            if not self._broker.group(name).accepts(member, generation):
                raise _abortable(KafkaError.ILLEGAL_GENERATION)
            for each in offsets:
                self._broker.promise(transaction, name, (each.topic, each.partition), each.offset, each.metadata or "")

        self._request(effect)

    def commit_transaction(self, timeout: float) -> None:
        self._fail_now_and_then()
        self._end("committed")

    def abort_transaction(self, timeout: float) -> None:
        self._end("aborted")

    def poll(self, timeout: float) -> int:
        return 0

    def _fail_now_and_then(self) -> None:
        """Fail as where a record could not be delivered: the transaction can only be aborted."""
        transaction = self._transaction
        undecided = transaction is not None and transaction.state == "open"
        if undecided and self._network.random.random() < self._network.trouble / 4:
            raise _abortable(KafkaError._MSG_TIMED_OUT)  # noqa: SLF001 - the same

    def _end(self, outcome: str) -> None:
        transaction = self._transaction
        assert transaction is not None, "a transaction is open"

        def effect() -> None:
            if transaction.state == outcome and self._epoch == self._broker.epochs[self._id]:
                return  # asked again: it has come through
            self._fence(transaction)
            self._broker.decide(transaction, outcome)

        self._request(effect)
        self._transaction = None

    def _is_old(self, transaction: Transaction | None) -> bool:
        if self._epoch != self._broker.epochs[self._id]:
            return True
        return transaction is not None and transaction.state != "open"

    def _fence(self, transaction: Transaction | None = None) -> None:
        if self._is_old(transaction):
            raise KafkaException(KafkaError(KafkaError._FENCED, "fenced", fatal=True))  # noqa: SLF001 - the same

    def _check(self) -> None:
        if self._network.over or not self._process.alive:
            raise Killed

    def _request(self, effect: Callable[[], None]) -> None:
        """Send a request; it may be lost, or its answer, and then it can be sent again."""
        self._check()
        lost = self._network.loses(self._process)
        pause(self._network.delay())
        self._check()
        if lost != "before":
            effect()
            pause(self._network.delay())
        self._check()
        if lost:
            raise KafkaException(KafkaError(TIMED_OUT, "no answer", retriable=True))


def _abortable(code: int) -> KafkaException:
    return KafkaException(KafkaError(code, "refused", txn_requires_abort=True))


class Lookups:
    """What the resolver asks of topics and groups."""

    def __init__(self, process: Process, network: Network, broker: Broker) -> None:
        self._process, self._network, self._broker = process, network, broker

    async def committed(self, group: str, keys: Iterable[Key]) -> Mapping[Key, Committed]:
        await self._ask()
        return {key: Committed(*said) for key, said in self._broker.committed(group, keys).items()}

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        await self._ask()
        return dict.fromkeys(topics, TOPIC_ID)

    async def watermarks(self, keys: Iterable[Key]) -> Mapping[Key, tuple[int, int]]:
        await self._ask()
        return {key: (0, len(self._broker.logs[key])) for key in keys}

    async def _ask(self) -> None:
        await asyncio.sleep(self._network.delay())
        if self._network.over or self._network.loses(self._process):
            raise SourceUnavailable("no answer")
