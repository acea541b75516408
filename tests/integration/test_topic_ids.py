"""Topics' ids are asked for every two seconds, for as long as a worker lives: nothing may stay of the answers."""

from __future__ import annotations

import gc
import uuid

from confluent_kafka import cimpl

from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from tests.services import Kafka

TOPICS = 8
TIMES = 20


def test_of_many_answers_no_more_stays_than_of_one(kafka: Kafka) -> None:
    """Of each topic's id there is one object, which the client keeps. It kept one of each answer."""
    admin = TopicAdmin(ClientSettings(bootstrap=kafka.address))
    names = [f"ids-{uuid.uuid4().hex}-{number}" for number in range(TOPICS)]
    admin.ensure_all(dict.fromkeys(names, TopicSettings(partitions=1)))
    answers = [admin.ids_now(names) for _ in range(TIMES)]
    ids = answers[0]

    assert TOPICS == len(set(ids.values()) - {""})
    assert [ids] * TIMES == answers
    kept = [str(each) for each in gc.get_objects() if type(each) is cimpl.Uuid]
    assert sorted(ids.values()) == sorted(each for each in kept if each in set(ids.values()))
