"""What the transport does again and again with thousands of partitions, a part of them at a time."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ConsumerSettings
from tests.unit.transport.fakes import Client

COUNT = 1_201


def _heard(partitions: Partitions) -> int:
    return sum(each.end is not None for each in partitions.all())


def test_the_ends_of_many_logs_are_heard_in_turn_and_all_of_them() -> None:
    """Then again from the beginning; those that came meanwhile are among them."""
    routes = Routes()
    routes.add("main", ["t", "u"])
    partitions, fake = Partitions(routes, incremental=True), Client()
    partitions.add_lane("main", 1 << 20, commits=True)
    client: Any = fake
    fake.incremental_assign = fake.assign  # type: ignore[attr-defined]
    fake.log = (0, 7)
    partitions.assign(client, [("t", number) for number in range(COUNT)])

    heard = []
    for number in range(6):
        partitions.hear_ends(client)
        heard.append(_heard(partitions))
        if not number:
            partitions.assign(client, [("u", 0)])

    assert [500, 1_000, COUNT, COUNT, COUNT, COUNT + 1] == heard


@pytest.mark.parametrize(("topics", "milliseconds"), [(0, 100), (300, 100), (3_000, 1_000), (100_000, 1_000)])
def test_a_broker_with_nothing_to_read_answers_consumers_of_many_topics_less_often(
    topics: int, milliseconds: int
) -> None:
    """Each answer costs by the square of their number; what is there to read is answered at once."""
    assert milliseconds == ConsumerSettings(bootstrap="b", group="g").librdkafka(topics)["fetch.wait.max.ms"]
