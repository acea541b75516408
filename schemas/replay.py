"""A replay of a table as `headgate.tables` keeps it until it is through: what is read again, and for whom. No I/O."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from schemas.document import Strict, without_defaults

Offset = Annotated[int, Field(ge=0)]
Stage = Literal["features", "lake", "alerts"]


class ReplayedTopic(Strict):
    """What is read of one source topic: by partition the first offset, and the one behind the last.

    `generation` is the one in which it was read until then.
    """

    id: str
    generation: Offset = 0
    ranges: dict[int, tuple[Offset, Offset]]


class Replay(Strict):
    """A replay that was begun and is not through. `asked` is what was asked for, by which it is told from another.

    Only changes from `first_position` on and below `end_position` go out, where they are given; `into` are the stages
    that take them, none: only who reads the output topic. Once it is `begun`, its group has an offset in each of its
    partitions: one that has none lost it. What an older release began does not say so.
    """

    generation: Annotated[int, Field(ge=1)]
    asked: str
    at: str
    topics: dict[str, ReplayedTopic]
    first_position: str | None = None
    end_position: str | None = None
    into: list[Stage] = ["features", "lake"]
    begun: bool = False

    @property
    def total(self) -> int:
        """How many offsets are to be read."""
        return sum(end - first for topic in self.topics.values() for first, end in topic.ranges.values())

    @model_serializer(mode="wrap")
    def _as_older_releases_read_it(self, write: SerializerFunctionWrapHandler) -> Any:
        return without_defaults(self, write(self), ("begun",))
