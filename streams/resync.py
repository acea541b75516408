"""What `headgate tables resync` decides: where the next epoch of a table begins, and what has to be read again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.transport.history import BELOW_LOG, TOPIC_MADE_ANEW
from connectors.transport.topics import TopicAdmin
from schemas.config import Config
from schemas.epoch import EpochStart
from schemas.errors import ConfigurationError, SourceUnavailable, TableStopped
from schemas.position import EPOCH_MAX
from schemas.table import Decision, TableEntry
from streams.attempt import read_state
from streams.chains import chains_of
from streams.decide import Found, Start, decide, next_generation, survey
from streams.epochs import topics_of
from streams.registration import open_admin
from streams.resync_parked import chains_in, parked_heads, parked_now, read_since, read_to
from streams.resync_search import Begin, Progress, Search, reached
from streams.settings import is_embedded
from streams.stands import NormalizeStands
from streams.tables import TableDirectory

NO_NEW_SNAPSHOT = "no_new_snapshot"
STARTS_MAX = 100  # of one topic; what stood before the oldest has long left the log

Where = Start | datetime


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where an epoch begins in one topic; `again` is how many records are read a second time for it."""

    topic: str
    begin: Begin
    again: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Resync:
    """What becomes of a table: its entry, and where its epoch begins; `complete`: nothing has to be waited for."""

    entry: TableEntry
    beginnings: list[Beginning] = field(default_factory=list)
    complete: bool = False


def plan_resync(
    config: Config, tables: TableDirectory, table: str, where: Where | None, topics: Collection[str], *,
    complete: bool, progress: Progress,
) -> Resync:  # fmt: skip
    """Return the next epoch of a table; `where` it begins in `topics` (all, if none is named), None: it is searched.

    With `complete` somebody says that all rows of the new life are behind where it begins.

    Raises:
        SourceUnavailable: Kafka does not answer.
        ConfigurationError: the broker is embedded, or `where` is no place in a topic.
        TableStopped: nothing says where, or there is no topic.
    """
    entry = tables.registered[table]
    if is_embedded(config):
        raise ConfigurationError("the embedded broker keeps no lives of topics apart", hint="use a Kafka broker")
    if entry.epoch >= EPOCH_MAX:
        raise TableStopped("epochs_used_up", f"{table} has had {EPOCH_MAX} epochs", hint="register it by another name")
    found = [each for each in survey(config, entry, tables) if each.partitions]
    if missing := sorted(set(topics) - {each.topic for each in found}):
        known = ", ".join(each.topic for each in found) or "none"
        raise TableStopped("no_such_topic", f"{table} has no topic {missing[0]}", hint=f"topics are {known}")
    if not found:
        raise TableStopped("no_topic", f"{table} has no topic that is there", hint="is its connector running?")
    admin = open_admin(config)
    _check_whole(found, admin)
    chains = chains_in(config, found)
    search = Search(config, tables, tables.unmasked(table), chains, progress)
    since = read_since(table, found, chains)
    heads, parked = parked_heads(config, table, found, chains), parked_now(tables[table], chains)
    searched = read_to(found, heads, parked)
    found = read_to(found, {key: head for key, head in heads.items() if key in parked})
    begins = {}
    for each in searched:
        wanted = where if not topics or each.topic in topics else None
        begins[each.topic] = _begin(each, wanted, search, admin)
    return planned(entry, found, begins, complete=complete, since=since)


def _check_whole(found: Sequence[Found], admin: TopicAdmin) -> None:
    """Refuse to decide about some partitions of a topic: those left out would count as added later."""
    sizes = {name: said.partitions for name, said in admin.describe([each.topic for each in found]).items()}
    for each in found:
        if len(each.partitions) < sizes.get(each.topic, 0):
            raise SourceUnavailable(
                f"where NORMALIZE stands in {each.topic} is not known of all partitions now",
                hint="a worker has a transaction open, or one that died left it: run it again in a moment",
            )


def _begin(found: Found, where: Where | None, search: Search, admin: TopicAdmin) -> Begin:
    low = {number: mine.low for number, mine in found.partitions.items()}
    if where is not None:
        return begin_at(found, where, admin)
    if found.troubles and all(each.reason == TOPIC_MADE_ANEW for each in found.troubles.values()):
        return Begin(low, dict.fromkeys(low, "the topic was made anew"))
    if found.troubles and not found.only_gaps:
        trouble = next(iter(found.troubles.values()))
        raise TableStopped(trouble.reason, trouble.message, hint="say where the new life of the source begins: --from")
    begin = search.begin(found)
    if begin is None:
        raise TableStopped(
            NO_NEW_SNAPSHOT,
            f"no row of a new snapshot of the table stands in {found.topic} behind what was read",
            hint="start the connector's new snapshot and run this again; or say where the new life of the source "
            "begins: --from latest, where it is still to come, --from 2026-11-20T19:45Z, or --from 0=4711,1=12",
        )
    return begin


def begin_at(found: Found, where: Where, admin: TopicAdmin) -> Begin:
    """Return what somebody said.

    Raises:
        ConfigurationError: it names no place for a partition, or one beyond its log.
    """
    partitions = found.partitions
    match where:
        case "earliest":
            offsets = {number: mine.low for number, mine in partitions.items()}
        case "latest":
            offsets = {number: mine.high for number, mine in partitions.items()}
        case datetime():
            keys = [(found.topic, number) for number in partitions]
            known = admin.offsets_at(keys, int(where.timestamp() * 1000))
            offsets = {number: known.get((found.topic, number), mine.high) for number, mine in partitions.items()}
        case _:
            offsets = dict(where)
    _check(found, offsets)
    return Begin(offsets, dict.fromkeys(offsets, "as was said"))


def _check(found: Found, offsets: Mapping[int, int]) -> None:
    if missing := sorted(found.partitions.keys() ^ offsets.keys()):
        raise ConfigurationError(
            f"--from names no place in {found.topic}[{missing[0]}], or one that is not there",
            hint=f"name each of its partitions, as {','.join(f'{number}=4711' for number in sorted(found.partitions))}",
        )
    beyond = [number for number, offset in offsets.items() if offset > found.partitions[number].high]
    if beyond:
        number = min(beyond)
        raise ConfigurationError(
            f"{found.topic}[{number}] ends at {found.partitions[number].high}, --from says {offsets[number]}",
            hint="--from latest is its end as it is now",
        )


def is_under_way(config: Config, entry: TableEntry) -> bool:
    """Tell whether the floor of a table's epoch is still to be written.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    if not (topics := topics_of(entry)):
        return False
    stand = asyncio.run(NormalizeStands(config, open_admin(config)).stands(topics)).get((topics[0], 0))
    if stand is None:
        return True
    state = read_state(stand.state)
    memory = state.memory
    if state.chained:
        link = asyncio.run(chains_of(config).links()).get((topics[0], 0), {}).get(entry.spec.table)
        memory = PartitionMemory() if link is None or link.memory is msgspec.UNSET else link.memory
    return not (memory.epoch == entry.epoch and memory.floored)


def declared(entry: TableEntry) -> TableEntry:
    """Return the entry by which the snapshot of its epoch is complete, as somebody said."""
    return entry.model_copy(update={"resynced": entry.epoch})


def planned(
    entry: TableEntry, found: Sequence[Found], begins: Mapping[str, Begin], *, complete: bool,
    since: Mapping[str, int] | None = None,
) -> Resync:  # fmt: skip
    """Return the entry of the next epoch, and what has to be read again for it. Pure.

    `since` are the first generations in which topics were read in the lives that they have, where one is known: so
    what was parked or put aside before other tables had the topic read again is of the life that the epoch begins in.

    A partition that was read beyond where the epoch begins, or that a worker may be reading on, is read from there in
    a new generation: what was read of the new life had positions of the old one.
    """
    epoch, epochs, beginnings = entry.epoch + 1, dict(entry.epochs), []
    complete = complete or all(begin.empty for begin in begins.values())
    for each in found:
        begin = begins[each.topic]
        before = min(mine.generation for mine in each.partitions.values())
        first = min(before, (since or {}).get(each.topic, before))
        entry, again = _gone_on(entry, each, begin)
        decision = entry.decisions.get(each.topic)
        anew = TOPIC_MADE_ANEW in {trouble.reason for trouble in each.troubles.values()}
        generation = decision.generation if anew and decision is not None else first
        start = EpochStart(epoch=epoch, topic_id=each.topic_id, generation=generation, offsets=begin.offsets)
        epochs[each.topic] = [*epochs.get(each.topic, []), start][-STARTS_MAX:]
        beginnings.append(Beginning(each.topic, begin, again, generation))
    update = {
        "epoch": epoch, "epochs": epochs, "paused": None, "resumed": entry.resumed + 1,
        "resynced": epoch if complete else entry.resynced,
    }  # fmt: skip
    return Resync(entry.model_copy(update=update), beginnings, complete)


def _gone_on(entry: TableEntry, found: Found, begin: Begin) -> tuple[TableEntry, int]:
    """Return the entry by which a topic is read on, and how many of its records are read a second time."""
    if any(trouble.reason != BELOW_LOG for trouble in found.troubles.values()):
        entry, _ = decide(entry, [found], anew=True, start=dict(begin.offsets), topics=[found.topic])
        return entry, 0
    now = {number: reached(mine) for number, mine in found.partitions.items()}
    if found.troubles:
        entry, _ = decide(entry, [found], anew=False, start="earliest", topics=[found.topic])
    if begin.stops >= now.keys() and all(now[number] <= offset for number, offset in begin.offsets.items()):
        return entry, 0  # nobody reads beyond it by itself
    starts = {number: min(now[number], offset) for number, offset in begin.offsets.items()}
    generation = next_generation(entry, [found])
    decision = Decision(topic_id=found.topic_id, generation=generation, start=starts)
    entry = entry.model_copy(update={"generation": generation, "decisions": {**entry.decisions, found.topic: decision}})
    return entry, sum(now[number] - offset for number, offset in starts.items())
