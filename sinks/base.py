"""What a sink is: something outside that a stage writes to, and what its answer means.

The promise, for every sink of this room:

* `write` returns once everything handed to it is durable, or raises; it never returns for a part of it.
* Written again, a batch changes nothing more: by position (Redis), by stored offsets (the lake), by id (webhooks).
* `SinkUnavailable` means that nothing is known of the batch: send it again. Any other error says what cannot be
  written.
* What a sink holds in memory is bounded, in bytes; it makes its caller wait rather than grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

Batch_contra = TypeVar("Batch_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Written:
    """The answer DURABLE: `rows` are where no crash of ours loses them; `bytes` is what they take there, if known."""

    rows: int
    bytes: int = 0


class Sink(Protocol[Batch_contra]):
    """Something outside that takes batches of one kind."""

    async def write(self, batch: Batch_contra) -> Written:
        """Write the whole batch and return once it is durable.

        Raises:
            SinkUnavailable: nothing is known of the batch; send it again.
        """
        ...

    async def close(self) -> None:
        """Give back connections and threads; nothing may be written afterwards."""
        ...
