"""What ALERTS remembers of one partition of a view's updates, and its form in `headgate.alerts.state.<view>`.

For each bucket the highest number seen of its last incarnations, so that an update that the relay wrote twice counts
once; and a slot for each entity that a rule has fired for and that is not armed again. The state topic has the view's
partitions; a record of it is written to the partition of the update that caused it, in the same transaction as the
alerts and the offset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas import versions
from schemas.errors import ConfigurationError
from streams.origins import above_highest

INCARNATIONS_KEPT = 4  # of a bucket: a relay that was frozen may repeat updates of the one before
STATE_BYTES_MAX = 64 * 1024 * 1024  # of one partition
SLOT_OVERHEAD_BYTES = 200

_ENCODER = msgspec.json.Encoder()


class _Kept(msgspec.Struct, omit_defaults=True):
    """The value of a state record: the height of a bucket, or the digest in a slot."""

    heights: list[tuple[str, int]] | None = None
    digest: str | None = None
    v: int = msgspec.field(default=0)  # never the default, so that it is written


Height = dict[str, int]  # incarnation: highest number; the one seen last stands last
Slot = tuple[str, bytes]  # rule, and the entity's text as in the record's key


@dataclass(slots=True)
class StateChange:
    """What a group changes in a partition's state: heights by bucket, slots taken or (None) given back."""

    heights: dict[int, Height] = field(default_factory=dict)
    slots: dict[Slot, str | None] = field(default_factory=dict)

    def records(self, partition: int) -> list[tuple[bytes, bytes | None]]:
        """Return keys and values for the state topic; None takes a key away."""
        heights = [
            (_ENCODER.encode([partition, "height", bucket]), _kept(heights=list(height.items())))
            for bucket, height in self.heights.items()
        ]
        slots = [
            (
                _ENCODER.encode([partition, "slot", rule, entity.decode()]),
                None if digest is None else _kept(digest=digest),
            )
            for (rule, entity), digest in self.slots.items()
        ]
        return heights + slots


@dataclass(slots=True)
class PartitionState:
    """The state as of the last group that was written."""

    heights: dict[int, Height] = field(default_factory=dict)
    slots: dict[str, dict[bytes, str]] = field(default_factory=dict)  # by rule and entity: the digest of the rule
    nbytes: Counter[tuple[str, str]] = field(default_factory=Counter)  # of slots, by rule and digest

    def apply(self, change: StateChange) -> None:
        """Take up a change that was written."""
        self.heights.update(change.heights)
        for (rule, entity), digest in change.slots.items():
            slots = self.slots.setdefault(rule, {})
            if (old := slots.pop(entity, None)) is not None:
                self._count(rule, old, -len(entity) - SLOT_OVERHEAD_BYTES)
            if digest is not None:
                slots[entity] = digest
                self._count(rule, digest, len(entity) + SLOT_OVERHEAD_BYTES)

    def slot(self, slot: Slot) -> str | None:
        """Return the digest that a slot holds, None if it is not taken."""
        rule, entity = slot
        return self.of_rule(rule).get(entity)

    def of_rule(self, rule: str) -> Mapping[bytes, str]:
        """Return the slots that a rule has taken."""
        return self.slots.get(rule, {})

    def nbytes_of(self, digests: Mapping[str, str]) -> int:
        """Return what the slots of rules take, those alone that they took as they are now."""
        return sum(self.nbytes[each] for each in digests.items())

    def outdated(self, digests: Mapping[str, str]) -> Iterator[Slot]:
        """Yield the slots of rules that are gone, or say something else now."""
        for rule, digest in self.nbytes:
            if digests.get(rule) != digest:
                yield from ((rule, entity) for entity, taken in self.of_rule(rule).items() if taken == digest)

    def _count(self, rule: str, digest: str, nbytes: int) -> None:
        self.nbytes[rule, digest] += nbytes
        if not self.nbytes[rule, digest]:
            del self.nbytes[rule, digest]


def read_states(entries: Mapping[bytes, bytes], partitions: Iterable[int]) -> dict[int, PartitionState]:
    """Return the states of `partitions` from the entries of their state topic.

    Raises:
        ConfigurationError: an entry that no ALERTS wrote, or a newer one.
    """
    states = {partition: PartitionState() for partition in partitions}
    for key, value in entries.items():
        try:
            partition, kind, *rest = msgspec.json.decode(key, type=list[int | str])
            states[int(partition)].apply(_change_of(kind, rest, value))
        except (ValueError, LookupError, msgspec.MsgspecError):
            raise ConfigurationError(
                "an entry of a state topic of ALERTS cannot be read",
                hint="only ALERTS writes to this topic; see who else did",
            ) from None
    return states


def _change_of(kind: int | str, rest: list[int | str], value: bytes) -> StateChange:
    versions.ALERTS_STATE.check_json(value, "what a rule remembers")
    kept = msgspec.json.decode(value, type=_Kept)
    match kind, rest:
        case "height", [int() as bucket] if kept.heights is not None:
            return StateChange(heights={bucket: dict(kept.heights)})
        case "slot", [str() as rule, str() as entity] if kept.digest is not None:
            return StateChange(slots={(rule, entity.encode()): kept.digest})
        case _:
            raise ValueError(kind)


def _kept(*, heights: list[tuple[str, int]] | None = None, digest: str | None = None) -> bytes:
    return _ENCODER.encode(_Kept(heights, digest, versions.ALERTS_STATE.writes))


def unseen(updates: pa.Table, heights: Mapping[int, Height]) -> tuple[pa.Array, dict[int, Height]]:
    """Return which rows of one partition's `updates` are seen for the first time, and the heights that moved."""
    keep = pa.array([False] * len(updates), pa.bool_())
    moved: dict[int, Height] = {}
    buckets, incarnations = updates["bucket"].combine_chunks(), updates["incarnation"].combine_chunks()
    numbers = updates["number"].combine_chunks()
    streams = updates.select(["bucket", "incarnation"]).group_by(["bucket", "incarnation"], use_threads=False)
    for found in streams.aggregate([]).to_pylist():
        bucket, incarnation = found["bucket"], found["incarnation"]
        height = dict(moved.get(bucket) or heights.get(bucket) or {})
        rows = pc.and_(pc.equal(buckets, bucket), pc.equal(incarnations, incarnation))
        above, height[incarnation] = above_highest(rows, numbers, height.pop(incarnation, -1))
        keep = pc.or_(keep, above)
        moved[bucket] = dict(list(height.items())[-INCARNATIONS_KEPT:])
    return keep, moved
