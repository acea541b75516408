"""What is left of a replay's partitions, by where its group stands; pure."""

from __future__ import annotations

from connectors.transport.chunk import Assignment
from connectors.transport.commit_metadata import read_commit_metadata
from connectors.transport.history import OFFSETS_LOST
from connectors.transport.ranges import Range
from connectors.transport.resolve import Committed
from schemas.errors import TableStopped
from schemas.replay import Replay


def what_is_left(replay: Replay, table: str, key: tuple[str, int], committed: Committed, low: int) -> Range:
    """Return what is left of one partition: from its beginning, unless this very replay has been further.

    `low` is where its log begins now. The assignment's `committed` is None where the group has no offset of the replay.

    Raises:
        TableStopped: retention took what was still to be read; or the replay was begun, and its offset is gone: from
            the beginning it would emit again what it has emitted, in the same generation.
    """
    topic, number = key
    what, mine = replay.topics[topic], Assignment("replay", topic, number)
    mine.topic_id, mine.generation = what.id, replay.generation
    first, end = what.ranges[number]
    said = read_commit_metadata(committed.metadata)
    cancel = f"`headgate tables replay {table} --cancel`, then begin anew"
    if committed.offset is None or said is None or said.generation != mine.generation:
        if replay.begun:
            raise TableStopped(
                OFFSETS_LOST,
                f"{topic}[{number}]: this replay was begun, and Kafka has dropped where it stood",
                hint=f"it was idle for longer than the broker keeps offsets, or somebody deleted them: {cancel}",
            )
        return Range(mine, min(max(first, low), end), end)  # what retention took since it was planned is its past
    mine.metadata, mine.committed = said.stage, committed.offset
    first = min(max(committed.offset, first), end)
    if low > first and first < end:
        raise TableStopped(
            "below_log",
            f"{topic}[{number}]: retention took {low - first} records before they were replayed",
            hint=f"{cancel}, from where the log begins now",
        )
    return Range(mine, first, end)
