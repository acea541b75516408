"""Short runs of one topic decoded as one: a decode costs a third of a millisecond however few its records.

Six hundred quiet partitions bring runs of one or two records. They are read side by side, and what comes of them is
parted again; where the order within one partition matters (a stop, rows of a snapshot, the end of a load), each run is
decoded alone. What less order than before would be is told by the highest position of all of the partitions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from connectors.formats.base import Decoder, PartitionMemory
from connectors.transport.chunk import Headers, Run
from schemas.batch import Decoded, Rejected, slice_of
from schemas.table import TableEntry

LONG_RUN = 200  # from here on the columns pay for themselves


class SideBySide:
    """The records of several runs of one topic, as a decoder reads them; their offsets are their places."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Keep the runs in their order."""
        self.topic, self.partition = runs[0].topic, runs[0].partition
        self.ends = list(accumulate(map(len, runs)))
        self._runs = runs

    def values(self) -> list[bytes | None]:
        """Return all values."""
        return [value for run in self._runs for value in run.values()]

    def keys(self) -> list[bytes | None]:
        """Return all keys."""
        return [key for run in self._runs for key in run.keys()]  # noqa: SIM118 - a run is no mapping

    def offsets(self) -> list[int]:
        """Return the places, from 0."""
        return list(range(self.ends[-1]))

    def origin_offsets(self) -> list[int]:
        """Return all offsets as their partitions have them."""
        return [offset for run in self._runs for offset in run.offsets()]

    def headers(self, index: int) -> Headers:
        """Return the headers of one record."""
        run, at = self._found(index)
        return run.headers(at)

    def time_ms(self, index: int, /) -> int:
        """Return the time of one record."""
        run, at = self._found(index)
        return run.time_ms(at)

    def _found(self, index: int) -> tuple[Run, int]:
        at = bisect_left(self.ends, index + 1)
        return self._runs[at], index - (self.ends[at - 1] if at else 0)


def decode_together(
    decoder: Decoder, entry: TableEntry, runs: Sequence[Run], memories: Sequence[PartitionMemory]
) -> list[Decoded] | None:
    """Return what each of `runs`, all of one topic and in order, says; None where each has to be decoded alone.

    `memories` are those of the runs, one for all runs of a partition. What was skipped is counted with the first run.
    """
    if len(runs) == 1 or sum(map(len, runs)) >= LONG_RUN * len(runs) or decoder.alone:
        return None
    mine = [memory for memory in memories if memory.epoch == entry.epoch]
    if any(memory.loaded and not memory.ended for memory in mine):  # the first change behind the load is its end
        return None
    together = SideBySide(runs)
    last = max([memory.last for memory in mine], default="")
    decoded = decoder.decode(together, PartitionMemory(epoch=entry.epoch, last=last))
    if decoded.stop is not None or any(decoded.batch.snapshots):
        return None
    return _parted(decoded, together.ends, entry, runs, memories)


def _parted(
    decoded: Decoded, ends: list[int], entry: TableEntry, runs: Sequence[Run], memories: Sequence[PartitionMemory]
) -> list[Decoded]:
    places, begin, result = decoded.batch.offsets, 0, []
    for end, run, memory in zip(ends, runs, memories, strict=True):
        low, high = bisect_left(places, begin), bisect_left(places, end)
        batch = slice_of(decoded.batch, low, high)
        offsets = run.offsets()
        batch.offsets = [offsets[place - begin] for place in places[low:high]]
        rejected = [Rejected(bad.index - begin, bad.error) for bad in decoded.rejected if begin <= bad.index < end]
        result.append(Decoded(batch, rejected))
        memory.enter(entry.epoch)
        if batch.positions:
            memory.saw(max(batch.positions))
        begin = end
    first = result[0]
    first.skipped, first.noted = Counter(decoded.skipped), Counter(decoded.noted)
    first.unknown_columns = decoded.unknown_columns
    return result
