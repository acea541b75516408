"""Destinations that come and go, and dead letters sent again, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from connectors.transport.answers import Administrator
from connectors.transport.groups import delete_group
from connectors.transport.producer import plain_outbox
from connectors.transport.small_writes import SmallTransactions
from headgate.cli import main as entry
from headgate.cli.check import checks, try_one
from headgate.cli.codes import ExitCode
from headgate.installation import look, removed_destinations
from schemas.config import Config
from schemas.errors import SourceUnavailable, TableStopped
from schemas.topics import TopicNames
from streams.destinations import forget, left_over, prepare
from streams.redrive import BATCH_LETTERS, Wanted, dead_letters, redrive
from streams.registration import ensure_own_topics, open_admin, own_topics
from streams.retry import DeadLetter, Waiting, read_waiting
from streams.settings import client_settings, consumer_settings, group_of, producer_settings
from tests.oracles.clients import independent_consumer
from tests.services import Kafka, wait_until
from tests.unit.notify.receiver import SECRET, alert

ALERTS = 12
DIED = 1_795_203_957_000

Make = Callable[..., Config]


@pytest.fixture
def configured(kafka: Kafka, tmp_path: Path) -> Make:
    """Makes configurations of one installation of this test's own, with these destinations."""
    prefix = f"to-{uuid.uuid4().hex[:8]}"

    def make(*names: str, **settings: Any) -> Config:
        to = {"url": "http://127.0.0.1:9/", "secret": SECRET, "allow_private_addresses": True, **settings}
        config = Config.model_validate(
            {
                "kafka": {"bootstrap": kafka.address, "topic_prefix": prefix, "group_prefix": prefix},
                "notify": dict.fromkeys(names, to),
                "web": {"state_folder": str(tmp_path)},
            }
        )
        ensure_own_topics(config, own_topics(config))
        wait_until(lambda: knows_groups(config), "the broker to know its groups")
        return config

    return make


def knows_groups(config: Config) -> bool:
    """Tell whether the broker has made what it keeps groups in, which it does when first asked."""
    names = TopicNames(config.kafka.topic_prefix)
    try:
        return bool(open_admin(config).committed_now(group_of(config, "first"), [(names.alerts, 0)]))
    except SourceUnavailable:
        return False


def raise_alerts(config: Config, numbers: range) -> None:
    """Write alerts."""
    with plain_outbox(client_settings(config)) as outbox:
        for number in numbers:
            of = alert(number)
            outbox.produce(TopicNames(config.kafka.topic_prefix).alerts, number % 4, b"k", msgspec.json.encode(of))


def begins_at(config: Config, destination: str) -> list[int | None]:
    """Return what the destination's group has committed for the partitions of the alerts, by a client of its own."""
    group = group_of(config, f"notify-{destination}")
    consumer = Consumer({"bootstrap.servers": config.kafka.bootstrap, "group.id": group})
    topic = TopicNames(config.kafka.topic_prefix).alerts
    said = consumer.committed([TopicPartition(topic, number) for number in range(4)], timeout=20)
    consumer.close()
    return [each.offset if each.offset >= 0 else None for each in said]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_new_destination_begins_at_the_alerts_of_its_first_start(configured: Make, protocol: str) -> None:
    """And stays there, whatever comes before it has committed anything; by either protocol of groups."""
    config = configured("ward")
    raise_alerts(config, range(ALERTS))

    prepare(config, "ward")
    first = begins_at(config, "ward")
    raise_alerts(config, range(ALERTS, 2 * ALERTS))
    prepare(config, "ward")

    assert [ALERTS // 4] * 4 == first == begins_at(config, "ward")
    assert {(number, offset) for number in range(4) for offset in range(ALERTS // 4, ALERTS // 2)} == read_as(
        config, "ward", protocol, ALERTS
    )


def read_as(config: Config, destination: str, protocol: str, count: int) -> set[tuple[int, int]]:
    """Return partition and offset of the first records that a member of a destination's group is handed."""
    settings = consumer_settings(config, f"notify-{destination}", "first").librdkafka()
    if protocol == "consumer":
        for refused in ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"):
            del settings[refused]
    consumer = Consumer({**settings, "group.protocol": protocol})
    consumer.subscribe([TopicNames(config.kafka.topic_prefix).alerts])
    found: set[tuple[int, int]] = set()
    while len(found) < count:
        message = consumer.poll(20)
        assert message is not None, "its records come within 20 s"
        assert message.error() is None, message.error()
        found.add((message.partition() or 0, message.offset() or 0))
    consumer.close()
    return found


def test_a_new_destination_may_ask_for_the_earliest_alerts(configured: Make) -> None:
    """Those that the topic still holds."""
    config = configured("ward", start="earliest")
    raise_alerts(config, range(ALERTS))

    prepare(config, "ward")

    assert [0] * 4 == begins_at(config, "ward")


def test_a_destination_whose_offsets_were_forgotten_is_not_new(configured: Make) -> None:
    """It was away too long for the broker: none of its alerts is passed over, so nothing is committed."""
    config = configured("ward")
    prepare(config, "ward")
    raise_alerts(config, range(ALERTS))
    delete_group(Administrator(client_settings(config)), group_of(config, "notify-ward"))

    prepare(config, "ward")

    assert [None] * 4 == begins_at(config, "ward")


def test_where_a_group_with_members_begins_is_not_said_from_outside(configured: Make) -> None:
    """Another worker was quicker: it is asked again what that one has committed."""
    config = configured("ward")
    names, group = TopicNames(config.kafka.topic_prefix), group_of(config, "notify-ward")
    member = Consumer({"bootstrap.servers": config.kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    member.subscribe([names.alerts])
    while not member.assignment():
        member.poll(0.1)
    try:
        with pytest.raises(SourceUnavailable, match="has just begun"):
            prepare(config, "ward")
    finally:
        member.close()


def test_what_a_removed_destination_leaves_is_named_and_cleared(
    configured: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `status`, and by `check` as long as alerts wait; one that is configured, or runs elsewhere, is let be."""
    both = configured("pager", "ward")
    for name in both.notify:
        prepare(both, name)
    names = TopicNames(both.kafka.topic_prefix)
    with plain_outbox(client_settings(both)) as outbox:
        for number in range(3):
            waits = Waiting("ward", DIED, 1, DIED, "status_503", alert(number))
            outbox.produce(names.alerts_retry("ward", 30), None, b"k", waits.encoded())
    one = configured("pager")

    assert [] == left_over(both)
    assert [("ward", 6, True, 0, 3)] == [
        (each.destination, len(each.topics), each.has_group, each.members, each.waiting) for each in left_over(one)
    ]
    checked = try_one(*next((what, look) for what, look in checks(one) if what == "destinations"))
    assert (False, "not in `notify`, with alerts that wait: ward (3 alerts wait)") == (checked.ok, checked.seen)
    assert [("ward", 3)] == [(each.destination, each.waiting) for each in asyncio.run(look(one)).left_over]
    with pytest.raises(TableStopped, match="is a destination of this configuration"):
        forget(both, "ward")

    clear = ["alerts", "forget", "ward", "--config", written(one, tmp_path)]
    assert entry.run([*clear, "--dry-run"]) == ExitCode.OK
    assert "6 topics with 3 alerts that wait, and its group would be removed" in capsys.readouterr().err
    assert ["ward"] == [each.destination for each in left_over(one)]
    assert entry.run([*clear, "--json"]) == ExitCode.OK

    assert 3 == json.loads(capsys.readouterr().out)["waiting"]
    wait_until(lambda: not left_over(one), "its topics are gone")  # a broker deletes them when it has said yes
    assert [] == left_over(one) == removed_destinations(one)
    assert try_one(*next((what, look) for what, look in checks(one) if what == "destinations")).ok
    with pytest.raises(TableStopped, match="nothing is left"):
        forget(one, "ward")


def written(config: Config, folder: Path) -> str:
    """Return a file with this configuration."""
    document = config.model_dump(mode="json", exclude_none=True, include={"kafka", "notify", "web"})
    for destination in document["notify"].values():
        destination["secret"] = SECRET
    file = folder / "headgate.yaml"
    file.write_text(yaml.safe_dump(document))
    return str(file)


def bury(config: Config, numbers: range, *, destination: str = "ward", rule: str = "big") -> None:
    """Write dead letters, each a second later than the one before."""
    names = TopicNames(config.kafka.topic_prefix)
    with plain_outbox(client_settings(config)) as outbox:
        for number in numbers:
            of = msgspec.structs.replace(alert(number), rule=rule)
            letter = DeadLetter(destination, "status_400", 1, DIED, DIED + 1000 * number, of, 400)
            outbox.produce(names.alerts_dead, None, b"%d" % number, letter.encoded())


def redriven(config: Config) -> list[Waiting]:
    """Return what is on `headgate.notify.redrive`, read by a client that is not ours."""
    topic = TopicNames(config.kafka.topic_prefix).alerts_redrive
    return [read_waiting(value) for value in independent_values(config, topic)]


def independent_values(config: Config, topic: str) -> list[bytes]:
    """Return the committed values of a topic of one partition."""
    from kafka import TopicPartition as KafkaPartition  # noqa: PLC0415  two libraries have one of that name

    partition = KafkaPartition(topic, 0)
    values: list[bytes] = []
    with independent_consumer(config.kafka.bootstrap) as consumer:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        consumer.seek_to_beginning(partition)
        while consumer.position(partition) < end:
            values += [each.value for batch in consumer.poll(500).values() for each in batch]
    return values


def test_dead_letters_are_sent_again_once_and_under_their_ids(
    configured: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are meant, and never one a second time; what has no destination stays."""
    config = configured("ward")
    bury(config, range(BATCH_LETTERS + 5))
    bury(config, range(1_000, 1_003), rule="other")
    bury(config, range(2_000, 2_002), destination="gone")
    file = written(config, tmp_path)

    def verb(*words: str) -> Any:
        assert entry.run(["alerts", "dead", *words, "--config", file, "--json"]) == ExitCode.OK
        return json.loads(capsys.readouterr().out)

    planned = verb("redrive", "--rule", "other", "--dry-run")
    assert (3, []) == (planned["total"], redriven(config))
    assert 3 == verb("redrive", "--rule", "other")["total"]
    assert 2 == verb("redrive", "--destination", "ward", "--since", "2026-11-20T19:49:20Z", "--rule", "big")["total"]
    done, again = verb("redrive"), verb("redrive")
    listed = verb("list", "--latest", "1")

    everything = BATCH_LETTERS + 5 + 3
    assert (everything - 5, {"sent_before": 5, "no_destination": 2}) == (done["total"], done["passed_over"])
    assert (0, {"sent_before": everything, "no_destination": 2}) == (again["total"], again["passed_over"])
    sent = redriven(config)
    expected = [alert(number).id for number in [*range(BATCH_LETTERS + 5), *range(1_000, 1_003)]]
    assert sorted(expected) == sorted(each.alert.id for each in sent)
    assert {("ward", 0)} == {(each.destination, each.attempts) for each in sent}
    assert everything == sum(row["redriven"] for row in listed["counts"])
    assert (everything + 2, 400) == (listed["total"], listed["latest"][0]["status"])
    assert "values" not in json.dumps(listed)
    assert entry.run(["alerts", "dead", "list", "--rule", "other", "--config", file]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert [3, 3] == [shown.count("status_400") - 1, shown.count("2026-11-20T20:0")]
    assert entry.run(["alerts", "dead", "redrive", "--destination", "wrad", "--config", file]) == ExitCode.CONFIGURATION
    assert "error: wrad is no destination of this configuration\nhint: one of ward" in capsys.readouterr().err


def test_who_sends_dead_letters_again_is_alone_in_it(configured: Make) -> None:
    """Whoever did so before and did not come to an end has written nothing, and writes nothing more."""
    config = configured("ward")
    prepare(config, "ward")
    bury(config, range(3))
    topic = TopicNames(config.kafka.topic_prefix).alerts_redrive
    slow = SmallTransactions(producer_settings(config, "redrive", transactional=True))

    def overtaken() -> None:
        with slow.transaction() as outbox:
            outbox.produce(topic, None, b"k", Waiting("ward", DIED, 0, DIED, "x", alert(0)).encoded())
            assert 3 == redrive(config, Wanted()).sent.total()

    with pytest.raises(SourceUnavailable, match="not written"):
        overtaken()

    assert 3 == len(redriven(config))
    assert [True] * 3 == [each.redriven for each in dead_letters(config, Wanted())]


def test_without_transactions_dead_letters_are_sent_again_once_as_well(configured: Make) -> None:
    """By one who does so at a time."""
    config = configured("ward")
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"guarantee": "at_least_once"})})
    bury(config, range(3))

    assert [3, 0] == [redrive(config, Wanted()).sent.total() for _ in range(2)]
    assert 3 == len(redriven(config))
