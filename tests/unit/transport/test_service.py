"""The app that refuses what would be silent, routes, and the service on the embedded broker."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.transport.chunk import Group
from connectors.transport.routes import Routes
from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.settings import ClientSettings, ConsumerSettings, ProducerSettings
from connectors.transport.tail import CompactedReader
from connectors.transport.topics import TopicSettings, topic_admin
from schemas.errors import ConfigurationError

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture
def embedded() -> Iterator[ClientSettings]:
    """The demo's broker."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(owner.list_topics(timeout=5).brokers.values()))
    yield ClientSettings(bootstrap=f"{broker.host}:{broker.port}")
    del owner


@pytest.mark.parametrize(
    "use",
    [
        lambda app: app.topic("t"),
        lambda app: app.Table("t"),
        lambda app: app.GlobalTable("t"),
        lambda app: app.SetTable("t"),
        lambda app: app.LiveCheck(),
        lambda app: app.agent("topic")(lambda stream: stream),
        lambda app: app.agent()(lambda stream: stream),
    ],
)
def test_what_needs_faust_s_own_kafka_is_refused_with_what_to_do_instead(use: Callable[[StageApp], Any]) -> None:
    """Faust would take it and bring nothing."""
    with pytest.raises(ConfigurationError, match="switched off") as caught:
        use(StageApp("refusing"))
    assert caught.value.hint


async def test_sending_through_faust_is_refused() -> None:
    """Its producer is not started: the call would wait for ever."""
    with pytest.raises(ConfigurationError, match="switched off"):
        await StageApp("sending").send("t", value=b"x")


def test_a_name_goes_before_a_pattern() -> None:
    """And what a pattern matched is forgotten with it."""
    routes = Routes()
    routes.add("all", ["^clinic\\..*"])
    routes.add("one", ["clinic.patients"])

    assert ("one", "all", None) == tuple(map(routes.lane_of, ("clinic.patients", "clinic.results", "other.results")))
    assert ["^clinic\\..*", "clinic.patients"] == routes.subscription()
    routes.remove(["^clinic\\..*"])

    assert routes.lane_of("clinic.results") is None


def test_a_topic_has_one_lane() -> None:
    """Nothing of a refused call is taken."""
    routes = Routes()
    routes.add("one", ["a"])

    with pytest.raises(ConfigurationError, match="lane one"):
        routes.add("two", ["b", "a"])
    with pytest.raises(ConfigurationError, match="no pattern"):
        routes.add("two", ["^("])
    assert ["a"] == routes.subscription()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ConsumerSettings(bootstrap="b", group=""),
        lambda: ConsumerSettings(bootstrap="b", group="g", drain_seconds=0),
        lambda: ProducerSettings(bootstrap="b", message_timeout_seconds=30),
        lambda: ProducerSettings(bootstrap="b", queue_bytes_max=1_024, message_bytes_max=2_048),
    ],
)
def test_settings_that_would_lose_records_are_refused(wrong: Callable[[], object]) -> None:
    """With the setting's name."""
    with pytest.raises(ConfigurationError):
        wrong()


def test_kip_848_is_not_given_what_it_refuses() -> None:
    """Time-outs and the strategy are the broker's there."""
    classic = ConsumerSettings(bootstrap="b", group="g").librdkafka()
    kip_848 = ConsumerSettings(bootstrap="b", group="g", group_protocol="consumer").librdkafka()

    refused = {"session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"}
    assert refused == set(classic) - set(kip_848)


async def test_the_service_runs_on_the_embedded_broker(embedded: ClientSettings, tmp_path: Path) -> None:
    """Without ids and administration: read, done, committed, and read on by the next life."""
    admin = topic_admin(embedded, embedded=True)
    assert 4 == admin.ensure("events", TopicSettings(partitions=2))
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "compression.type": "lz4"})
    seen: list[int] = []

    async def step(group: Group) -> None:
        seen.append(len(group))
        group.done()

    async def live(expected: int) -> None:
        for number in range(400):
            producer.produce("events", b"x", partition=number % 4)
        producer.flush(10)
        app = StageApp("embedded", datadir=str(tmp_path))
        asked = ConsumerSettings(
            bootstrap=embedded.bootstrap,
            group="g",
            topic_ids=False,
            group_protocol="consumer",
            commit_interval_seconds=0.1,
        )
        service = ConsumerService(app, asked, topic_admin=admin)
        service.lane("main", ["events"], step)
        await app.start()
        ends_at = time.monotonic() + 50
        while sum(seen) < expected and time.monotonic() < ends_at:  # noqa: ASYNC110 - a test waits with a deadline
            await asyncio.sleep(0.02)
        await app.stop()
        assert service.failure is None

    await live(400)
    await live(800)

    assert 800 == sum(seen)
    committed = admin.committed_now("g", [("events", number) for number in range(4)])
    assert [200] * 4 == [each.offset for each in committed.values()]


def test_a_topic_of_the_embedded_broker_is_loaded_whole(embedded: ClientSettings) -> None:
    """As on a real one."""
    topic_admin(embedded, embedded=True).ensure("state", TopicSettings(partitions=1, compacted=True))
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "compression.type": "lz4"})
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3")):
        producer.produce("state", value, key)
    producer.flush(10)
    reader = CompactedReader("state", embedded, embedded=True)
    loaded = reader.load(idle_seconds_max=10)
    reader.close()

    assert {b"a": b"3", b"b": b"2"} == loaded
