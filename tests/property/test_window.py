"""The offset window against a model of two sets."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.transport.window import Window


class WindowMachine(RuleBasedStateMachine):
    """Deliveries with gaps, dones of any part in any order and repeated, cuts: the head is what the sets say."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(10)
        self.start = self.end = 10
        self.delivered: set[int] = set()
        self.finished: set[int] = set()
        self.notes: dict[int, str] = {}
        self.note: str | None = None
        self.note_at = 0

    def open(self) -> set[int]:
        return self.delivered - self.finished

    def head(self) -> int:
        return min(self.open(), default=self.end)

    @rule(gap=st.integers(0, 3), count=st.integers(1, 6))
    def deliver(self, gap: int, count: int) -> None:
        first = self.end + gap
        self.window.add(first, first + count)
        self.delivered |= set(range(first, first + count))
        self.end = first + count

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), said=st.booleans())
    def finish(self, data: st.DataObject, said: bool) -> None:
        first = data.draw(st.integers(self.start, self.end - 1), label="first")
        following = data.draw(st.integers(first + 1, self.end), label="following")
        note = f"up to {following}" if said else None
        before = self.head()
        moved = self.window.done(first, following, note)
        self.finished |= set(range(first, following))
        if note is not None:
            self.notes[following] = note

        assert (self.head() > before) is moved

    @precondition(lambda self: self.end > self.head())
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(self.head(), self.end), label="cut")
        self.window.cut(offset)
        self.delivered = {each for each in self.delivered if each < offset}
        self.finished = {each for each in self.finished if each < offset}
        self.notes = {at: note for at, note in self.notes.items() if at <= offset}
        self.end = min(self.end, offset)

    @invariant()
    def the_head_is_the_first_offset_that_is_delivered_and_not_done(self) -> None:
        assert self.head() == self.window.head

    @invariant()
    def the_end_is_behind_the_last_delivery(self) -> None:
        assert self.end == self.window.end

    @invariant()
    def the_note_is_that_of_the_highest_done_at_or_below_the_head(self) -> None:
        reached = [at for at in self.notes if at <= self.head()]
        if reached:
            self.note_at = max([self.note_at, *reached])
            self.note = self.notes.get(self.note_at, self.note)
            self.notes = {at: note for at, note in self.notes.items() if at not in reached}

        assert self.note == self.window.note

    @invariant()
    def no_more_intervals_are_kept_than_there_are_holes(self) -> None:
        assert len(self.open()) >= self.window.open_intervals


TestWindow = WindowMachine.TestCase
