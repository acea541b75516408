"""Records made after the documentation of the tools that write them, with what becomes of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from connectors.formats import PartitionMemory, encode_row, format_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry, TableSpec
from tests.unit.formats.made import MadeRun

FOLDER = Path(__file__).parents[2] / "fixtures" / "envelopes"
FORMATS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def spec_of(case: str, **changes: Any) -> TableSpec:
    """Return the spec of a case, changed as said."""
    return TableSpec.model_validate(yaml.safe_load((FOLDER / case / "spec.yaml").read_text()) | changes)


def records(case: str) -> list[dict[str, Any]]:
    """Return the records of a case: what each shows, its value, and what becomes of it."""
    return [json.loads(line) for line in (FOLDER / case / "records.jsonl").read_text().splitlines()]


def value_of(record: dict[str, Any]) -> bytes | None:
    """Return the bytes of a record; a text stands for itself."""
    value = record["value"]
    if value is None or isinstance(value, str):
        return None if value is None else value.encode()
    return json.dumps(value).encode()


def decode(spec: TableSpec, values: list[bytes | None], *, memory: PartitionMemory | None = None) -> Decoded:
    """Return what a new decoder makes of values without keys."""
    decoder = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig())
    return decoder.decode(MadeRun([(None, value) for value in values]), memory or PartitionMemory())


def changes(decoded: Decoded) -> list[dict[str, Any]]:
    """Return the changes as the contract has them, without what is empty."""
    batch = decoded.batch
    found = []
    for i in range(len(batch)):
        rows = {"key": batch.keys[i], "old_key": batch.old_keys[i], "new_key": batch.new_keys[i],
                "before": batch.befores[i], "after": batch.afters[i]}  # fmt: skip
        change = {name: json.loads(encode_row(row)) for name, row in rows.items() if row is not None}
        change |= {"op": batch.operations[i], "position": batch.positions[i], "ts": batch.ts[i]}
        change |= {"unavailable": batch.unavailable[i]} if batch.unavailable[i] else {}
        change |= {"snapshot": True} if batch.snapshots[i] else {}
        found.append(change)
    return found


def outcome(spec: TableSpec, value: bytes | None) -> Any:
    """Return what becomes of a record that comes alone: changes, or the word for why there are none."""
    decoded = decode(spec, [value])
    if decoded.rejected:
        return decoded.rejected[0].error.reason  # type: ignore[attr-defined]
    if decoded.skipped:
        return next(iter(decoded.skipped))
    return decoded.stop.reason if decoded.stop else changes(decoded)
