"""Runs cut into rounds: what one stage decodes while its sink works on what was sent before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from schemas.change import is_for, is_silent


class Piece(NamedTuple):
    """Part of a run: the records from `start` up to `stop`, and the offset behind them."""

    run: Any
    start: int
    stop: int
    next: int

    def records_for(self, stage: str, *, replayed_apart: bool) -> tuple[Sequence[int], Sequence[Any], list[int]]:
        """Return places, values and offsets of what a stage takes: no tombstone, nothing of a replay for others.

        Of these there are some only where a table was `replayed_apart`. A tombstone is compaction's: the delete before
        it says the same.
        """
        values, offsets = self.run.values()[self.start : self.stop], self.run.offsets()[self.start : self.stop]
        if None not in values and not replayed_apart:
            return range(len(values)), values, offsets
        kept = [index for index, value in enumerate(values) if value is not None]
        if replayed_apart:
            kept = [index for index in kept if is_for(stage, self.run.headers(self.start + index))]
        return kept, [values[index] for index in kept], [offsets[index] for index in kept]

    def is_silent(self, kept: Sequence[int], index: int) -> bool:
        """Tell whether one of the records at these places is of a replay that fires no alerts."""
        return is_silent(self.run.headers(self.start + kept[index]))


def rounds(runs: Sequence[Any], rows_max: int) -> Iterator[list[Piece]]:
    """Cut runs into rounds of at most `rows_max` records, in order."""
    pieces: list[Piece] = []
    room = rows_max
    for run in runs:
        start, count = 0, len(run)
        while start < count:
            stop = min(count, start + room)
            pieces.append(Piece(run, start, stop, run.next if stop == count else run.offsets()[stop]))
            room -= stop - start
            start = stop
            if room == 0:
                yield pieces
                pieces, room = [], rows_max
    if pieces:
        yield pieces
