"""A proxy in front of a real broker: clients that come through it meet its faults, the others do not."""

from __future__ import annotations

import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults import DOWN, UP, Direction, HalfOpen, Latency, Proxy, Reset, Slice, Toxic
from tests.oracles import read_records
from tests.services import Listener, Services, wait_until
from tests.services.waiting import free_port

DEADLINE_SECONDS = 60.0


def test_an_idempotent_writer_loses_and_doubles_nothing_behind_a_proxy(private_services: Services) -> None:
    """All its connections go through the proxy; faults stop it for a while, and each record is there once."""
    port = free_port()
    listener = Listener("PROXIED", "PLAINTEXT", advertised=f"127.0.0.1:{port}")
    with Proxy(listener.address, port=port, seed=3) as proxy:
        kafka = private_services.kafka(private=True, listeners=[listener])
        topic = f"proxied-{uuid.uuid4().hex[:8]}"
        direct = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
        direct.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
        writer = Producer({
            "bootstrap.servers": proxy.address, "enable.idempotence": True, "linger.ms": 1, "log_level": 0,
            "socket.timeout.ms": 1_000, "reconnect.backoff.max.ms": 100, "request.timeout.ms": 1_000,
        })  # fmt: skip
        sent = 0

        def send(count: int = 50) -> None:
            nonlocal sent
            for _ in range(count):
                writer.produce(topic, str(sent).encode(), partition=0)
                sent += 1
            writer.flush(0.2)

        send()
        wait_until(lambda: writer.flush(1) == 0, "the first records are there", deadline_seconds=DEADLINE_SECONDS)
        assert [proxy.address] == [f"{b.host}:{b.port}" for b in writer.list_topics(timeout=30).brokers.values()]
        faults: list[tuple[Toxic, tuple[Direction, ...]]] = [
            (Latency(0.05, 0.05), (UP, DOWN)), (Slice(), (UP, DOWN)), (Reset(), (DOWN,)), (Reset(), (UP,)),
            (HalfOpen(), (DOWN,)),
        ]  # fmt: skip
        for toxic, directions in faults:
            before = proxy.hits[type(toxic).__name__]
            with proxy.having(toxic, directions=directions):
                send()
                wait_until(lambda: proxy.hits[type(toxic).__name__] > before, f"{toxic} does something")  # noqa: B023  in this turn
                assert direct.list_topics(timeout=30).brokers, "who does not come through it notices nothing"
        wait_until(lambda: writer.flush(1) == 0, "all records are there", deadline_seconds=DEADLINE_SECONDS)

    assert [str(number).encode() for number in range(sent)] == [r.value for r in read_records(kafka.address, topic)]
