"""What comes of the parts of a run: where the table must stop, the batch of its changes, what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connectors.formats.base import PartitionMemory
from connectors.formats.envelope import Named, SourceName
from connectors.formats.part import Part
from connectors.formats.positions import is_initial, reads_anew, transactions
from connectors.formats.truncates import CODE, stop_at_truncate, stops
from schemas.batch import Batch, Decoded
from schemas.change import Operation
from schemas.errors import TableStopped
from schemas.table import TableSpec

OPERATIONS = {
    "c": Operation.INSERT.value,
    "u": Operation.UPDATE.value,
    "d": Operation.DELETE.value,
    "r": Operation.SNAPSHOT.value,
    "t": Operation.FLOOR.value,
}
_NOTHING: list[str] = []  # shared by all changes with nothing unavailable: nobody may add to it
_LAST = frozenset({"last", "last_in_data_collection"})
_named = msgspec.json.Decoder(Named).decode
_source_name = msgspec.json.Decoder(SourceName).decode
_COLUMNS = (
    "offsets",
    "operations",
    "keys",
    "old_keys",
    "new_keys",
    "befores",
    "afters",
    "positions",
    "ts",
    "unavailable",
    "transactions",
    "snapshots",
)


def find_stop(spec: TableSpec, parts: list[Part], memory: PartitionMemory, decoded: Decoded) -> None:
    """Set where the table must stop, if it must: at a truncate, or where a source was read anew after changes of it."""
    truncated = any(stops(spec, part.codes) for part in parts)
    if not truncated and not any(any(part.snapshots) for part in parts):
        return
    if not truncated and not memory.streamed and all(all(part.snapshots) for part in parts):
        return  # a snapshot before any change
    trial = memory.copy()
    places = [(index, part, i) for part in parts for i, index in enumerate(part.indices)]
    for index, part, i in sorted(places, key=_by_index):
        source, code = part.sources[i], part.codes[i]
        if truncated and code == CODE:
            decoded.stop_index, decoded.stop = index, stop_at_truncate()
            return
        if i in part.faults:
            continue
        if part.snapshots[i] and is_initial(source) and reads_anew(part.positions[i], source, trial):
            decoded.stop_index = index
            decoded.stop = TableStopped(
                "source_read_anew",
                "rows of an initial snapshot come after changes of the same table",
                hint="the source was read anew, and deletes in between are lost: `headgate tables resync TABLE`",
            )
            return
        if not part.snapshots[i]:
            trial.saw(part.positions[i])


def _by_index(place: tuple[int, Part, int]) -> int:
    return place[0]


def gather(parts: list[Part], end: int, batch: Batch, offsets: list[int]) -> None:
    """Put what is not rejected and stands before `end` into the batch, in the order of the records."""
    if len(parts) == 1 and not parts[0].faults and (not parts[0].indices or parts[0].indices[-1] < end):
        kept: list[tuple[Part, Sequence[int]]] = [(parts[0], range(len(parts[0].indices)))]
    else:
        kept = [
            (part, [i for i, index in enumerate(part.indices) if index < end and i not in part.faults])
            for part in parts
        ]
    for whole, places in kept:
        _append(whole, places, batch, offsets)
    if len(parts) > 1:
        order = sorted(range(len(batch)), key=batch.offsets.__getitem__)
        for name in _COLUMNS:
            column = getattr(batch, name)
            setattr(batch, name, [column[at] for at in order])


def _append(part: Part, places: Sequence[int], batch: Batch, offsets: list[int]) -> None:
    whole = len(places) == len(part.indices)

    def kept(column: list[Any]) -> list[Any]:
        return column if whole else [column[i] for i in places]

    codes, sources, count = kept(part.codes), kept(part.sources), len(places)
    batch.offsets += offsets if count == len(offsets) else [offsets[index] for index in kept(part.indices)]
    batch.operations += map(OPERATIONS.__getitem__, codes)
    batch.keys += kept(part.keys)
    batch.afters += kept(part.afters)
    batch.befores += kept(part.befores) if part.befores else [None] * count
    batch.positions += kept(part.positions)
    batch.ts += kept(part.ts)
    batch.transactions += transactions(sources)
    batch.snapshots += kept(part.snapshots)
    batch.unavailable += [part.unavailable.get(i, _NOTHING) for i in places] if part.unavailable else [_NOTHING] * count
    others = part.other_keys
    batch.old_keys += [others.get(i) if part.codes[i] == "c" else None for i in places] if others else [None] * count
    batch.new_keys += [others.get(i) if part.codes[i] == "d" else None for i in places] if others else [None] * count


def remember(batch: Batch, memory: PartitionMemory) -> None:
    """Note the changes of the batch that are not rows of a snapshot."""
    if all(batch.snapshots):
        return
    changes = batch.positions
    if True in batch.snapshots:
        changes = [at for at, snapshot in zip(changes, batch.snapshots, strict=True) if not snapshot]
    memory.saw(max(changes))


def note_load(parts: list[Part], end: int, memory: PartitionMemory) -> None:
    """Note how much was seen of the snapshot that an epoch begins with, in the records before `end`.

    It has ended with the row that says so, or with the first change behind its rows: Debezium streams nothing before.
    """
    if not memory.epoch or memory.ended:
        return
    if not (memory.loaded or any(True in part.snapshots for part in parts)):
        return
    rows = [
        (part.indices[i], part.sources[i].snapshot)
        for part in parts
        for i, snapshot in enumerate(part.snapshots)
        if snapshot and part.indices[i] < end and is_initial(part.sources[i])
    ]
    first = -1 if memory.loaded else min((index for index, _ in rows), default=end)
    changed = any(
        first < index < end and not snapshot
        for part in parts
        for index, snapshot in zip(part.indices, part.snapshots, strict=True)
    )
    memory.saw_load(len(rows), ended=changed or any(mark in _LAST for _, mark in rows))


def name_source(batch: Batch, payload: bytes) -> None:
    """Say in the batch who sent it, as one of its records does."""
    named = _named(payload)
    if bytes(named.source) == b"null":
        named = _named(named.payload)
    source = _source_name(named.source)
    batch.connector, batch.source_name, batch.source_table = (
        source.text("connector"),
        source.text("name"),
        source.full_table,
    )
