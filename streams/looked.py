"""What Headgate makes of records, one by one and without a topic to write to: for whoever asks, and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.formats.base import Decoder, PartitionMemory
from connectors.formats.inspection import side_kind
from connectors.formats.reasons import Rejection, rejection
from schemas.change import Origin
from schemas.config import LimitsConfig
from schemas.errors import HeadgateError, PoisonRecord
from schemas.table import TableEntry, TableSpec
from sinks.topics import encode_changes
from streams.tables import TableDirectory

CHANGE, QUARANTINE = "change", "quarantine"
_KINDS = {"schema_change": "schema"}  # of what is skipped, where the stages' counters have another name
_NO_LIMIT = 1 << 62


class Looked(msgspec.Struct):
    """A record, or one of its changes: what it is; of a change its value as `headgate.changes.<table>` has it.

    Else what is wrong. A change with an error has no value: it stops its table, such as a truncate.
    """

    origin: Origin
    kind: str
    table: str | None
    change: msgspec.Raw | None
    error: dict[str, str] | None


class Looker:
    """Decodes records of some tables in the order in which they come; it remembers what a worker would."""

    def __init__(self, specs: Mapping[str, TableSpec], limits: LimitsConfig) -> None:
        """Prepare for the tables.

        Raises:
            ConfigurationError: a spec asks for what its format cannot read.
        """
        self._limits = limits
        self._tables = TableDirectory({name: TableEntry(spec=spec) for name, spec in specs.items()})
        self._decoders: dict[str, Decoder] = {
            name: format_of(spec.format).decoder(self._tables[name], limits) for name, spec in specs.items()
        }
        self._memories: dict[tuple[str, int], PartitionMemory] = {}
        self._previous: dict[tuple[str, int], int | None] = {}

    def look(self, record: OneRecord) -> list[Looked]:
        """Return what becomes of a record, each change that it makes apart; never raises for what is in it."""
        try:
            entry = self._tables.of_topic(record.topic)
        except HeadgateError as error:
            return [_looked(record, QUARANTINE, None, error=error)]
        if entry is not None:
            return self._decoded(record, entry.spec.table)
        try:
            kind = side_kind(record.value, depth_max=self._limits.record_depth_max)
        except Rejection as fault:
            return [_looked(record, QUARANTINE, None, error=rejection(fault.reason, fault.message))]
        if kind is None:
            return [_looked(record, QUARANTINE, None, error=_unregistered(record.topic))]
        return [_looked(record, _KINDS.get(kind, kind), None)]

    def _decoded(self, record: OneRecord, table: str) -> list[Looked]:
        place = (record.topic, record.partition)
        memory = self._memories.setdefault(place, PartitionMemory())
        decoded = self._decoders[table].decode(record, memory)
        if decoded.rejected:
            return [_looked(record, QUARANTINE, table, error=decoded.rejected[0].error)]
        if decoded.stop is not None:
            return [_looked(record, CHANGE, table, error=decoded.stop)]
        if decoded.skipped:
            kind = next(iter(decoded.skipped))
            return [_looked(record, _KINDS.get(kind, kind), table)]
        stream, previous = (record.topic, 0, record.partition), self._previous.get(place)
        changes, self._previous[place], _ = encode_changes(decoded.batch, stream, previous, bytes_max=_NO_LIMIT)
        return [_looked(record, CHANGE, table, row, change=value) for row, (_, value) in enumerate(changes)]


def _unregistered(topic: str) -> PoisonRecord:
    return PoisonRecord("unregistered", f"no spec names topic {topic}", hint="name its table's spec with --spec")


def _looked(
    record: OneRecord,
    kind: str,
    table: str | None,
    row: int = 0,
    *,
    change: bytes | None = None,
    error: HeadgateError | None = None,
) -> Looked:
    said: dict[str, str] | None = None
    if error is not None:
        said = {"kind": getattr(error, "reason", "") or error.kind, "message": error.message, "hint": error.hint}
    raw: Any = None if change is None else msgspec.Raw(change)
    origin = (record.topic, 0, record.partition, record.offset)
    return Looked((*origin, row) if row else origin, kind, table, raw, said)
