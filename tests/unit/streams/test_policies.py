"""What the settings of a topic of ours lose, whoever made it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from connectors.transport.topics import TopicAdmin, TopicSettings
from schemas.config import Config
from schemas.output import latest_view_name
from schemas.table import TableEntry, TableSpec
from schemas.topics import RETRY_DELAYS_SECONDS, TopicNames
from streams import policies
from streams.policies import differences, every_topic, look_at_topics, mended
from streams.registration import STAGES_WITH_A_BOOK, own_topic, own_topics
from tests.unit.notify.receiver import SECRET

NAMES = TopicNames()
CHANGES = NAMES.changes("patients")
LATEST = NAMES.latest("patients")
DAY_MS = 86_400_000

CONFIG = Config.model_validate({"notify": {"ward": {"url": "https://ward.example/hook", "secret": SECRET}}})
SPEC = TableSpec.model_validate(
    {
        "table": "patients",
        "topics": ["clinic.public.patients"],
        "key": ["id"],
        "columns": {"id": "long", "name": "string"},
        "features": [
            {"view": "patient", "entity": "patient", "columns": ["name"], "emit": True},
            {"view": "silent", "entity": "patient", "columns": ["name"]},
        ],
        "output": {"latest": True},
    }
)
# What must be compacted, and of whatever else nothing may be: of each name that docs/topics.md has.
COMPACTED = [
    NAMES.tables,
    NAMES.status,
    NAMES.normalize_state,
    NAMES.stage_state("alerts"),
    NAMES.normalize_previous,
    NAMES.alerts_state("patient"),
    LATEST,
]
PLAIN = [
    CHANGES,
    NAMES.features("patient"),
    NAMES.parked("patients"),
    NAMES.relay,
    NAMES.quarantine,
    NAMES.quarantine_settled,
    NAMES.redrive,
    NAMES.alerts,
    NAMES.alerts_redrive,
    NAMES.alerts_dead,
    *(NAMES.alerts_retry("ward", seconds) for seconds in RETRY_DELAYS_SECONDS),
]


class Broker(TopicAdmin):
    """A broker on which all topics of ours are as we make them, but for the cleanup of one."""

    def __init__(self, topic: str, policy: str) -> None:
        self.topic, self.policy = topic, policy

    def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return what it has of those of `topics` that it knows: that one, and the tables."""
        there = {NAMES.tables, self.topic}.intersection(topics)
        found = {topic: {"retention.bytes": "-1", **own_topic(CONFIG, topic).config()} for topic in there}
        if self.topic in found:
            found[self.topic]["cleanup.policy"] = self.policy
        return found


def lost(topic: str, **changes: str) -> list[str]:
    """Return the settings of a topic as we make it, but for `changes`, by which something is lost."""
    wanted, changed = own_topic(Config(), topic), {name.replace("_", "."): value for name, value in changes.items()}
    return sorted(differences(wanted, {"retention.bytes": "-1", **wanted.config(), **changed}))


WRITTEN_ALWAYS = [
    NAMES.status,
    NAMES.normalize_previous,
    *map(NAMES.stage_state, STAGES_WITH_A_BOOK),
    NAMES.alerts_state("latest"),
]


@pytest.mark.parametrize("topic", WRITTEN_ALWAYS)
def test_what_is_written_all_the_time_and_read_whole_is_compacted_soon(topic: str) -> None:
    """The newest segment is never compacted: with the broker's own, a gigabyte or a week of it would be read."""
    settings = own_topic(Config(), topic).config()

    assert "compact" in settings["cleanup.policy"]
    assert int(settings["segment.bytes"]) <= 4 * 1024 * 1024
    assert int(settings["segment.ms"]) <= 600_000
    assert float(settings["min.cleanable.dirty.ratio"]) <= 0.1


@pytest.mark.parametrize(
    ("settled", "of"), [(NAMES.alerts_redrive, NAMES.alerts_dead), (NAMES.quarantine_settled, NAMES.quarantine)]
)
def test_what_says_that_a_record_was_sent_again_outlives_the_record(settled: str, of: str) -> None:
    """By weeks: a record is there until the newest of its segment is too old, a week by the broker's default."""
    for hours in (1, 720):
        config = Config.model_validate({"kafka": {"quarantine_retention_hours": hours}})
        kept, longer = (int(own_topic(config, topic).config()["retention.ms"]) for topic in (of, settled))

        assert longer - kept >= 14 * DAY_MS


@pytest.mark.parametrize(
    ("topic", "policy", "said"),
    [
        *((topic, "delete", "it is not compacted") for topic in COMPACTED),
        *((topic, "compact", "it is compacted") for topic in PLAIN),
    ],
)
def test_every_topic_of_ours_is_looked_at(monkeypatch: pytest.MonkeyPatch, topic: str, policy: str, said: str) -> None:
    """One whose cleanup loses something is named, whichever it is."""
    monkeypatch.setattr(policies, "open_admin", lambda _: Broker(topic, policy))

    count, differing = look_at_topics(CONFIG, {"patients": TableEntry(spec=SPEC)})

    assert len({NAMES.tables, topic}) == count
    assert [topic] == list(differing)
    assert differing[topic]["cleanup.policy"].startswith(said)


def test_no_other_topic_is_looked_at() -> None:
    """A view without updates has no topic, and a broker is asked for no name twice."""
    topics = every_topic(CONFIG, {"patients": TableEntry(spec=SPEC)})

    of_latest_rows = latest_view_name("patients")
    others = {NAMES.features(of_latest_rows), NAMES.alerts_state(of_latest_rows)}
    assert sorted([*COMPACTED, *PLAIN]) == sorted(set(topics) - others)
    assert len(topics) == len(set(topics))


@pytest.mark.parametrize("topic", [*own_topics(Config()), CHANGES, LATEST])
def test_a_topic_as_we_make_it_loses_nothing(topic: str) -> None:
    """Or every check would fail."""
    assert [] == lost(topic)


@pytest.mark.parametrize(
    ("topic", "changes", "expected"),
    [
        (NAMES.tables, {"cleanup_policy": "delete"}, ["cleanup.policy"]),
        (NAMES.tables, {"cleanup_policy": "compact, delete"}, ["cleanup.policy"]),
        (NAMES.tables, {"retention_ms": "1000", "retention_bytes": "5"}, []),  # of no meaning where nothing is deleted
        (NAMES.status, {"cleanup_policy": "delete"}, ["cleanup.policy"]),
        (NAMES.status, {"cleanup_policy": "compact"}, []),
        (CHANGES, {"cleanup_policy": "compact"}, ["cleanup.policy"]),
        (CHANGES, {"cleanup_policy": "delete,compact"}, ["cleanup.policy"]),
        (CHANGES, {"retention_ms": str(DAY_MS)}, ["retention.ms"]),
        (CHANGES, {"retention_ms": str(8 * DAY_MS)}, []),
        (CHANGES, {"retention_ms": "-1"}, []),
        (CHANGES, {"retention_bytes": "1000000"}, ["retention.bytes"]),
        (LATEST, {"cleanup_policy": "delete"}, ["cleanup.policy"]),
        (LATEST, {"delete_retention_ms": str(DAY_MS)}, ["delete.retention.ms"]),  # a sink that stood still misses them
        (LATEST, {"delete_retention_ms": str(8 * DAY_MS)}, []),
        (NAMES.quarantine, {"retention_ms": str(7 * DAY_MS)}, ["retention.ms"]),
        (NAMES.alerts, {"max_message_bytes": "1000"}, ["max.message.bytes"]),
        (NAMES.alerts, {"max_message_bytes": "9000000"}, []),
        (
            CHANGES,
            {"message_timestamp_type": "CreateTime", "message_timestamp_after_max_ms": "3600000"},
            ["message.timestamp.type"],
        ),
        (CHANGES, {"message_timestamp_type": "CreateTime"}, []),  # a broker that takes any time
    ],
)
def test_only_what_loses_something_is_told(topic: str, changes: dict[str, str], expected: list[str]) -> None:
    """A longer retention costs room only."""
    assert expected == lost(topic, **changes)


def test_what_is_to_be_altered_is_written_as_kafkas_tools_take_it() -> None:
    """A list stands in brackets."""
    wanted = TopicSettings(partitions=1, compacted=True, retention_seconds=60)

    assert "cleanup.policy=[compact,delete],retention.bytes=-1,retention.ms=60000" == mended(
        wanted, dict.fromkeys(["retention.ms", "cleanup.policy", "retention.bytes"], "")
    )
