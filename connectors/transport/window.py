"""The window of one partition: which of the delivered offsets are done, and up to where all of them are.

Pure arithmetic on half-open intervals. Offsets that were never delivered (compacted records, transaction markers) are
not waited for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Window:
    """Intervals of offsets that were delivered and are not done yet, oldest first."""

    __slots__ = ("_end", "_firsts", "_nexts", "_note", "_note_at", "_notes")

    def __init__(self, start: int) -> None:
        """Stand at `start`: the first offset that may be delivered."""
        assert start >= 0, "a window starts at an offset, not at a logical one"
        self._end = start
        self._firsts: list[int] = []
        self._nexts: list[int] = []
        self._notes: dict[int, str] = {}
        self._note: str | None = None
        self._note_at = start

    @property
    def end(self) -> int:
        """The offset behind the last one delivered."""
        return self._end

    @property
    def head(self) -> int:
        """Everything delivered below this offset is done; the offset to commit."""
        return self._firsts[0] if self._firsts else self._end

    @property
    def note(self) -> str | None:
        """The metadata said with the highest `done` at or below the head; None if there was none."""
        return self._note

    @property
    def open_intervals(self) -> int:
        """How many intervals are delivered and not done."""
        return len(self._firsts)

    def add(self, first: int, following: int) -> None:
        """Take the delivery of the offsets `first` up to, without, `following`."""
        assert self._end <= first < following, f"offsets {first}..{following} were delivered after {self._end}"
        self._firsts.append(first)
        self._nexts.append(following)
        self._end = following

    def done(self, first: int, following: int, note: str | None = None) -> bool:
        """Mark a part of what was delivered as done, in any order, any number of times; tell whether the head moved."""
        assert first < following <= self._end, f"offsets {first}..{following} were never delivered (end {self._end})"
        before = self.head
        if note is not None:
            self._notes[following] = note
        self._subtract(first, following)
        moved = self.head > before
        if self._notes and (moved or note is not None):
            self._take_notes()
        return moved

    def overlaps(self, first: int, following: int) -> bool:
        """Tell whether anything from `first` up to `following` is delivered and not done."""
        low = bisect_right(self._nexts, first)
        return low < len(self._firsts) and self._firsts[low] < following

    def open_within(self, first: int, following: int) -> list[tuple[int, int]]:
        """Return the intervals that are delivered and not done, as far as they lie in `first` up to `following`."""
        low, high = bisect_right(self._nexts, first), bisect_left(self._firsts, following)
        found = zip(self._firsts[low:high], self._nexts[low:high], strict=True)
        return [(max(begin, first), min(end, following)) for begin, end in found]

    def cut(self, offset: int) -> None:
        """Forget what was delivered at or above `offset`: it will be delivered again, from there."""
        assert offset >= self.head, f"the head stands at {self.head}, above {offset}"
        if offset >= self._end:
            return
        self._subtract(offset, self._end)
        self._end = offset
        self._notes = {at: note for at, note in self._notes.items() if at <= offset}

    def _subtract(self, first: int, following: int) -> None:
        firsts, nexts = self._firsts, self._nexts
        if firsts and first <= firsts[0] and following == nexts[0]:  # in order, as nearly always
            del firsts[0], nexts[0]
            return
        low = bisect_right(nexts, first)  # the first interval that ends above `first`
        high = bisect_left(firsts, following)  # the first one that begins at or above `following`
        if low >= high:
            return
        left = (firsts[low], first) if firsts[low] < first else None
        right = (following, nexts[high - 1]) if following < nexts[high - 1] else None
        rest = [part for part in (left, right) if part is not None]
        firsts[low:high] = [part[0] for part in rest]
        nexts[low:high] = [part[1] for part in rest]

    def _take_notes(self) -> None:
        head = self.head
        reached = [at for at in self._notes if at <= head]
        if reached and max(reached) >= self._note_at:  # what is said again, of offsets long done, changes nothing
            self._note_at = max(reached)
            self._note = self._notes[self._note_at]
        for at in reached:
            del self._notes[at]
