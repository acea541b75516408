"""Floors in NORMALIZE: a change without a key that says that the rows below its position are dead.

Promise: a floor stands in every partition that its output topic has when it is written, in the transaction of the
record that it came from. It stands outside the subscriber's rule: it names no change before it, and none names it.
A completed resync writes one the same way, at the beginning of its epoch (`floor_of_epoch`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from schemas.batch import Batch, slice_of
from schemas.change import Operation
from schemas.errors import ErrorKind, HeadgateError
from schemas.position import EPOCH_MAX

T = TypeVar("T")

_FLOOR = Operation.FLOOR.value


class PartitionsWanted(HeadgateError):
    """Something is to be written, and nobody has asked yet how many partitions its topic has now."""

    kind = ErrorKind.UNAVAILABLE

    def __init__(self, output: str, source: str, least: int = 0) -> None:
        """Name the topic, which needs `least` partitions, and the one that was read."""
        super().__init__(f"how many partitions has {output}?", hint="NORMALIZE asks, and tries again")
        self.output, self.source, self.least = output, source, least


async def write_floors(
    write: Callable[[], Awaitable[T]],
    outputs: dict[str, int],
    ask: Callable[[PartitionsWanted], Awaitable[Mapping[str, int]]],
) -> T:
    """Return what `write` returns, which begins anew where it meets a floor: truncates are rare, and seen late.

    `outputs` is filled with how many partitions the outputs of floors have, by what `ask` returns.
    """
    while True:
        try:
            return await write()
        except PartitionsWanted as wanted:
            asked = await ask(wanted)
            outputs[wanted.output] = asked[wanted.output]


def floor_of_epoch(epoch: int) -> str:
    """Return the position at which a completed resync puts its floor: above all of older epochs, below all of this.

    It is the beginning of every position of the epoch, whatever the connector: text that is a prefix is the lower one.
    """
    assert 0 <= epoch <= EPOCH_MAX, "an epoch has four digits"
    return f"{epoch:04d}"


def pieces(batch: Batch) -> Iterator[tuple[Batch, bool]]:
    """Yield a batch in its order as changes and floors, each floor apart; the second says whether it is one."""
    start = 0
    for at, operation in enumerate(batch.operations):
        if operation == _FLOOR:
            if start < at:
                yield slice_of(batch, start, at), False
            yield slice_of(batch, at, at + 1), True
            start = at + 1
    if start < len(batch):
        yield slice_of(batch, start, len(batch)), False


def has_floors(batch: Batch) -> bool:
    """Tell whether one of the changes is a floor."""
    return _FLOOR in batch.operations
