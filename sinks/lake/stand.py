"""Where the lake stands in one input partition, as it is stored in the table that the rows went to.

One table property per input partition, so that two workers never overwrite each other's; moved by the commit that holds
the rows. Unlike a snapshot's summary, properties survive compaction and expiry by other engines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas import versions
from schemas.change import Height
from schemas.errors import BugError, ErrorKind, HeadgateError, SourceMoved, TableStopped, VersionRefused

PROPERTY_STAND = "headgate.partition."  # and the number of the input partition

Stream = tuple[str, int, int]  # topic, generation and partition of an origin
_VERSION_OF_OFFSETS = 1  # of a text without rows, which the releases before read as well


@dataclass(frozen=True, slots=True)
class Stand:
    """The next offset to read of one partition of `topic`, and the highest change stored per origin stream.

    `first` is the offset from which on the lake has all that the partition held; None where that was not noted.
    """

    topic: str
    topic_id: str
    next_offset: int
    highest: Mapping[Stream, Height] = field(default_factory=dict)
    first: int | None = None

    def to_text(self) -> str:
        """Return the value of the property; it names rows, and has another version, only where one is not the first."""
        has_rows = any(row for _, row in self.highest.values())
        highest = [[*stream, offset, *([row] if row else [])] for stream, (offset, row) in sorted(self.highest.items())]
        return json.dumps(
            {
                "v": versions.LAKE_STAND.writes if has_rows else _VERSION_OF_OFFSETS,
                "topic": self.topic,
                "id": self.topic_id,
                "next": self.next_offset,
                **({} if self.first is None else {"first": self.first}),
                "highest": highest,
            },
            separators=(",", ":"),
        )


class OffsetsMoved(HeadgateError):
    """Somebody else has written these partitions since: nothing was written; go on from `stands`, if still assigned."""

    kind = ErrorKind.ABORTED

    def __init__(self, table: str, stands: Mapping[int, Stand]) -> None:
        super().__init__(
            f"lake table {table}: partitions {sorted(stands)} stand elsewhere than where this worker read them from",
            hint="another worker owned them meanwhile; the batch is discarded and read again from where they stand",
        )
        self.stands = dict(stands)


def read_stand(text: str) -> Stand:
    """Return what `Stand.to_text` wrote.

    Raises:
        TableStopped: the text has a version that this release does not read.
        BugError: somebody edited it.
    """
    try:
        stored = json.loads(text)
        versions.LAKE_STAND.check(stored["v"], "where a partition stands in the lake")
        highest = {
            (topic, generation, partition): Height(*height)
            for topic, generation, partition, *height in stored["highest"]
        }
        return Stand(stored["topic"], stored["id"], stored["next"], highest, stored.get("first"))
    except VersionRefused as refused:
        raise TableStopped("lake_stand", refused.message, hint=refused.hint) from refused
    except (ValueError, KeyError, TypeError) as exc:
        raise BugError(
            "a partition's offset in the lake cannot be read", hint="was the table's property edited?"
        ) from exc


def read_stands(properties: Mapping[str, str]) -> dict[int, Stand]:
    """Return the stand of every input partition that a table's properties hold."""
    return {
        int(name.removeprefix(PROPERTY_STAND)): read_stand(text)
        for name, text in properties.items()
        if name.startswith(PROPERTY_STAND)
    }


def written(stands: Mapping[int, Stand]) -> dict[str, str]:
    """Return the properties that hold `stands`."""
    return {f"{PROPERTY_STAND}{partition}": stand.to_text() for partition, stand in stands.items()}


def same_topic(stand: Stand, topic_id: str) -> bool:
    """Tell whether `topic_id` is that of the topic that the lake has read; an empty id means that ids are off."""
    return not stand.topic_id or not topic_id or stand.topic_id == topic_id


def check_topic(stand: Stand, *, topic: str, topic_id: str, partition: int, accepted: bool = False) -> None:
    """Refuse a topic that is not the one the lake has read, unless somebody `accepted` its other life.

    Raises:
        SourceMoved: the topic was deleted and made anew, or the table reads another one.
    """
    if stand.topic == topic and (accepted or same_topic(stand, topic_id)):
        return
    raise SourceMoved(
        "source_moved",
        f"the lake has read partition {partition} of {stand.topic} with id {stand.topic_id or 'none'}; "
        f"{topic} has id {topic_id or 'none'}",
        hint="the topic was made anew: `headgate tables resume TABLE --anew` goes on with it, without what was lost; "
        "or move the lake's table aside and let it be filled again",
    )
