"""One attempt of NORMALIZE at a group: what is made of decoded runs, and what is known once they are durable."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.transport.chunk import Assignment, Headers, Run
from connectors.transport.transaction import Outbox
from schemas.batch import Batch, Decoded
from schemas.change import HEADER_SCHEMA_VERSION, HEADER_TABLE
from schemas.config import Config
from schemas.errors import PoisonRecord, RecordTooLarge, TableStopped
from schemas.table import TableEntry
from schemas.topics import TopicNames
from sinks.cloudevents import EventHeaders, event_headers, event_source
from sinks.quarantine import reason_of
from sinks.topics import encode_changes
from streams.avro_outputs import OutputForms
from streams.chains import Chain
from streams.decoders import Decoders
from streams.floors import PartitionsWanted, has_floors, pieces
from streams.mask_keys import mask_keys_of
from streams.poison import Origin, quarantined
from streams.sealing import Opened, Sealing
from streams.tables import Readers

_ENCODER = msgspec.json.Encoder(order=None)


class PartitionState(msgspec.Struct, frozen=True):
    """What NORMALIZE remembers of one source partition; it is committed with the offset, so that it moves with it.

    `previous` and `memory` are those of `table`, whose records are all of the topic. Once `chained`, both are kept by
    table in `headgate.normalize.previous` instead, whatever the topic feeds later.
    """

    previous: int | None = None
    memory: PartitionMemory = msgspec.field(default_factory=PartitionMemory)
    table: str = ""
    chained: bool = False


@dataclass(slots=True)
class Attempt:
    """One attempt at a group: nothing of it counts until its transaction is durable.

    `readers` are by topic, `outputs` how many partitions the outputs of floors and the topics of parked records have.
    `refused` are tables whose output refused the attempt before. `stops` are why topics stop, `parked` why single
    tables of them do.
    """

    readers: Mapping[str, Readers | None] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    refused: Mapping[str, TableStopped] = field(default_factory=dict)
    states: dict[Assignment, PartitionState] = field(default_factory=dict)
    memories: dict[Assignment, PartitionMemory] = field(default_factory=dict)
    chains: dict[Assignment, Chain] = field(default_factory=dict)
    nexts: dict[Assignment, int] = field(default_factory=dict)
    stops: dict[Assignment, TableStopped] = field(default_factory=dict)
    parked: list[TableStopped] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    emitted: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown: dict[str, set[str]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget all but what was looked up before: after an abort everything is counted anew."""
        self.__init__(self.readers, self.outputs, self.refused)  # type: ignore[misc]

    def count(self, name: str, n: int = 1) -> None:
        """Count what becomes a counter of the stage."""
        self.counts[name] = self.counts.get(name, 0) + n

    def written(self, run: Run) -> Run | None:
        """Return what of a run was written: all of it, or what stands before the record that stopped its table."""
        if run.lost or run.assignment not in self.stops:
            return run
        stopped_at = self.nexts[run.assignment]
        if run.next <= stopped_at:
            return run
        return run.slice(0, run.offsets().index(stopped_at)) if run.first < stopped_at else None


class Produced(NamedTuple):
    """How many changes went out of each table and operation, the last one's origin offset, those above `room` bytes."""

    emitted: Counter[tuple[str, str]]
    last: int | None
    too_large: list[int]
    room: int


def produce_changes(  # noqa: PLR0913 - each is another thing that a record is made of
    outbox: Outbox,
    forms: OutputForms,
    entry: TableEntry,
    run: Run | Opened,
    batch: Batch,
    previous: int | None,
    outputs: Mapping[str, int],
    first_origins: Mapping[int, Origin] | None = None,
    *,
    marks: Sequence[tuple[str, bytes | None]] = (),
) -> Produced:
    """Produce a batch in its order to its table's topic, in the partition of its origin's number; a floor in each.

    `outputs` are how many partitions the outputs of floors have; `first_origins` are where redriven changes were read
    at first, by the offset at which each is read now; `marks` are headers of all of them beside the usual ones.

    Raises:
        PartitionsWanted: there is a floor among them, and `outputs` does not say.
    """
    table, output = entry.spec.table, forms.names.changes(entry.spec.table)
    headers: Headers = [(HEADER_TABLE, table.encode()), (HEADER_SCHEMA_VERSION, b"%d" % entry.schema_version), *marks]
    stream, room = (run.topic, run.assignment.generation, run.partition), outbox.room(headers)
    avro, too_large = forms.of(entry) if entry.spec.output.format == "avro" else None, list[int]()
    may_have_floors = entry.spec.truncate == "apply" and has_floors(batch)
    for piece, is_floor in pieces(batch) if may_have_floors else ((batch, False),):
        if is_floor and outputs.get(output, 0) <= run.partition:
            raise PartitionsWanted(output, run.topic)
        events = _events(forms, entry, piece, stream)
        room = min([room, *(outbox.room([*headers, *event]) for event in events)])
        before = None if is_floor else previous
        records, last, left_out = encode_changes(piece, stream, before, bytes_max=room, first_origins=first_origins)
        if avro is not None:
            records = [avro.record(key, value) for key, value in records]
        of_each = [[*headers, *event] for event, at in zip(events, piece.offsets, strict=False) if at not in left_out]
        for partition in range(outputs[output]) if is_floor else (run.partition,):
            if of_each:
                outbox.produce_each(output, partition, records, of_each)
            else:
                outbox.produce_all(output, partition, records, headers)
        previous, too_large = previous if is_floor else last, too_large + left_out
    return Produced(_by_operation(table, batch, too_large), previous, too_large, room)


def _events(forms: OutputForms, entry: TableEntry, piece: Batch, stream: tuple[str, int, int]) -> list[EventHeaders]:
    """Return the headers of each change that make it a CloudEvent; none where the table does not want them."""
    output = entry.spec.output
    if not output.cloud_events:
        return []
    source = event_source(forms.names.prefix, entry.spec.table)
    return event_headers(piece, stream, source, avro=output.format == "avro")


def _by_operation(table: str, batch: Batch, left_out: Collection[int]) -> Counter[tuple[str, str]]:
    """Count changes by table and operation, but for those of the records at the offsets `left_out`."""
    operations: Iterable[str] = batch.operations
    if left_out:
        operations = (op for op, at in zip(batch.operations, batch.offsets, strict=True) if at not in left_out)
    return Counter({(table, str(operation)): n for operation, n in Counter(operations).items()})


class Emitter:
    """Writes what runs became: changes on their tables' topics, and the rest in quarantine or in counters."""

    def __init__(
        self,
        config: Config,
        *,
        names: TopicNames,
        stage: str,
        clock: Callable[[], float] = time.time,
        evolve: bool = False,
        marks: Headers | None = None,
        generation_of: Callable[[Run | Opened], int] = lambda run: run.assignment.generation,
    ) -> None:
        """`stage` is what quarantine entries say; with `evolve` decoders stop where a table's spec may be bettered.

        `marks` are headers that all changes get beside the usual ones, `generation_of` is what quarantine entries say
        of where a record was read.
        """
        self._config, self._names, self._stage, self._clock = config, names, stage, clock
        self._marks, self._generation_of = marks or [], generation_of
        self.decoders = Decoders(config, evolve=evolve)
        self.forms = OutputForms(config, names)
        self._mask_keys = mask_keys_of(config.masks)
        self.sealing = Sealing(self._mask_keys)

    def read_mask_keys(self, entries: Iterable[TableEntry]) -> None:
        """Read the secrets that tables need, before a record waits for them: a command may take seconds."""
        for entry in entries:
            self._mask_keys.stop_of(entry)  # what is wrong stops the table at its first record

    def mask_stop(self, entry: TableEntry) -> TableStopped | None:
        """Return why a table's masks cannot be applied, None if they can."""
        return self._mask_keys.stop_of(entry)

    def emit(
        self, work: Attempt, outbox: Outbox, entry: TableEntry, run: Run | Opened, batch: Batch, previous: int | None,
        first_origins: Mapping[int, Origin] | None = None,
    ) -> int | None:  # fmt: skip
        """Produce the batch in its order; return the origin offset of the last change that went out."""
        table = entry.spec.table
        produced = produce_changes(
            outbox, self.forms, entry, run, batch, previous, work.outputs, first_origins, marks=self._marks
        )
        for offset in produced.too_large:
            error = output_too_large(produced.room)
            self.quarantine(work, outbox, run, run.offsets().index(offset), error, table)
        work.count("emitted", produced.emitted.total())
        work.emitted.update(produced.emitted)
        return produced.last

    def account(
        self,
        work: Attempt,
        outbox: Outbox,
        table: str | None,
        run: Run | Opened,
        decoded: Decoded,
        indices: Sequence[int] | None = None,
    ) -> None:
        """Count what is no change, and put what was rejected in quarantine; `indices` are those of picked records."""
        for reason, n in decoded.skipped.items():
            work.count(f"skipped_{reason}", n)
        for name, n in decoded.noted.items():
            work.count(f"noted_{name}", n)
        for rejected in decoded.rejected:
            index = rejected.index if indices is None else indices[rejected.index]
            self.quarantine(work, outbox, run, index, rejected.error, table)
        if decoded.unknown_columns and table is not None:
            work.unknown.setdefault(table, set()).update(decoded.unknown_columns)

    def unregistered(self, work: Attempt, outbox: Outbox, run: Run, indices: Iterable[int], what: str) -> None:
        """Do with records of no table what the configuration says; `what` names topic or source table."""
        if self._config.unregistered == "ignore":
            work.count("skipped_unregistered", sum(1 for _ in indices))
            return
        error = PoisonRecord(
            "unregistered", f"no table is registered for {what}", hint="register it, or set unregistered: ignore"
        )
        for index in indices:
            self.quarantine(work, outbox, run, index, error, None)

    def quarantine(
        self,
        work: Attempt,
        outbox: Outbox,
        run: Run | Opened,
        index: int,
        error: BaseException,
        table: str | None,
    ) -> None:
        """Put one record aside, sealed where its table has masks; `table` is None where it cannot be told."""
        reason = reason_of(error)
        work.count(f"quarantined_{reason}")
        work.quarantined[table or "", reason] += 1
        value = quarantined(
            self._config,
            run,
            error,
            stage=self._stage,
            table=table,
            at=self._clock(),
            index=index,
            generation=self._generation_of(run),
            topic_id=run.assignment.topic_id,
            seal=self.sealing.of_read(run, index, work.readers.get(run.topic), table),
        )
        outbox.produce(self._names.quarantine, None, None, value, None)


def output_too_large(bytes_max: int) -> RecordTooLarge:
    """Return why a change is not written that Kafka would refuse."""
    return RecordTooLarge(
        f"the change takes more than {bytes_max} bytes",
        hint="raise kafka.message_bytes_max and the output topic's max.message.bytes, or leave columns out",
        reason="output_too_large",
    )


def state_of(assignment: Assignment) -> PartitionState:
    """Return the state of a partition: this worker's, else the one committed with its offset."""
    if assignment.state is None:
        found = read_state(assignment.metadata)
        # Behind a gap nobody knows what the change before was: the chain breaks there, so that its readers see it.
        broken = PartitionState(None, found.memory, found.table, found.chained)
        assignment.state = found if assignment.gap is None else broken
    state: PartitionState = assignment.state
    return state


def read_state(text: str) -> PartitionState:
    """Return the state that a committed offset's text says; of an empty one, that of a partition never read."""
    return msgspec.json.decode(text, type=PartitionState) if text else PartitionState()


def metadata_of(state: PartitionState) -> str:
    """Return the text that `state_of` reads."""
    return _ENCODER.encode(state).decode()
