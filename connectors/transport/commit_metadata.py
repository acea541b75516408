"""The text beside every committed offset: `v1 <topic id> <generation> <the stage's own text>`.

The topic's id makes a topic that was deleted and made anew visible; the generation is the one reached (DESIGN.md,
Identity and order).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas import versions
from schemas.errors import BugError

# The broker takes 4096 by default (offset.metadata.max.bytes), and the client puts a NUL behind what it commits.
COMMIT_METADATA_BYTES_MAX = 4095
_VERSION = f"v{versions.COMMIT_METADATA.writes}"
_NO_ID = "-"  # a broker without topic ids
_OURS = re.compile(r"v(\d+) (\S+) (\d+)(?: (.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CommitMetadata:
    """What was committed beside an offset. `topic_id` is empty where the broker has none."""

    topic_id: str = ""
    generation: int = 0
    stage: str = ""

    def text(self) -> str:
        """Return the text to commit.

        Raises:
            BugError: it is above `COMMIT_METADATA_BYTES_MAX`, or the id cannot be written.
        """
        assert self.generation >= 0, "generations count from 0"
        assert not re.search(r"\s", self.topic_id), "an id is one word"
        text = f"{_VERSION} {self.topic_id or _NO_ID} {self.generation}"
        if self.stage:
            text = f"{text} {self.stage}"
        size = len(text.encode())
        if size > COMMIT_METADATA_BYTES_MAX:
            raise BugError(
                f"the metadata of a commit takes {size} bytes, {COMMIT_METADATA_BYTES_MAX} are allowed",
                hint="a stage keeps what is larger in a state topic",
            )
        return text


def read_commit_metadata(text: str | None) -> CommitMetadata | None:
    """Return what `text` says, or None where there is none, or where somebody else wrote it.

    Raises:
        VersionRefused: a newer version of Headgate wrote it.
    """
    match = _OURS.fullmatch(text or "")
    if match is None:
        return None
    version, topic_id, generation, stage = match.groups()
    versions.COMMIT_METADATA.check(version, "the metadata of a committed offset")
    return CommitMetadata("" if topic_id == _NO_ID else topic_id, int(generation), stage or "")
