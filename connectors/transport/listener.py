"""Who hears of what happens on the thread that owns the consumer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from connectors.transport.chunk import Assignment, Chunk


class Listener(Protocol):
    """Who hears of what happens; called on the owning thread, must not block."""

    def delivered(self, chunks: list[Chunk]) -> None:
        """Chunks came."""

    def assigned(self, assignments: list[Assignment]) -> None:
        """Partitions came; where they start is to be found out."""

    def leaving(self, assignments: list[Assignment]) -> None:
        """Partitions are about to leave, once what was begun is finished."""

    def left(self, assignments: list[Assignment], *, lost: bool) -> None:
        """Partitions left; `lost` if nobody asked."""

    def suspected(self, topics: set[str]) -> None:
        """Topics may have been made anew: their ids are to be compared."""

    def report(self, event: str, fields: Mapping[str, object]) -> None:
        """Something happened that is worth a line."""

    def ended(self, error: BaseException | None) -> None:
        """The thread ends; with an error if it must end the worker."""
