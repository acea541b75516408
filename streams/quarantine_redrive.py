"""Quarantined records sent again, once their cause is mended: in order, with their own bytes, each once.

A record goes to `headgate.redrive`, in the partition of its first origin's number, and says where it was read at first.
That of a table with masks stays sealed on the way. That it was sent is written in the same transaction. Before
anything is sent, all that is meant is decoded with the specs of now: what would only come back is not sent unless
somebody wants it.
"""

from __future__ import annotations

import base64
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from connectors.transport.chunk import Headers
from connectors.transport.producer import Outbox
from schemas.change import HEADER_FIRST_ORIGIN
from schemas.config import Config
from schemas.errors import ConfigurationError, HeadgateError, RecordTooLarge, TableStopped
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.quarantine import Quarantined, packed, reason_of
from streams.apart import TOO_OLD, Picked, decode_apart, decode_nameless, oldest_resent, without_old
from streams.decoders import Decoders
from streams.evolving import EvolveFirst, ImpatientDecoder, take_up_here
from streams.mask_keys import MISSING, mask_keys_of
from streams.originals import Original, Originals
from streams.poison import time_header
from streams.quarantine import OPEN, REDRIVEN, SLOT, Held, Place, Quarantine, Wanted, settle
from streams.registration import ensure_own_topics, load_tables, open_admin, own_topic
from streams.sealing import HEADER_SEALED, Sealing, TableSeal
from streams.small_writer import batches, small_writer
from streams.tables import TableDirectory

Stream = tuple[str, int, int]  # first topic, generation, partition
Kind = tuple[str, str]
Progress = Callable[[str, int], None]  # what is done, and with how many

PASSED_OVER = {
    "other_stage": "NORMALIZE has emitted them, a later stage could not take them: mend that, see docs/operate.md",
    "unregistered": "no table is registered for their topic",
    "claimed_twice": "two tables read their topic: make the patterns narrower",
    "table_paused": "their table is paused: headgate tables resume TABLE",
    "bytes_gone": "neither the quarantine nor the source topic has them any more",
    TOO_OLD: "they were committed before limits.redrive_max_age_hours: take the rows anew at the source",
    "too_large": "they are above kafka.message_bytes_max",
    MISSING: "their table has masks, and there is no key to seal them on the way: name it under masks.keys",
}


@dataclass(slots=True)
class Outcome:
    """What was sent, or would be, by table and the reason of before; what not, and why.

    `rejected` are those that the specs of now do not take either, by table and the reason of now.
    """

    sent: Counter[Kind] = field(default_factory=Counter)
    rejected: Counter[Kind] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    refused: bool = False  # nothing is sent: some would only come back


@dataclass(slots=True)
class _Chosen:
    """What is to be sent: by stream and offset the entries of one record, of which the last is the one that is read."""

    places: dict[Stream, dict[int, list[Place]]] = field(default_factory=dict)
    count: int = 0

    def add(self, held: Held) -> bool:
        """Add an entry; False where there was one of the same record before."""
        topic, generation, partition, offset = held.entry.origin
        of_record = self.places.setdefault((topic, generation, partition), {}).setdefault(offset, [])
        of_record.append(held.place)
        self.count += len(of_record) == 1
        return len(of_record) == 1


def redrive(
    config: Config,
    wanted: Wanted,
    *,
    dry_run: bool = False,
    anyway: bool = False,
    limit: int | None = None,
    progress: Progress = lambda _what, _done: None,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Have open entries of the quarantine read again; return once that is durable, each record once.

    Per first topic, generation and partition they go in the order of their offsets. If the specs of now reject some of
    them, nothing is sent, unless `anyway`. At most `limit` records are sent. With `kafka.guarantee: exactly_once` a
    stop in the middle, or somebody who does the same at the same time, sends none twice.

    Raises:
        SourceUnavailable: the broker does not answer. Do it again: what was sent before is known.
        ConfigurationError: no such table.
    """
    tables = load_tables(config)
    if wanted.table is not None and wanted.table not in tables:
        raise ConfigurationError(f"{wanted.table} is not registered", hint="`headgate tables list` shows which are")
    names = TopicNames(config.kafka.topic_prefix)
    if not dry_run:
        ensure_own_topics(config, [names.quarantine_settled])
    write = None if dry_run else small_writer(config, SLOT)  # before it is read what became of the entries
    outcome = Outcome()
    with Originals(config) as originals:
        trial = _Trial(config, tables, originals, clock)
        chosen = _choose(config, wanted, trial, outcome, limit, progress)
        outcome.refused = bool(outcome.rejected) and not anyway
        if write is None or outcome.refused or not chosen.count:
            return outcome
        _ensure_topic(config, chosen)
        outcome.sent.clear()
        those = _with_bytes(in_order(Quarantine(config).held(wanted), chosen.places), originals, outcome)
        for batch in batches(those, lambda each: each[1].nbytes):
            with write() as outbox:
                for (held, places), original in batch:
                    produce_again(outbox, names, held, original, trial.seal_of(held, original))
                    for place in places:
                        settle(outbox, config, Held(place, held.entry, OPEN), REDRIVEN, at=clock())
            outcome.sent.update(held.kind for (held, _), _ in batch)
            progress("sent", outcome.sent.total())
    return outcome


def _choose(
    config: Config, wanted: Wanted, trial: _Trial, outcome: Outcome, limit: int | None, progress: Progress
) -> _Chosen:
    """Return what of the entries is to be sent, and count what is not."""
    chosen = _Chosen()
    for number, held in enumerate(Quarantine(config).held(wanted)):
        progress("looked at", number + 1)
        if held.became != OPEN:
            continue
        if limit is not None and chosen.count >= limit:
            break
        why = trial.passes_over(held)
        if isinstance(why, str):
            outcome.passed_over[why] += 1
            continue
        if chosen.add(held):
            outcome.sent[held.kind] += 1
            if why is not None:
                outcome.rejected[held.kind[0], reason_of(why)] += 1
    return chosen


class _Trial:
    """What becomes of records now, one by one, as in NORMALIZE."""

    def __init__(
        self, config: Config, tables: TableDirectory, originals: Originals, clock: Callable[[], float]
    ) -> None:
        self._config, self._tables, self._originals = config, tables, originals
        self._decoders = Decoders(config, evolve=True)
        self._oldest = oldest_resent(clock(), config.limits)
        self._sealing = Sealing(mask_keys_of(config.masks))

    def seal_of(self, held: Held, original: Original) -> TableSeal | None:
        """Return what seals a record on its way, None where it may go as it is."""
        readers = self._tables.of_topic(held.entry.origin[0])
        return None if readers is None else self._sealing.of(readers, readers.table_of(original.value))

    def passes_over(self, held: Held) -> str | HeadgateError | None:
        """Return why a record is not sent (a word of `PASSED_OVER`), why it would come back, or None."""
        if held.entry.stage != "normalize":
            return "other_stage"
        try:
            readers = self._tables.of_topic(held.entry.origin[0])
        except TableStopped as stop:
            return stop.reason
        if readers is None:
            return "unregistered"
        if all(entry.paused for entry in readers.entries.values()):
            return "table_paused"
        original = self._originals.of(held.entry)
        if original is None:
            return "bytes_gone"
        split = readers.split([original.value])
        if split.unregistered:
            return "unregistered"
        entries = [readers.entries[table] for table in split.by_table] or [readers.first]
        if any(entry.paused for entry in entries):
            return "table_paused"
        seal = self.seal_of(held, original)
        if seal is not None and seal.cipher is None:
            return MISSING
        try:
            produce_again(
                Outbox(lambda *_: None, self._config.kafka.message_bytes_max), TopicNames(), held, original, seal
            )
        except RecordTooLarge:
            return "too_large"
        whys = (self._decoded(held, entry, original, named=bool(split.by_table)) for entry in entries)
        return next((why for why in whys if why is not None), None)

    def _decoded(self, held: Held, entry: TableEntry, original: Original, *, named: bool) -> str | HeadgateError | None:
        topic, _, _, offset = held.entry.origin
        record = Picked(original.read_at(held.entry.origin), [0], topic, [offset])
        decoder = ImpatientDecoder(self._decoders.of(entry), entry)
        try:
            ((_, decoded),) = (decode_apart if named else decode_nameless)(decoder, record)
        except EvolveFirst as first:  # so will its table, once it is sent
            take_up_here(self._tables, first.stop)
            return self._decoded(held, self._tables.unmasked(entry.spec.table), original, named=named)
        if decoded.rejected:
            return decoded.rejected[0].error
        return TOO_OLD if without_old(decoded.batch, self._oldest)[1] else None


def in_order(held: Iterable[Held], places: dict[Stream, dict[int, list[Place]]]) -> Iterator[tuple[Held, list[Place]]]:
    """Yield one entry for each record of `places`, with all of its places; of each stream by rising offset.

    What comes before its turn is kept until then: seldom much, since the quarantine is nearly in this order.
    """
    turns = {stream: deque(sorted(offsets)) for stream, offsets in places.items()}
    waiting: dict[tuple[Stream, int], Held] = {}
    for each in held:
        topic, generation, partition, offset = each.entry.origin
        stream = (topic, generation, partition)
        of_record = places.get(stream, {}).get(offset)
        if of_record is None or each.place != of_record[-1]:
            continue
        waiting[stream, offset] = each
        turn = turns[stream]
        while turn and (stream, turn[0]) in waiting:
            first = turn.popleft()
            yield waiting.pop((stream, first)), places[stream][first]
    for stream, turn in turns.items():  # retention has taken what these waited for
        for offset in turn:
            if (stream, offset) in waiting:
                yield waiting.pop((stream, offset)), places[stream][offset]


def _with_bytes(
    those: Iterable[tuple[Held, list[Place]]], originals: Originals, outcome: Outcome
) -> Iterator[tuple[tuple[Held, list[Place]], Original]]:
    for each in those:
        original = originals.of(each[0].entry)
        if original is None:  # it was there a moment ago
            outcome.passed_over["bytes_gone"] += 1
        else:
            yield each, original


def produce_again(outbox: Outbox, names: TopicNames, held: Held, original: Original, seal: TableSeal | None) -> None:
    """Write a record as it was, sealed where its table has masks, and where and when it was read at first."""
    entry, first = held.entry, (HEADER_FIRST_ORIGIN, msgspec.json.encode(held.entry.origin))
    if seal is None:
        headers: Headers = [*original.headers, *time_header(original.time_ms), first]
        outbox.produce(names.redrive, entry.origin[2], original.key, original.value, headers)
    else:
        headers = [(HEADER_SEALED, b"1"), first]
        outbox.produce(names.redrive, entry.origin[2], None, _sealed(entry, original, seal), headers)


def _sealed(entry: Quarantined, original: Original, seal: TableSeal) -> bytes:
    found = base64.b64decode(entry.sealed) if entry.sealed else seal(packed(*original))
    assert found is not None, "what has no key was passed over"
    return found


def _ensure_topic(config: Config, chosen: _Chosen) -> None:
    """Have the redrive topic with as many partitions as the largest of the source topics."""
    admin, topic = open_admin(config), TopicNames(config.kafka.topic_prefix).redrive
    sources = admin.describe({first for first, _, _ in chosen.places}, allowed_only=True)
    most = max(partition + 1 for _, _, partition in chosen.places)
    partitions = max([most, *(found.partitions for found in sources.values())])
    admin.ensure(topic, own_topic(config, topic, partitions=partitions))
