"""The changes of a batch as records of the output topic: the contract, written.

Promise: each record carries its origin and the origin offset of the one before it, so that a reader sees a repeat or
a gap.
"""

from __future__ import annotations

import msgspec

from schemas.batch import Batch
from schemas.change import ChangeSource, ChangeValue

_ENCODER = msgspec.json.Encoder()


def encode_changes(
    batch: Batch, stream: tuple[str, int, int], previous: int | None, *, bytes_max: int
) -> tuple[list[tuple[bytes | None, bytes]], int | None, list[int]]:
    """Return key and value of each change, the origin offset of the last one, and the offsets of those left out.

    `stream` is origin topic, generation and partition; `previous` the origin offset before the batch. A change whose
    key and value take more than `bytes_max` together is left out, and is nobody's `previous`.
    """
    encode, raw = _ENCODER.encode, msgspec.Raw
    connector, name, table = batch.connector, batch.source_name, batch.source_table
    topic, generation, partition = stream
    records: list[tuple[bytes | None, bytes]] = []
    too_large: list[int] = []
    # One pass in Python over the rows: 1.6 µs each, most of it the encoder's.
    for offset, op, key, old_key, new_key, before, after, position, ts, missing, tx, snapshot in zip(
        batch.offsets, batch.operations, batch.keys, batch.old_keys, batch.new_keys, batch.befores, batch.afters,
        batch.positions, batch.ts, batch.unavailable, batch.transactions, batch.snapshots, strict=True,
    ):  # fmt: skip
        key_json = encode(key)
        origin = (topic, generation, partition, offset)
        source = ChangeSource(connector, name, table, tx, snapshot, origin, None, previous)
        value = encode(ChangeValue(op, raw(key_json), old_key, new_key, before, after, position, ts, missing, source))
        if len(value) + len(key_json) > bytes_max:
            too_large.append(offset)
            continue
        records.append((None if key is None else key_json, value))
        previous = offset
    return records, previous, too_large
