"""What `headgate tables resume` finds of a table's topics, and what a decision about them becomes.

The same questions that a worker asks when it begins a partition (`connectors/transport/history.py`), asked from
outside: of the group's offsets, of what NORMALIZE keeps, and of the logs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from connectors.transport.chunk import Assignment
from connectors.transport.history import BELOW_LOG, enter, moved
from connectors.transport.resolve import describe_assignment
from connectors.transport.topics import TopicAdmin
from schemas.config import Config
from schemas.errors import ConfigurationError, SourceMoved, TableStopped
from schemas.table import Decision, TableEntry
from schemas.topics import TopicNames
from streams.registration import open_admin, own_topic
from streams.resume import book_of, entries_of
from streams.settings import group_of, is_embedded
from streams.tables import TableDirectory, reads

Start = Literal["earliest", "latest"] | dict[int, int]

PARTITIONS_MAX = 10_000  # in one --from


@dataclass(frozen=True, slots=True)
class Found:
    """A source topic of a table: its partitions as NORMALIZE would begin them now, and why it would not.

    `generation` is the highest that any table which reads the topic was told to begin, there or elsewhere.
    """

    topic: str
    topic_id: str
    partitions: Mapping[int, Assignment]
    troubles: Mapping[int, SourceMoved] = field(default_factory=dict)
    generation: int = 0

    @property
    def only_gaps(self) -> bool:
        """Say whether all that is wrong is that records were deleted before they were read."""
        return bool(self.troubles) and all(each.reason == BELOW_LOG for each in self.troubles.values())


def survey(config: Config, entry: TableEntry, tables: TableDirectory) -> list[Found]:
    """Return the source topics of a table that exist, with what stands against reading them on.

    `tables` are all that are registered: some may read the same topics.

    Raises:
        SourceUnavailable: Kafka does not answer.
        ConfigurationError: it refuses to, or a newer version wrote what NORMALIZE keeps.
    """
    if is_embedded(config):  # it has no ids, forgets nothing and is read from wherever it begins
        return []
    kept = book_of(config, "normalize").load()
    named = {topic for topic in entry.spec.topics if not topic.startswith("^")}
    admin = open_admin(config)
    described = admin.describe(named | {topic for topic in kept if reads(entry.spec, topic)}, allowed_only=True)
    keys = [(topic, number) for topic, said in described.items() for number in range(said.partitions)]
    committed = admin.committed_now(group_of(config, "normalize"), keys)
    logs, names = admin.watermarks_now(keys), TopicNames(config.kafka.topic_prefix)
    found = []
    for topic, said in sorted(described.items()):
        partitions: dict[int, Assignment] = {}
        troubles: dict[int, SourceMoved] = {}
        for number in range(said.partitions):
            if (topic, number) not in committed or (topic, number) not in logs:
                continue  # a transaction is open on it: it is being read
            mine = partitions[number] = Assignment("", topic, number)
            describe_assignment(mine, committed[topic, number], said.topic_id, logs[topic, number])
            trouble = enter(mine, said.topic_id, kept.get(topic, {}), (), rereads=True)
            if trouble is None and mine.committed is not None:
                trouble = moved(mine, said.topic_id, mine.committed)
            if trouble is not None:
                troubles[number] = trouble
        asked = asked_of(topic, names, tables)
        found.append(Found(topic, said.topic_id, partitions, troubles, asked))
    return found


def asked_of(topic: str, names: TopicNames, tables: TableDirectory) -> int:
    """Return the highest generation that any table which reads a source topic was told to begin.

    What is decided for one of them holds for the topic, so for each of them; workers may not have reached it yet. A
    replay is of one table, in a generation that the topic must not be read in later: it would have the same origins.
    """
    entries = entries_of(topic, names, tables)
    decided = (entry.decisions[topic].generation for entry in entries if topic in entry.decisions)
    return max([0, *(entry.generation for entry in entries), *decided])


def next_generation(entry: TableEntry, found: Iterable[Found]) -> int:
    """Return a generation above all that were reached or asked for in these topics, whichever table it was for."""
    known = [entry.generation]
    for each in found:
        known += [each.generation, *(mine.generation for mine in each.partitions.values())]
    return max(known) + 1


def output_of(config: Config, entry: TableEntry, found: Sequence[Found]) -> tuple[str, str]:
    """Return name and id of a table's output topic, which is made where it is missing: else nobody could accept it."""
    name = TopicNames(config.kafka.topic_prefix).changes(entry.spec.table)
    admin: TopicAdmin = open_admin(config)
    size = max((len(each.partitions) for each in found), default=1)
    admin.ensure_all({name: own_topic(config, name, partitions=size or 1)})
    return name, admin.describe([name])[name].topic_id


def decide(
    entry: TableEntry, found: Sequence[Found], *, anew: bool, start: Start, topics: Collection[str] = ()
) -> tuple[TableEntry, list[str]]:
    """Return the entry that tells workers to go on, and what that means, a line for each topic or gap.

    It is about the topics in trouble, or about `topics`. A topic that lacks only what retention took before it was
    read goes on in its generation, unless it is to be read `anew`; any other begins a new one.

    Raises:
        TableStopped: one of `topics` is no topic of the table.
    """
    if missing := sorted(set(topics) - {each.topic for each in found}):
        known = ", ".join(each.topic for each in found) or "none"
        raise TableStopped("no_such_topic", f"{entry.spec.table} has no topic {missing[0]}", hint=f"topics are {known}")
    chosen = [each for each in found if each.topic in topics] if topics else [each for each in found if each.troubles]
    generation = next_generation(entry, found)
    decisions, said = dict(entry.decisions), []
    raised = False
    for each in chosen:
        if each.only_gaps and not anew:
            decisions[each.topic] = _over_gaps(each, start)
            said += _gaps_said(each, start)
        else:
            raised = True
            decisions[each.topic] = Decision(topic_id=each.topic_id, generation=generation, start=start)
            said += _anew_said(each, generation, start)
    if raised:
        entry = entry.model_copy(update={"generation": generation})
    return entry.model_copy(update={"decisions": decisions}), said


def accept_output(entry: TableEntry, name: str, topic_id: str) -> TableEntry:
    """Return the entry that tells the stages behind to go on with the output topic that has `topic_id`."""
    generation = entry.generation + 1
    accepted = Decision(topic_id=topic_id, generation=generation)
    return entry.model_copy(update={"generation": generation, "decisions": {**entry.decisions, name: accepted}})


def _over_gaps(found: Found, start: Start) -> Decision:
    gaps = {number: found.partitions[number].committed or 0 for number in found.troubles}
    least = min(mine.generation for mine in found.partitions.values())
    return Decision(topic_id=found.topic_id, generation=least, start=start, gaps=gaps)


def _gaps_said(found: Found, start: Start) -> list[str]:
    said = []
    for number in sorted(found.troubles):
        mine = found.partitions[number]
        at = max(_offset(mine, start), mine.low)
        passed = at - mine.low
        left_out = f", and {passed} that are there are left out" if passed else ""
        gone = mine.low - (mine.committed or 0)
        said.append(f"{found.topic}[{number}] goes on at {at}: {gone} records are gone{left_out}")
    return said


def _anew_said(found: Found, generation: int, start: Start) -> list[str]:
    total = sum(max(mine.high - _offset(mine, start), 0) for mine in found.partitions.values())
    left_out = sum(_offset(mine, start) - mine.low for mine in found.partitions.values())
    where = "from its beginning" if start == "earliest" else "from its end" if start == "latest" else "from there"
    said = f"{found.topic} is read {where} as generation {generation}: {total} records"
    return [f"{said}, {left_out} are left out" if left_out else said]


def _offset(mine: Assignment, start: Start) -> int:
    if isinstance(start, dict):
        return max(start.get(mine.partition, mine.low), mine.low)
    return mine.low if start == "earliest" else mine.high


def read_start(text: str) -> Start:
    """Return what `--from` says: earliest, latest, or an offset for some partitions, as 0=4711,1=12.

    Raises:
        ConfigurationError: it says something else.
    """
    match text:
        case "earliest":
            return "earliest"
        case "latest":
            return "latest"
    offsets: dict[int, int] = {}
    parts = text.split(",")
    for part in parts:
        partition, equals, offset = (piece.strip() for piece in part.partition("="))
        is_pair = equals and all(each.isascii() and each.isdigit() and len(each) < 19 for each in (partition, offset))  # noqa: PLR2004 - digits of a 64-bit integer
        if not is_pair or int(partition) in offsets or len(parts) > PARTITIONS_MAX:
            raise ConfigurationError(
                f"--from {text[:100]!r} is no place", hint="earliest, latest, or partitions with offsets: 0=4711,1=12"
            )
        offsets[int(partition)] = int(offset)
    return offsets
