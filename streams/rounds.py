"""Runs cut into rounds: what one stage decodes while its sink works on what was sent before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """Part of a run: the records from `start` up to `stop`, and the offset behind them."""

    run: Any
    start: int
    stop: int
    next: int


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
