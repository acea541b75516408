"""What one tenant's people, or the workers of the installation for it, may do: in Kafka, in Redis and on S3.

Pure, from the configuration and the tenant's specs. All names of a tenant begin with its own and a dot, so each right
is one on a prefix, and stays as it is while tables come and go; but for the source topics, which others have named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from schemas.config import Config
from schemas.table import TableSpec
from schemas.tenant import begin_of
from schemas.topics import TopicNames
from sinks.lake.storage import is_s3
from sinks.redis.layout import ENTITY, FLOORS, RANKS, ROW, STANDINGS, Layout

Role = Literal["reader", "worker"]
ROLES: tuple[Role, ...] = ("reader", "worker")

_READER_TOPICS = ("changes", "features", "latest")
_WORKER_TOPICS = (*_READER_TOPICS, "alerts.state", "parked")
_WRITES = ("Read", "Write", "Create", "Alter")
_READER_COMMANDS = ("ping", "select", "hget", "hmget", "hgetall", "zrevrangebylex")
_WORKER_COMMANDS = ("@read", "@write", "@scripting", "@connection", "-@dangerous", "info")
_READS_FILES = ("s3:GetObject",)
_WRITES_FILES = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
_OPTIONS = {"topic": "--topic", "group": "--group", "transactional-id": "--transactional-id"}
_LITERAL = re.compile(r"(?:[A-Za-z0-9_-]|\\[.]|\[[.]\])*")  # what a pattern of topics begins with that is one text
_OPTIONAL = ("*", "?", "{")  # what makes the character before it one that may be missing


@dataclass(frozen=True, slots=True)
class KafkaRight:
    """Operations on one topic, group or transactional id, or on all whose names begin so."""

    resource: Literal["topic", "group", "transactional-id"]
    name: str
    pattern: Literal["literal", "prefixed"]
    operations: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        named = {"resource": self.resource, "name": self.name, "pattern": self.pattern}
        return {**named, "operations": list(self.operations)}

    def command(self, principal: str, bootstrap: str) -> str:
        """Return the line of Kafka's own tool that gives it to somebody."""
        operations = [word for operation in self.operations for word in ("--operation", operation)]
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", f"User:{principal}"]
        words += [*operations, _OPTIONS[self.resource], self.name, "--resource-pattern-type", self.pattern]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Rights:
    """All of a role's; `uncovered` are patterns of source topics that no prefix stands for."""

    kafka: tuple[KafkaRight, ...]
    redis: tuple[str, ...]  # what stands in ACL SETUSER behind the user's name
    s3: dict[str, Any] | None  # None: the warehouse is a folder
    files: str  # how the paths of the tenant's files begin
    uncovered: tuple[str, ...] = ()


def rights_of(
    tenant: str, role: Role, config: Config, specs: Iterable[TableSpec] = (), *, standings: bool = False
) -> Rights:
    """Return what a role needs; `specs` are the tenant's, of which a worker reads the source topics.

    With `standings` a reader sees whether its views are complete. That lies in hashes of all tenants, so it also sees
    the names of theirs, and how far they are.
    """
    kafka, uncovered = kafka_rights(tenant, role, config, specs)
    files = files_of(tenant, config)
    policy = s3_policy(files, role) if is_s3(config.lake) else None
    return Rights(
        tuple(kafka), tuple(redis_rights(tenant, role, config, standings=standings)), policy, files, uncovered
    )


def kafka_rights(
    tenant: str, role: Role, config: Config, specs: Iterable[TableSpec] = ()
) -> tuple[list[KafkaRight], tuple[str, ...]]:
    """Return the rights in Kafka, and the patterns of source topics that begin with no text to give a right on."""
    prefix, begin = TopicNames(config.kafka.topic_prefix).prefix, begin_of(tenant)
    if role == "reader":
        topics = [KafkaRight("topic", f"{prefix}.{kind}.{begin}", "prefixed", ("Read",)) for kind in _READER_TOPICS]
        return [*topics, KafkaRight("group", begin, "prefixed", ("Read",))], ()
    found: dict[tuple[str, Literal["literal", "prefixed"]], None] = {}
    uncovered = []
    for topic in sorted({topic for spec in specs for topic in spec.topics}):
        if not topic.startswith("^"):
            found[topic, "literal"] = None
        elif text := literal_begin(topic):
            found[text, "prefixed"] = None
        else:
            uncovered.append(topic)
    sources = [KafkaRight("topic", name, pattern, ("Read",)) for name, pattern in found]
    own = [KafkaRight("topic", f"{prefix}.{kind}.{begin}", "prefixed", _WRITES) for kind in _WORKER_TOPICS]
    return [*sources, *own], tuple(uncovered)


def literal_begin(pattern: str) -> str:
    """Return the text that each topic begins with which a pattern catches; none where the pattern does not say one."""
    if "|" in pattern:
        return ""
    found = _LITERAL.match(pattern, 1)
    assert found is not None, "it matches nothing as well"
    text = found[0].replace("\\.", ".").replace("[.]", ".")
    return text[:-1] if pattern[found.end() :].startswith(_OPTIONAL) else text


def redis_rights(tenant: str, role: Role, config: Config, *, standings: bool = False) -> list[str]:
    """Return what stands in `ACL SETUSER` behind the user's name: the user is off, and lacks a password, until told.

    Buckets are shared by all tenants, and each holds what FEATURES keeps of all of their views, so a worker is one of
    the installation. A reader's patterns count the digits of a bucket's number: a star would read on over the text of
    another tenant's entity, which may be anything.
    """
    layout = Layout(config.redis.key_prefix, config.redis.buckets)
    if role == "worker":
        signs = [word if word.startswith("-") else f"+{word}" for word in _WORKER_COMMANDS]
        return ["reset", *signs, f"~{layout.prefix}:*"]
    shared = [STANDINGS, FLOORS] if standings else []
    kinds = f"[{ROW}{ENTITY}{RANKS}]:{begin_of(tenant)}*"
    keys = [f"%R~{begin}{kind}" for begin in layout.bucket_patterns() for kind in (kinds, *shared)]
    return ["reset", *(f"+{command}" for command in _READER_COMMANDS), *keys]


def files_of(tenant: str, config: Config) -> str:
    """Return how the paths of a tenant's files in the lake begin, as the catalogue lays out new tables.

    One of REST may have a way of its own.
    """
    lake = config.lake
    namespace = f"{lake.namespace}.db" if lake.catalog == "glue" else lake.namespace  # as Hive, whose form Glue keeps
    return f"{lake.warehouse.rstrip('/')}/{namespace}/{begin_of(tenant)}"


def s3_policy(files: str, role: Role) -> dict[str, Any]:
    """Return the policy, as IAM and the servers that follow it take it, for files whose addresses begin so."""
    parts = urlsplit(files)
    bucket, path = parts.netloc, parts.path.lstrip("/")
    actions: Sequence[str] = _READS_FILES if role == "reader" else _WRITES_FILES
    within = {"StringLike": {"s3:prefix": [f"{path}*"]}}
    lists = {
        "Sid": "ListTables",
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}"],
    }
    opens = {"Sid": "OpenFiles", "Effect": "Allow", "Action": list(actions)}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**lists, "Condition": within},
            {**opens, "Resource": [f"arn:aws:s3:::{bucket}/{path}*"]},
        ],
    }
