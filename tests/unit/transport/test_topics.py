"""Topics that are made together: all of them, in requests that a broker takes."""

from __future__ import annotations

from connectors.transport.topics import TopicSettings, in_requests

KAFKA_ENTRIES_MAX = 10_000  # org.apache.kafka.controller.QuorumController


def test_thousands_of_topics_are_made_in_few_requests() -> None:
    """A topic, its partitions and its settings are entries, of which one request may have so many."""
    wanted = {f"t{number}": TopicSettings(partitions=1 + number % 7) for number in range(3_000)}
    requests = list(in_requests(wanted))
    sizes = [sum(1 + each.partitions + len(each.config()) for each in some.values()) for some in requests]

    assert list(wanted) == [name for some in requests for name in some]
    assert max(sizes) <= KAFKA_ENTRIES_MAX
    assert len(requests) <= 2 * sum(sizes) // KAFKA_ENTRIES_MAX + 1


def test_a_topic_that_is_too_large_for_one_request_is_asked_for_alone() -> None:
    """The broker says what it makes of it; the others are made."""
    wanted = {"a": TopicSettings(partitions=1), "b": TopicSettings(partitions=20_000), "c": TopicSettings(partitions=1)}

    assert [["a"], ["b"], ["c"]] == [list(some) for some in in_requests(wanted)]
    assert [] == list(in_requests({}))
