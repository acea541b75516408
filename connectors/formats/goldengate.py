"""Oracle GoldenGate's JSON, modelled by operation: one change a record, with images before and after.

An update has only what changed and the key, unless GoldenGate is told otherwise (NOCOMPRESSUPDATES): a column that a
row does not have is unavailable unless the spec says what else it is. Times without an offset are UTC.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from connectors.formats import temporal
from connectors.formats.base import Records
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.images import NULL, Images, RowChange, given
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.position import goldengate_position
from schemas.table import TableEntry

_CODES = {"I": "c", "U": "u", "D": "d", "T": "t"}
_KNOWN = tuple(_CODES)  # no dict: what is looked up may be a list


class Operation(msgspec.Struct, gc=False):
    """What is read of a record."""

    table: str
    op_type: Literal["I", "U", "D", "T"]
    op_ts: str
    pos: str | int
    before: msgspec.Raw = NULL
    after: msgspec.Raw = NULL


class GoldenGate:
    """Reads the records of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table.

        Raises:
            ConfigurationError: a column of the key has a name that cannot be read.
        """
        self._epoch = entry.epoch
        self._envelopes = Envelopes(Operation, limits, _judge)
        self._images = Images(entry.spec)

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events(connector="goldengate")
        self._envelopes.each(records.values(), events, self._take)
        return events

    def _take(self, index: int, operation: Operation, events: Events) -> None:
        events.source_table = operation.table
        at = partial(goldengate_position, self._epoch, str(operation.pos))
        try:
            time = temporal.micros_of(operation.op_ts)
        except Rejection:
            raise Rejection("bad_time", "`op_ts` is no time") from None
        code = _CODES[operation.op_type]
        after, before = given(operation.after), given(operation.before)
        self._images.add(events, index, RowChange(code, at, time, None if code == "d" else after, before))


def _judge(document: Any) -> str:
    if not isinstance(document, dict) or not looks_like(document):
        raise Rejection("not_a_change", "not one of GoldenGate's operations")
    if document["op_type"] not in _KNOWN:
        raise Rejection("unknown_op", "`op_type` is none of I, U, D, T")
    if not isinstance(document.get("pos"), str | int):
        raise Rejection("bad_position", "no `pos`: the formatter leaves it out where its template has no ${position}")
    raise Rejection("not_a_change", "a field of the operation has another type than GoldenGate writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of GoldenGate's."""
    return {"table", "op_type", "op_ts"} <= document.keys()


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to as GoldenGate names it: its schema, and its catalogue if it has one."""
    table = document.get("table")
    return table if isinstance(table, str) else None


FORMAT = EventFormat("goldengate", GoldenGate, absent="unavailable")
