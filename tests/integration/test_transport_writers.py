"""The writers beside the transport, compacted topics and the administration of topics, with a real Kafka."""

import asyncio
import re
import time
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.transport.chunk import Assignment, Run
from connectors.transport.lifeline import answers_anew
from connectors.transport.producer import Advance, Outbox, PlainWriter, plain_outbox
from connectors.transport.settings import ClientSettings, ProducerSettings
from connectors.transport.tail import CompactedReader, Entry
from connectors.transport.topics import TopicSettings
from connectors.transport.transaction import TransactionalWriter
from schemas.errors import ConfigurationError, RecordTooLarge, SourceUnavailable, TransactionAborted
from tests.integration.transport_processes import Bench
from tests.services import wait_until


async def test_a_transaction_to_an_unknown_topic_names_it(bench: Bench) -> None:
    """Nothing of it is written; the writer goes on without it."""
    out = bench.topic("out")
    writer = TransactionalWriter(
        ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot"), NoGroup()
    )
    run = fake_run()
    await writer.start()

    def bad(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        outbox.produce(f"{bench.group}-nowhere", 0, b"lost", b"x")
        return []

    def good(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"kept", b"x", [("table", b"t")])
        return []

    with pytest.raises(TransactionAborted) as caught:
        await writer.write([run], bad)
    assert f"{bench.group}-nowhere" == caught.value.topic
    report = await writer.write([run], good)
    await writer.close()

    assert (1, 1) == (report.partitions, report.records)
    assert [b"kept"] == list(bench.keys(out))


async def test_a_topic_that_was_made_anew_with_fewer_partitions_while_nothing_was_written_is_named(
    bench: Bench,
) -> None:
    """The client refuses by itself what is for the others, and nothing is reported of it."""
    out = bench.topic("out")
    settings = ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot", refused_seconds=3.0)
    writer = TransactionalWriter(settings, NoGroup())
    await writer.start()

    def work(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 3, b"k", b"x")
        return []

    async def named() -> str | None:
        try:
            await writer.write([fake_run()], work)
        except TransactionAborted as error:
            return error.topic
        return None

    await writer.write([fake_run()], work)
    bench.admin.delete([out])
    wait_until(lambda: not bench.admin.ids_now([out]), "it is gone")
    bench.admin.ensure(out, TopicSettings(partitions=1))
    await asyncio.sleep(5.0)  # its producer is to hear of it while nothing is written, which nobody can see
    found: list[str | None] = []
    async with asyncio.timeout(60):
        while not any(found):
            found.append(await named())
            await asyncio.sleep(0.2)
    await writer.close()

    assert out == found[-1]


async def test_what_the_work_raises_aborts_and_is_raised(bench: Bench) -> None:
    """A record that is too large is known before it is produced."""
    out = bench.topic("out")
    writer = TransactionalWriter(
        ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot", message_bytes_max=10_000),
        NoGroup(),
    )
    await writer.start()

    def work(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        outbox.produce(out, 0, b"large", b"x" * 9_950)
        return []

    with pytest.raises(RecordTooLarge, match="10000 are allowed"):
        await writer.write([fake_run()], work)
    await writer.close()

    assert [] == list(bench.keys(out))


async def test_the_plain_writer_writes_all_of_a_work_or_nothing(bench: Bench) -> None:
    """What fails half way leaves nothing behind, so that its repetition doubles nothing."""
    out = bench.topic("out")
    writer = PlainWriter(ProducerSettings(bootstrap=bench.bootstrap))
    await writer.start()

    def fails(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"lost", b"x")
        raise ValueError("half way")

    def works(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"one", b"x")
        outbox.produce(out, 3, b"two", None)
        return [Advance(live[0].assignment, live[0].next, "text")]

    with pytest.raises(ValueError, match="half way"):
        await writer.write([fake_run()], fails)
    report = await writer.write([fake_run()], works)
    await writer.close()

    assert (2, 2, "text") == (report.partitions, report.records, report.advances[0].metadata)
    assert {b"one": 1, b"two": 1} == dict(bench.keys(out))


async def test_the_second_of_two_writers_of_one_slot_fences_the_first(bench: Bench) -> None:
    """And ends what it left open."""
    out = bench.topic("out")
    settings = ProducerSettings(bootstrap=bench.bootstrap, transactional_id=f"{bench.group}-slot")
    first, second = TransactionalWriter(settings, NoGroup()), TransactionalWriter(settings, NoGroup())

    def work(outbox: Outbox, live: Any) -> list[Advance]:
        outbox.produce(out, 0, b"k", b"x")
        return []

    await first.start()
    await first.write([fake_run()], work)
    await second.start()
    with pytest.raises(Exception, match=r"fenced|Fenced") as caught:
        await first.write([fake_run()], work)
    await second.write([fake_run()], work)
    await asyncio.gather(first.close(), second.close())

    assert "TransportFatal" == type(caught.value).__name__
    assert {b"k": 2} == dict(bench.keys(out))


def test_a_compacted_topic_is_loaded_whole_and_followed(bench: Bench) -> None:
    """The last value of each key; a null takes it away; what comes later is told."""
    topic = f"{bench.group}-state"
    bench.admin.ensure(topic, TopicSettings(partitions=2, compacted=True))
    bench.topics.append(topic)
    client = ClientSettings(bootstrap=bench.bootstrap)
    with plain_outbox(client) as outbox:
        for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"1"), (b"b", None)):
            outbox.produce(topic, None, key, value)
    reader = CompactedReader(topic, client)
    loaded = reader.load()
    followed: list[Entry] = []
    reader.follow(followed.append)
    with plain_outbox(client) as outbox:
        outbox.produce(topic, None, b"d", b"1")
        outbox.produce(topic, None, b"a", None)
    ends = reader.ends()
    wait_until(lambda: reader.has_followed_to(ends), "all that was written by then is followed")
    reader.close()

    assert {b"a": b"2", b"c": b"1"} == loaded
    assert 7 == sum(ends.values())
    assert {(b"d", b"1"), (b"a", None)} == {(entry.key, entry.value) for entry in followed}


def test_a_topic_with_an_open_transaction_is_said_to_have_one(bench: Bench) -> None:
    """The broker says where committed records end; once it has ended all is read."""
    topic = f"{bench.group}-open"
    bench.admin.ensure(topic, TopicSettings(partitions=1, compacted=True))
    bench.topics.append(topic)
    client = ClientSettings(bootstrap=bench.bootstrap)
    with plain_outbox(client) as outbox:
        outbox.produce(topic, 0, b"a", b"1")
    producer = Producer({"bootstrap.servers": bench.bootstrap, "transactional.id": f"{bench.group}-open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"2", b"a")
    assert producer.flush(30) == 0
    reader = CompactedReader(topic, client)

    def told() -> bool:  # on a busy machine a second may pass before anything is read
        with pytest.raises(SourceUnavailable) as caught:
            reader.load(idle_seconds_max=1)
        return re.search(r"was read to 1 of 2, .* \(a transaction is open", str(caught.value)) is not None

    wait_until(told, "the open transaction is told of", deadline_seconds=30)
    producer.commit_transaction(30)

    assert {b"a": b"2"} == reader.load()
    reader.close()


def test_an_unknown_topic_can_not_be_loaded(bench: Bench) -> None:
    """It says what would create it."""
    reader = CompactedReader(f"{bench.group}-nothing", ClientSettings(bootstrap=bench.bootstrap))

    with pytest.raises(SourceUnavailable, match="no topic"):
        reader.load()
    reader.close()


def test_topics_are_made_as_said_and_enlarged(bench: Bench) -> None:
    """Retention and cleanup are always said; a second time changes nothing."""
    topic = f"{bench.group}-made"
    bench.topics.append(topic)
    settings = TopicSettings(partitions=2, retention_seconds=3_600, message_bytes_max=2_000_000)

    assert 2 == bench.admin.ensure(topic, settings)
    config = bench.admin.config(topic)
    assert ("delete", "3600000", "2000000") == tuple(
        config[name] for name in ("cleanup.policy", "retention.ms", "max.message.bytes")
    )
    assert 3 == bench.admin.ensure(topic, TopicSettings(partitions=3))
    assert 3 == bench.admin.ensure(topic, settings), "never made smaller"
    assert {topic} == set(bench.admin.ids_now([topic, f"{bench.group}-nothing"]))


def test_a_clock_that_is_a_day_ahead_is_no_reason_to_refuse_a_record(bench: Bench) -> None:
    """The broker's own clock is taken: else Kafka refuses such records for ever, and a stage would stand still."""
    topic = f"{bench.group}-ahead"
    bench.topics.append(topic)
    bench.admin.ensure(topic, TopicSettings(partitions=1))
    failures: list[Any] = []
    producer = Producer({"bootstrap.servers": bench.bootstrap, "on_delivery": lambda error, _: failures.append(error)})

    producer.produce(topic, b"value", partition=0, timestamp=int((time.time() + 86_400) * 1000))

    assert 0 == producer.flush(30)
    assert [None] == failures


def test_a_topic_that_can_not_be_is_a_mistake_of_configuration(bench: Bench) -> None:
    """More copies than there are brokers."""
    with pytest.raises(ConfigurationError, match="refuses"):
        bench.admin.ensure(f"{bench.group}-copies", TopicSettings(partitions=1, replication_factor=3))


class NoGroup:
    """A consumer without offsets to send."""

    def group_metadata_now(self, *, fresh: bool = False) -> Any:
        """Give nothing: no advance is sent."""
        return None


def fake_run() -> Run:
    """A run that is ours, for writers that need one."""
    return Run(Assignment("main", "t", 0), [_Record()])


class _Record:
    """A record of nothing."""

    def __len__(self) -> int:
        return 0

    def offset(self) -> int:
        """The first."""
        return 0

    def value(self) -> None:
        """None."""

    def key(self) -> None:
        """None."""

    def headers(self) -> None:
        """None."""

    def timestamp(self) -> tuple[int, int]:
        """None."""
        return (0, 0)


async def test_brokers_that_are_there_answer_a_new_client(bench: Bench) -> None:
    """Which is how a client that lost its own is known."""
    client = ClientSettings(bootstrap=bench.bootstrap)
    # Each waits 3 s, which a stalled machine may take.
    answers = [await asyncio.to_thread(answers_anew, client) for _ in range(3)]

    assert any(answers)
