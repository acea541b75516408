"""Some records of a run, as a decoder reads them: those of one table, those that name none, those that are redriven.

Redriven records are decoded each as if it were the only one, with a memory of its own: what a partition remembers
(that rows of an initial snapshot came before all changes) does not hold where records of several partitions and days
stand side by side. They stop no table: such a record is rejected.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime

from connectors.formats.base import Decoder, PartitionMemory, Records
from connectors.formats.reasons import rejection
from connectors.transport.chunk import Headers
from schemas.batch import Batch, Decoded, Rejected, some_of
from schemas.config import LimitsConfig
from schemas.errors import PoisonRecord, TableStopped
from schemas.table import TableEntry
from streams.epochs import epoch_at_origin
from streams.poison import Origin, time_at_first

_NO_TABLE = "the record names no table, and its topic feeds tables by their names"

TOO_OLD = "too_old_to_redrive"


class Once:
    """Records whose columns are made once, however many tables pick from them."""

    def __init__(self, records: Records) -> None:
        """Read the columns."""
        self.topic, self.partition, self.headers = records.topic, records.partition, records.headers
        self._records = records
        self._values, self._keys, self._offsets = records.values(), records.keys(), records.offsets()

    def values(self) -> list[bytes | None]:
        """Return their values."""
        return self._values

    def keys(self) -> list[bytes | None]:
        """Return their keys."""
        return self._keys

    def offsets(self) -> list[int]:
        """Return their offsets."""
        return self._offsets

    def time_ms(self, index: int, /) -> int:
        """Return the time of one of them."""
        return self._records.time_ms(index)


class Again(Once):
    """Records that were redriven or parked: their times are those that they had where they were read at first."""

    def time_ms(self, index: int, /) -> int:
        """Return the time that one of them had at first."""
        return time_at_first(list(self._records.headers(index) or ()))


class Picked:
    """Some records of a run as a decoder reads them, as if they stood where they once were read.

    Their offsets are those of then: with some formats they are a part of the position, by which nothing is passed.
    """

    def __init__(
        self, records: Records, indices: Sequence[int], topic: str, offsets: Sequence[int] | None = None
    ) -> None:
        """Keep those at `indices`, which rise; `offsets` are theirs on `topic`, and rise as well. None: as they are."""
        self.topic, self.partition, self.indices = topic, records.partition, indices
        if offsets is None:
            own = records.offsets()
            offsets = [own[index] for index in indices]
        self._records, self._offsets = records, offsets

    def alone(self, index: int) -> Picked:
        """Return one of them."""
        return Picked(self._records, [self.indices[index]], self.topic, [self._offsets[index]])

    def part(self, start: int, stop: int) -> Picked:
        """Return those from place `start` up to, without, `stop`."""
        return Picked(self._records, self.indices[start:stop], self.topic, self._offsets[start:stop])

    def values(self) -> list[bytes | None]:
        """Return their values."""
        values = self._records.values()
        return [values[index] for index in self.indices]

    def keys(self) -> list[bytes | None]:
        """Return their keys."""
        keys = self._records.keys()
        return [keys[index] for index in self.indices]

    def offsets(self) -> list[int]:
        """Return the offsets that they had at first."""
        return list(self._offsets)

    def time_ms(self, index: int, /) -> int:
        """Return the time of one of them."""
        return self._records.time_ms(self.indices[index])

    def headers(self, index: int) -> Headers:
        """Return the headers of one of them."""
        return list(self._records.headers(self.indices[index]) or ())


def side_by_side(
    records: Records,
    indices: Sequence[int],
    firsts: Sequence[Origin | None],
    entry: TableEntry,
    begins: Container[int] = (),
) -> Iterator[tuple[int, Picked]]:
    """Yield those records together that once stood in one stream in this order: only so do they make one batch.

    Those of one epoch of their table, whose `entry` this is; it comes first. `firsts` are where the records were read
    at first; at indices in `begins` others begin as well.
    """
    some: list[int] = []
    stream, offsets = ("", 0, 0), list[int]()
    for index in indices:
        first = firsts[index]
        assert first is not None, "what has no first origin is of no table"
        topic, generation, _, offset = first
        here = (topic, generation, epoch_at_origin(entry, first))
        if some and (stream != here or offset <= offsets[-1] or index in begins):
            yield stream[2], Picked(records, some, stream[0], offsets)
            some, offsets = [], []
        stream = here
        some.append(index)
        offsets.append(offset)
    if some:
        yield stream[2], Picked(records, some, stream[0], offsets)


def decode_apart(decoder: Decoder, records: Picked) -> Iterator[tuple[Picked, Decoded]]:
    """Yield what the records say, in their order and without a stop: all at once where that comes to the same."""
    decoded = decoder.decode(records, PartitionMemory())
    if decoded.stop is None:
        yield records, decoded
        return
    for one in map(records.alone, range(len(records.indices))):
        decoded = decoder.decode(one, PartitionMemory())
        if decoded.stop is not None:
            decoded = Decoded(decoded.batch, [Rejected(0, _stopped(decoded.stop))])
        yield one, decoded


def decode_nameless(decoder: Decoder, records: Picked) -> Iterator[tuple[Picked, Decoded]]:
    """Yield what records are that name no table of a topic of several: skipped or rejected, also what is a change."""
    fixed = getattr(decoder, "fixed", decoder)  # no table evolves for them
    for some, decoded in decode_apart(fixed, records):
        if decoded.batch:
            places = {offset: index for index, offset in enumerate(some.offsets())}
            changes = {places[offset]: rejection("no_table", _NO_TABLE) for offset in decoded.batch.offsets}
            faults = changes | {each.index: each.error for each in decoded.rejected}
            rejected = [Rejected(index, fault) for index, fault in sorted(faults.items())]
            yield some, Decoded(Batch(decoded.batch.table), rejected, decoded.skipped)
        else:
            yield some, decoded


def _stopped(stop: TableStopped) -> PoisonRecord:
    return PoisonRecord(
        stop.reason, f"it would stop its table: {stop.message}", hint="drop it; at its source it has stopped the table"
    )


def oldest_resent(now: float, limits: LimitsConfig) -> str:
    """Return the commit time, as the contract writes times, of the oldest change that may be sent again at `now`."""
    at = datetime.fromtimestamp(now - limits.redrive_max_age_hours * 3_600, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def without_old(batch: Batch, oldest: str) -> tuple[Batch, list[int]]:
    """Return a batch's changes that were committed at `oldest` (the contract's form of a time) or later.

    The second are the offsets of the others.
    """
    if not batch.ts or min(batch.ts) >= oldest:
        return batch, []
    kept = [i for i, at in enumerate(batch.ts) if at >= oldest]
    return some_of(batch, kept), [offset for offset, at in zip(batch.offsets, batch.ts, strict=True) if at < oldest]


def too_old(hours: int) -> PoisonRecord:
    """Return why a change is not sent again that is older than `limits.redrive_max_age_hours`."""
    return PoisonRecord(
        TOO_OLD,
        f"the change was committed more than {hours} hours ago",
        hint="deletes that came after it may be forgotten; take the row anew at its source, or raise "
        "limits.redrive_max_age_hours before they are",
    )
