"""Which topics are looked at, and what is said of those that propose nothing."""

from __future__ import annotations

import pytest

from connectors.transport.sampling import TopicSampled
from schemas.errors import ConfigurationError
from streams.proposing import Inferred, choose, may_define

THERE = ["__consumer_offsets", "clinic", "clinic.public.a", "clinic.public.b", "headgate.changes.a", "shop.orders"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["clinic.public.b", "clinic.public.a"], ["clinic.public.a", "clinic.public.b"]),
        (["^clinic[.]"], ["clinic.public.a", "clinic.public.b"]),
        (["^clinic"], ["clinic", "clinic.public.a", "clinic.public.b"]),
        (["^.*orders$", "shop.orders"], ["shop.orders"]),
        (["^"], ["clinic", "clinic.public.a", "clinic.public.b", "shop.orders"]),
    ],
)
def test_topics_are_chosen_by_name_and_by_pattern(wanted: list[str], expected: list[str]) -> None:
    """A pattern passes over those of ours and of the broker."""
    assert expected == choose(wanted, THERE, "headgate").topics


def test_those_that_were_named_are_known() -> None:
    """Of them something must come."""
    assert {"shop.orders"} == choose(["^clinic", "shop.orders"], THERE, "headgate").named


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("clinic.public.c", "did you mean clinic.public"),
        ("clinic.*", "a regular expression begins with"),
        ("^nothing", "no topic matches"),
        ("^(", "is no regular expression"),
        ("headgate.changes.a", "is one of our own topics"),
        ("__consumer_offsets", "is one of our own topics"),
    ],
)
def test_what_is_no_topic_of_a_source_is_refused(wanted: str, said: str) -> None:
    """With what would be right."""
    with pytest.raises(ConfigurationError) as raised:
        choose([wanted], THERE, "headgate")

    assert said in str(raised.value)


def test_a_topic_that_others_begin_with_may_say_what_they_are() -> None:
    """As Debezium's connectors call their schema-change topic."""
    assert ["clinic"] == may_define(["clinic.public.a", "shop.orders"], THERE)
    assert [] == may_define(["clinic"], THERE)


def test_a_topic_without_a_proposal_says_why() -> None:
    """What somebody has to do is another thing each time."""
    sampled = {
        "empty": TopicSampled("empty", 1, is_complete=True),
        "late": TopicSampled("late", 1, held=5),
        "open": TopicSampled("open", 1, held=5, is_complete=True),
        "beats": TopicSampled("beats", 1, held=5, records=5, is_complete=True),
        "avro": TopicSampled("avro", 1, held=5, records=5, is_complete=True),
        "ddl": TopicSampled("ddl", 1, held=5, records=5, is_complete=True),
    }
    formats = {"beats": None, "avro": "debezium-avro"}
    found = Inferred([], sampled, formats, frozenset({"dms"}), defining={"ddl"})

    assert {
        "empty": "empty",
        "late": "not read in time",
        "open": "no record that is committed",
        "beats": "no change of a row",
        "avro": "debezium-avro: no spec can be proposed without its schemas",
        "ddl": "says what tables are",
    } == {topic: found.state(topic) for topic in sampled}
