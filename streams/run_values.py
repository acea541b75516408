"""The values of some runs side by side, as a reader wants them, and the way back from a row to its record."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from connectors.transport.chunk import Run


class RunValues:
    """The values of some runs, side by side and without tombstones, and the way back to run and index."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._indexes: list[list[int] | None] = []
        self.present: list[bytes] = []
        lengths = []
        for run in runs:
            values = run.values()
            found = [value for value in values if value is not None]
            gaps = len(found) < len(values)
            self._indexes.append([at for at, value in enumerate(values) if value is not None] if gaps else None)
            self.present += found
            lengths.append(len(found))
        self._starts = list(accumulate(lengths, initial=0))

    def place(self, row: int) -> tuple[Run, int]:
        """Return the run of a row, and the index of its record within it."""
        at = bisect_right(self._starts, row) - 1
        within, indexes = row - self._starts[at], self._indexes[at]
        return self._runs[at], within if indexes is None else indexes[within]

    def keys(self) -> list[bytes | None]:
        """Return the key of every value."""
        found: list[bytes | None] = []
        for run, indexes in zip(self._runs, self._indexes, strict=True):
            keys = run.keys()
            found += keys if indexes is None else [keys[index] for index in indexes]
        return found

    def spans(self) -> list[tuple[Run, int, int]]:
        """Return each run with its first row and the row behind its last."""
        return list(zip(self._runs, self._starts[:-1], self._starts[1:], strict=True))


def offset_at(run: Run, index: int) -> int:
    """Return the offset of one record of a run."""
    return run.first + index if run.next - run.first == len(run) else run.offsets()[index]
