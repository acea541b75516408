"""What the rights of a tenant reach: its own names, and nobody else's, whatever stands in the rows."""

from __future__ import annotations

import json
import shlex
from fnmatch import fnmatchcase

import pytest

from schemas.config import Config
from sinks.redis.layout import Layout
from streams.tenant_rights import KafkaRight, literal_begin, rights_of
from tests.unit.tenants.hostile import HOSTILE
from tests.unit.tenants.test_names import spec_of

CONFIG = Config.model_validate(
    {
        "kafka": {"bootstrap": "kafka-1:9092", "topic_prefix": "hospital"},
        "lake": {"warehouse": "s3://bucket/lake/", "catalog": "rest", "catalog_uri": "http://catalogue"},
    }
)


def covers(right: KafkaRight, topic: str) -> bool:
    """Tell whether a right is one on a topic, by Kafka's rule."""
    return right.resource == "topic" and (
        topic.startswith(right.name) if right.pattern == "prefixed" else topic == right.name
    )


def test_a_reader_reads_its_topics_in_groups_of_its_own() -> None:
    """Nothing that all tenants share, such as alerts or the quarantine, and nothing of one whose name begins alike."""
    rights = rights_of("acme", "reader", CONFIG).kafka
    own = ["hospital.changes.acme.patients", "hospital.features.acme.patient", "hospital.latest.acme.patients"]
    others = ["hospital.changes.acme-2.patients", "hospital.changes.patients", "hospital.alerts", "hospital.quarantine"]

    assert [True] * 3 == [any(covers(right, topic) for right in rights) for topic in own]
    assert [False] * 4 == [any(covers(right, topic) for right in rights) for topic in others]
    assert {"Read"} == {operation for right in rights for operation in right.operations}
    assert ["acme."] == [right.name for right in rights if right.resource == "group"]


def test_a_worker_reads_the_sources_and_writes_what_is_the_tenants() -> None:
    """A pattern becomes the text that its topics begin with; one without such a text is named."""
    topics = ["one.patients", r"^acme-[.]visits_[0-9]+$", "^.*[.]wards"]
    found = rights_of("acme", "worker", CONFIG, [spec_of(topics=topics)])
    reads = {right.name: right.pattern for right in found.kafka if right.operations == ("Read",)}

    assert {"one.patients": "literal", "acme-.visits_": "prefixed"} == reads
    assert ("^.*[.]wards",) == found.uncovered
    assert any(covers(right, "hospital.changes.acme.patients") and "Write" in right.operations for right in found.kafka)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^clinic[.]public[.]visits_[0-9]+$", "clinic.public.visits_"),
        (r"^clinic\.public\..*", "clinic.public."),
        ("^clinic.*", "clinic"),
        ("^clinics?$", "clinic"),
        ("^clinic{0,2}x", "clini"),
        ("^clinic+x", "clinic"),
        ("^clinic$", "clinic"),
        ("^(a|b)c", ""),
        ("^abc|xyz", ""),
        ("^.*", ""),
        (r"^a\.*x", "a"),
    ],
)
def test_a_prefix_is_no_longer_than_what_all_topics_of_a_pattern_begin_with(pattern: str, text: str) -> None:
    """A longer one would lack a topic that comes later."""
    assert text == literal_begin(pattern)


def test_lines_for_kafkas_own_tool_say_what_the_json_says() -> None:
    """Each right is one line that a shell reads as it is meant."""
    for right in rights_of("acme", "worker", CONFIG, [spec_of(topics=["it's.odd"])]).kafka:
        words = shlex.split(right.command("acme-worker", "kafka-1:9092"))
        given = {
            "--topic": right.name,
            "--resource-pattern-type": right.pattern,
            "--allow-principal": "User:acme-worker",
        }

        assert given == {name: words[words.index(name) + 1] for name in given}
        assert list(right.operations) == [words[at + 1] for at, word in enumerate(words) if word == "--operation"]


@pytest.mark.parametrize("buckets", [1, 4, 10, 11, 64, 100, 101, 256])
def test_the_patterns_of_redis_reach_each_bucket(buckets: int) -> None:
    """By the digits of its number."""
    config = Config.model_validate({"redis": {"buckets": buckets}})
    patterns = key_patterns(config)
    keys = [f"{Layout('hg', buckets).base(bucket)}f:acme.patient.1:7" for bucket in range(buckets)]

    assert [True] * buckets == [any(fnmatchcase(key, pattern) for pattern in patterns) for key in keys]


@pytest.mark.parametrize("text", [*HOSTILE, "x}:f:acme.patient.1:7", "{b0}:f:acme.patient.1:7"], ids=ascii)
def test_no_text_of_another_tenants_entity_makes_its_key_one_of_ours(text: str) -> None:
    """A star in the place of the bucket's number would read over it."""
    layout = Layout("hg", 64)
    others = [
        layout.values("zeta.patient.1", text),
        layout.ledger("r", "zeta.patient.1", text),
        layout.values("patient.1", text),
    ]
    patterns = key_patterns(Config())

    assert [False] * 3 == [any(fnmatchcase(key, pattern) for pattern in patterns) for key in others]


def key_patterns(config: Config) -> list[str]:
    """Return the patterns of keys of a tenant's reader; Redis and Python read them alike."""
    return [word.removeprefix("%R~") for word in rights_of("acme", "reader", config).redis if word.startswith("%R~")]


def test_a_reader_sees_what_is_shared_only_where_it_is_said() -> None:
    """Which views are complete stands in hashes of all tenants."""
    plain, more = rights_of("acme", "reader", CONFIG), rights_of("acme", "reader", CONFIG, standings=True)

    assert {"view", "floor"} == {word.rpartition(":")[2] for word in set(more.redis) - set(plain.redis)}
    assert not any("write" in word or word.startswith("~") for word in more.redis)


@pytest.mark.parametrize(("role", "writes"), [("reader", False), ("worker", True)])
def test_the_policy_of_s3_is_about_the_tenants_folders(role: str, writes: bool) -> None:
    """Listed and opened by the same beginning; a reader writes nothing."""
    policy = rights_of("acme", role, CONFIG, [spec_of()]).s3  # type: ignore[arg-type]
    assert policy is not None, "the warehouse is on S3"
    listing, opening = policy["Statement"]

    assert "2012-10-17" == policy["Version"]
    assert (["s3:ListBucket"], ["arn:aws:s3:::bucket"]) == (listing["Action"], listing["Resource"])
    assert {"StringLike": {"s3:prefix": ["lake/headgate/acme.*"]}} == listing["Condition"]
    assert ["arn:aws:s3:::bucket/lake/headgate/acme.*"] == opening["Resource"]
    assert writes == ("s3:PutObject" in opening["Action"])
    assert {"Allow"} == {statement["Effect"] for statement in policy["Statement"]}
    assert policy == json.loads(json.dumps(policy))


def test_the_catalogue_of_glue_lays_tables_out_as_hive_does() -> None:
    """With the namespace's folder under another name."""
    lake = {"warehouse": "s3://bucket/lake", "catalog": "glue", "namespace": "town"}

    assert "s3://bucket/lake/town.db/acme." == rights_of("acme", "reader", Config.model_validate({"lake": lake})).files


def test_a_warehouse_in_a_folder_has_no_policy() -> None:
    """Its files begin with the tenant's name all the same."""
    found = rights_of("acme", "reader", Config())

    assert (None, "lake/headgate/acme.") == (found.s3, found.files)
