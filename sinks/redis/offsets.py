"""How far each view has come in each bucket, as this worker last read or wrote it. Pure.

Redis may lose what it acknowledged. Each bucket therefore keeps the next offset beside the rows; we move it only if
it still holds what we last saw, so a bucket that fell back, or lost the field, is found at the next move.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from sinks.redis.layout import offset_text, read_offset, view_of
from sinks.redis.ledger import Move, Refused

Moves = dict[int, list[Move]]  # by bucket


class Mark:
    """One view and partition: what its field holds in each bucket.

    `seen` is what Redis is known to hold, `sent` what it holds once everything in flight has arrived, `reached` the
    next offset below which every row is known to be in Redis.
    """

    __slots__ = ("field", "reached", "seen", "sent", "topic_id")

    def __init__(self, field: str, topic_id: str, texts: Sequence[str]) -> None:
        self.field = field
        self.topic_id = topic_id
        self.seen = list(texts)
        self.sent = list(texts)
        self.reached = lowest(texts)

    def move(self, bucket: int, next_offset: int) -> Move | None:
        """Return the move of one bucket to `next_offset`, and count on it; None: it is there already, or further."""
        expected = self.sent[bucket]
        if read_offset(expected)[1] >= next_offset:
            return None
        move = Move(self.field, expected, offset_text(self.topic_id, next_offset))
        self.sent[bucket] = move.new
        return move

    def moves(self, next_offset: int) -> list[tuple[int, Move]]:
        """Return the moves of every bucket that stands below `next_offset`, and count on them."""
        moves = ((bucket, self.move(bucket, next_offset)) for bucket in range(len(self.sent)))
        return [(bucket, move) for bucket, move in moves if move is not None]


class OffsetBook:
    """The marks of all partitions of this worker."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}

    def begin(self, field: str, topic_id: str, texts: Sequence[str]) -> None:
        """Take up a field as it was read, one text per bucket."""
        self.marks[field] = Mark(field, topic_id, texts)

    def keep(self, fields: Container[str]) -> None:
        """Drop all fields but these: they are no longer ours."""
        self.marks = {field: mark for field, mark in self.marks.items() if field in fields}

    def marks_of(self, behind: Mapping[str, int]) -> dict[Mark, int]:
        """Return the marks of fields, each with the offset that was given for it; fields that are not ours are not."""
        return {mark: offset for field, offset in behind.items() if (mark := self.marks.get(field)) is not None}

    def moves_of(self, touched: Mapping[int, Collection[str]], marks: Mapping[Mark, int]) -> Moves:
        """Return the moves of the buckets in which a view has rows, and count on them."""
        moves: Moves = {}
        for bucket, views in touched.items():
            for mark, offset in marks.items():
                ours = self.marks.get(mark.field) is mark  # else it has left, or fell back meanwhile
                move = mark.move(bucket, offset) if ours and view_of(mark.field) in views else None
                if move is not None:
                    moves.setdefault(bucket, []).append(move)
        return moves

    def arrived(self, bucket: int, moves: Iterable[Move]) -> None:
        """Note moves that Redis has answered, before `refused` of the same answer."""
        for move in moves:
            if (mark := self.marks.get(move.field)) is not None:
                mark.seen[bucket] = move.new

    def refused(self, refusal: Refused) -> bool:
        """Note what a field holds instead; return whether that is less than was acknowledged before: Redis lost it.

        More than we knew is another worker's, or our own from a call whose answer we missed: it is taken over.
        """
        mark = self.marks.get(refusal.move.field)
        if mark is None:
            return False
        if refusal.held is None or read_offset(refusal.held)[1] < read_offset(refusal.move.expected)[1]:
            return True
        mark.seen[refusal.bucket] = mark.sent[refusal.bucket] = refusal.held
        return False

    def disconnected(self) -> None:
        """Give up on everything in flight."""
        for mark in self.marks.values():
            mark.sent = list(mark.seen)

    def lost_in(self, field: str, texts: Sequence[str | None]) -> set[int]:
        """Return the buckets that hold less than before, by what was read anew."""
        seen = self.marks[field].seen if field in self.marks else []
        return {
            bucket
            for bucket, (text, before) in enumerate(zip(texts, seen, strict=False))
            if text is None or read_offset(text)[1] < read_offset(before)[1]
        }

    def compare(self, field: str, texts: Sequence[str | None]) -> int | None:
        """Take over what was read anew; return the offset to go back to if a bucket holds less than before."""
        mark = self.marks[field]
        back: int | None = None
        for bucket, text in enumerate(texts):
            held = read_offset(text)[1] if text is not None else 0
            if text is None or held < read_offset(mark.seen[bucket])[1]:
                back = held if back is None else min(back, held)
            mark.seen[bucket] = mark.sent[bucket] = text if text is not None else offset_text(mark.topic_id, 0)
        if back is not None:  # another mark: a round that was begun with the old one moves nothing
            self.marks[field] = Mark(field, mark.topic_id, mark.seen)
        return back


def lowest(texts: Iterable[str]) -> int:
    """Return the lowest next offset."""
    return min(read_offset(text)[1] for text in texts)
