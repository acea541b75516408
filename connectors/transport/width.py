"""How many output partitions one transaction may go to, so that it ends well before the broker ends it.

The client sends a request for each partition, and before the first it asks for the topics that are new to it. Measured,
with one record each, one broker on two cores: 0.1 s over 100 partitions, 0.3 over 500, 0.5 over 1,000, 2 over 3,000;
beside four busy processes 1.1 s over 1,000, and 6 over 3,000 that were new; over 3,000 that were new, of a broker that
was still making other topics, 73 s. Offsets and commit are some hundredths of a second of it.
"""

from __future__ import annotations

from schemas.errors import ErrorKind, HeadgateError

PARTITIONS_FIRST = 50  # of a worker that was just started, perhaps because its last transaction took too long
PARTITIONS_MAX = 750
_LONG = 1 / 4  # of the time after which the broker ends a transaction: then the next are narrower
_SHORT = 1 / 8


class TransactionTooWide(HeadgateError):
    """A work of several records goes to more output partitions than one transaction may: nothing of it was written."""

    kind = ErrorKind.LIMIT

    def __init__(self, partitions: int) -> None:
        """Say how many are allowed."""
        super().__init__(
            f"records of one group go to more than {partitions} output partitions", hint="they are written in parts"
        )


class Width:
    """How many partitions the next transaction may go to, by how long the last ones took."""

    def __init__(self, timeout_seconds: float) -> None:
        """Begin narrow; the broker ends a transaction after `timeout_seconds`."""
        self.partitions = PARTITIONS_FIRST
        self._timeout_seconds = timeout_seconds

    @property
    def outputs_max(self) -> int:
        """How many outputs a transaction has at most: a group over `partitions` of the input goes to some more."""
        return 2 * self.partitions

    def took(self, partitions: int, seconds: float) -> None:
        """Learn from a transaction: half as many after a long one, twice as many after one that was wide and short."""
        if seconds > _LONG * self._timeout_seconds:
            self.partitions = max(1, self.partitions // 2)
        elif seconds <= _SHORT * self._timeout_seconds and 2 * partitions >= self.partitions:
            self.partitions = min(PARTITIONS_MAX, 2 * self.partitions)
