"""What can go wrong for a subscriber; the tree stands at the top of `headgate.client`."""

from __future__ import annotations

from headgate.client.events import Gap
from schemas.errors import ErrorKind, HeadgateError, SchemaMismatch, TableStopped, Unavailable


class GapFound(TableStopped):
    """Something is missing before the next change. Who iterates on is given that change; the gap is told once."""

    def __init__(self, topic: str, gap: Gap) -> None:
        """Keep the gap."""
        super().__init__(
            "gap",
            f"changes are missing on {topic}: {gap}",
            hint="read the topic from an earlier offset, or the rows from the lake; to go on over gaps, give `on_gap`",
        )
        self.gap = gap


class ContractMismatch(SchemaMismatch):
    """A value is not what the contract says; the change was not given, and comes again."""

    def __init__(self, where: str, why: str, *, table: str, known: int, found: int | None, hint: str = "") -> None:
        """Say where, and by which versions of the table's columns the contract and the change are; or give a `hint`."""
        newer = found is not None and found > known
        hint = hint or (
            f"the change is of version {found}, the contract of {known}: take the newer one, "
            f"`headgate contract {table} --out DIR`"
            if newer
            else "only Headgate writes changes of this contract to the topic; is it the right one?"
        )
        super().__init__("contract_mismatch", f"{where}: {why}", hint=hint)


class PlaceLost(TableStopped):
    """Where the subscriber stood is no longer on the topic: retention took it, or the topic was made anew."""

    def __init__(self, where: str) -> None:
        """Name the place."""
        super().__init__(
            "place_lost",
            f"{where} is no longer there",
            hint="decide where to go on: another group, or start= with partitions=; what lies between is missing",
        )


class CommitRefused(Unavailable):
    """The group gave partitions to others before the commit: what was not committed comes again, to those."""

    kind = ErrorKind.UNAVAILABLE


class NotInGroup(HeadgateError):
    """Without a group there is nowhere to commit to."""

    kind = ErrorKind.CONFIGURATION
