"""The subscriber's rule: in each origin stream, what is not above the highest offset seen is a repeat.

A stream is an origin's topic, generation and partition. Of several changes of one record, which one it is counts after
the offset.

Needed only where the output topic may repeat (`guarantee: at_least_once`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.change import NOTHING_SEEN, Height

METADATA_BYTES_MAX = 3_000  # of Kafka's 4,096 beside an offset; the transport writes there as well

_STREAM = ["origin_topic", "origin_generation", "origin_partition"]
ORIGIN_COLUMNS = (*_STREAM, "origin_offset", "origin_row")  # what the contract reader must be asked for

Stream = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class OriginHeights:
    """The highest change seen of each stream; the stream seen last stands last."""

    seen: dict[Stream, Height] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return JSON to commit beside the offset: the streams seen last, as many as fit."""
        entries = [[*stream, offset, *([row] if row else [])] for stream, (offset, row) in self.seen.items()]
        while len(text := msgspec.json.encode(entries).decode()) > METADATA_BYTES_MAX:
            entries = entries[len(entries) // 2 or 1 :]
        return text


def read_heights(text: str) -> OriginHeights:
    """Return what `to_text` wrote; nothing was seen where nothing was committed."""
    entries = msgspec.json.decode(text, type=list[_Entry]) if text else []
    return OriginHeights({(one.topic, one.generation, one.partition): Height(one.offset, one.row) for one in entries})


class _Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    topic: str
    generation: int
    partition: int
    offset: int
    row: int = 0


def unrepeated(changes: pa.Table, heights: OriginHeights) -> tuple[pa.Array, OriginHeights]:
    """Return which rows of `changes` (it has `ORIGIN_COLUMNS`) are seen for the first time, and the heights after."""
    keep = pa.array([False] * len(changes), pa.bool_())
    after = dict(heights.seen)
    if not len(changes):
        return keep, OriginHeights(after)
    offsets, rows = changes["origin_offset"].combine_chunks(), changes["origin_row"].combine_chunks()
    for stream in _streams(changes):
        above, after[stream] = _above(_rows_of(changes, stream), offsets, rows, after.pop(stream, NOTHING_SEEN))
        keep = pc.or_(keep, above)
    return keep, OriginHeights(after)


def _above(here: pa.Array, offsets: pa.Array, rows: pa.Array, seen: Height) -> tuple[pa.Array, Height]:
    """Return which changes of `here` (a mask) are above `seen` and all before them, and the highest of all."""
    row_max = pc.max(rows).as_py()
    if not row_max:  # each record has one change, as nearly everywhere
        above, offset = above_highest(here, offsets, seen.offset)
        return above, seen if offset == seen.offset else Height(offset)
    lowest, width = pc.min(offsets).as_py(), max(row_max, seen.row) + 1
    numbers = pc.add_checked(pc.multiply_checked(pc.subtract(offsets, lowest), width), rows)
    seen_number = (seen.offset - lowest) * width + seen.row if seen.offset >= lowest else -1
    above, highest = above_highest(here, numbers, seen_number)
    return above, seen if highest == seen_number else Height(lowest + highest // width, highest % width)


def above_highest(rows: pa.Array, numbers: pa.Array, seen: int) -> tuple[pa.Array, int]:
    """Return which of `rows` (a mask) are above `seen` and all before them, and the highest number after them."""
    here = pc.if_else(rows, numbers, pa.scalar(-1, pa.int64()))
    highest = pc.cumulative_max(here)
    before = pc.max_element_wise(pa.concat_arrays([pa.array([-1], pa.int64()), highest])[: len(here)], seen)
    return pc.and_(rows, pc.greater(here, before)), max(seen, pc.max(here).as_py())


def _streams(changes: pa.Table) -> list[Stream]:
    """Return the streams of `changes`, nearly always one."""
    found = changes.select(_STREAM).group_by(_STREAM, use_threads=False).aggregate([]).to_pylist()
    return [(row["origin_topic"], row["origin_generation"], row["origin_partition"]) for row in found]


def _rows_of(changes: pa.Table, stream: Stream) -> pa.Array:
    mask = None
    for name, value in zip(_STREAM, stream, strict=True):
        equal = pc.equal(changes[name], value)
        mask = equal if mask is None else pc.and_(mask, equal)
    return mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
