"""Epochs of a table: lives of its source whose positions do not compare, and where each begins in its topics.

An epoch is a function of where a record stands: topic, life of the topic, partition and offset. So a record that is
read again, by a replay or out of quarantine, has the epoch that it had. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from schemas.document import Strict
from schemas.position import EPOCH_MAX


class EpochStart(Strict):
    """Where an epoch begins in one topic: the offset of its first record, by partition.

    It holds for one life of the topic, told by its id, which was read in `generation` when this was decided. A
    partition that is not named was added later: all of its records are of this epoch, or of a later one.
    """

    epoch: Annotated[int, Field(ge=1, le=EPOCH_MAX)]
    topic_id: str
    generation: Annotated[int, Field(ge=0)]
    offsets: dict[int, Annotated[int, Field(ge=0)]] = {}

    def begins(self, partition: int) -> int:
        """Return the offset of the epoch's first record in a partition."""
        return self.offsets.get(partition, 0)


def epoch_at(starts: Sequence[EpochStart], latest: int, topic_id: str, partition: int, offset: int) -> int:
    """Return the epoch of a record of the life `topic_id` of a topic; `starts` are the topic's, in their order.

    `latest` is the table's epoch: that of a topic without starts, and of a life that none of them tells of.
    """
    if all(start.topic_id != topic_id for start in starts):
        return latest
    epoch, in_this_life = starts[0].epoch - 1, False
    for start in starts:
        if start.topic_id != topic_id:
            if in_this_life:
                break
        elif offset < start.begins(partition):
            break
        else:
            in_this_life = True
        epoch = start.epoch
    return epoch


def epoch_of_origin(
    starts: Sequence[EpochStart], latest: int, lives: Iterable[tuple[int, str]], origin: tuple[int, int, int]
) -> int:
    """Return the epoch of a record of which only generation, partition and offset are known.

    `lives` are lives of the topic besides those of `starts`, each with a generation in which it was read. What was read
    before all of these is of the epoch before.
    """
    if not starts:
        return latest
    generation, partition, offset = origin
    known = [*((start.generation, start.topic_id) for start in starts), *lives]
    reached = [life for life in known if life[0] <= generation]
    if not reached:
        return starts[0].epoch - 1
    return epoch_at(starts, latest, max(reached, key=lambda life: life[0])[1], partition, offset)


def bounds(starts: Iterable[EpochStart], topic_id: str, partition: int) -> list[int]:
    """Return the offsets at which an epoch begins in a partition of one life of a topic, in their order."""
    return sorted({start.begins(partition) for start in starts if start.topic_id == topic_id})
