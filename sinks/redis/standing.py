"""Whether a view holds what its table holds: pending or complete, per view and partition, in each bucket.

Beside each field of `Layout.offsets` stands one of the same name in `Layout.standings`. It is PENDING while the view is
filled, with how far that is, and says after it from which offset on the view is complete. One that is not there: nobody
has looked at the view in this bucket yet, or Redis has lost it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import BugError
from sinks.redis.layout import view_of
from sinks.redis.ledger import Ledger

PENDING = "PENDING"
COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a view stands in one partition: pending until what lies below `offset` of the topic is in it.

    `done` of `total` are rows of the lake, or records of the log; both 0 where nothing is known.
    """

    pending: bool
    offset: int = 0
    done: int = 0
    total: int = 0

    def to_text(self) -> str:
        """Return what the field holds."""
        return f"{PENDING}:{self.offset}:{self.done}:{self.total}" if self.pending else f"{COMPLETE}:{self.offset}"


UNKNOWN = Standing(pending=True)


def read_standing(text: str) -> Standing:
    """Return what `Standing.to_text` wrote.

    Raises:
        BugError: somebody else wrote it.
    """
    word, *numbers = text.split(":")
    try:
        if word == PENDING:
            offset, done, total = map(int, numbers)
            return Standing(True, offset, done, total)
        (offset,) = map(int, numbers)
    except ValueError:
        word = ""
    if word != COMPLETE:
        raise BugError("the standing of a view in Redis cannot be read", hint="did another version write it?")
    return Standing(False, offset)


def standing_of(view: str, fields: Mapping[bytes, bytes]) -> Standing:
    """Return how a view, given by its id, stands in a bucket whose hash of standings holds `fields`.

    It is pending while one of its partitions is, or nothing is known of it; figures are of all that are.
    """
    held = [read_standing(text.decode()) for name, text in fields.items() if view_of(name.decode()) == view]
    if not held:
        return UNKNOWN
    pending = [each for each in held if each.pending]
    if not pending:
        return Standing(False, max(each.offset for each in held))
    done, total = sum(each.done for each in pending), sum(each.total for each in pending)
    return Standing(True, max(each.offset for each in pending), done, total)


class Standings:
    """The standings of one installation, in all of its buckets."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self, fields: Sequence[str]) -> dict[str, Standing | None]:
        """Return how `fields` stand: pending where they are so in one bucket, None where one bucket knows nothing.

        Raises:
            SinkUnavailable: Redis does not answer.
        """
        if not fields:
            return {}
        layout = self._ledger.layout
        calls = [("HMGET", layout.standings(bucket), *fields) for bucket in range(layout.buckets)]
        by_bucket = await self._ledger.ask(calls)
        return {field: _worst([texts[at] for texts in by_bucket]) for at, field in enumerate(fields)}

    async def write(self, standings: Mapping[str, Standing]) -> None:
        """Write standings to every bucket.

        Raises:
            SinkUnavailable: Redis does not answer; some buckets may have them.
        """
        if not standings:
            return
        flat = [part for field, standing in standings.items() for part in (field, standing.to_text())]
        layout = self._ledger.layout
        await self._ledger.ask([("HSET", layout.standings(bucket), *flat) for bucket in range(layout.buckets)])


def _worst(texts: Iterable[bytes | None]) -> Standing | None:
    different = set(texts)
    if None in different:
        return None
    return max((read_standing(text.decode()) for text in different if text), key=lambda each: each.pending)
