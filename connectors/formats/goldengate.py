"""Oracle GoldenGate's JSON, modelled by operation: one change a record, with images before and after.

An update has only what changed and the key, unless GoldenGate is told otherwise (NOCOMPRESSUPDATES): a column that a
row does not have is unavailable unless the spec says what else it is. Times without an offset are UTC.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from connectors.formats import temporal
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Events
from connectors.formats.images import Image, ImageUnwrapper, RowChange, given
from connectors.formats.reasons import Rejection
from schemas.position import goldengate_position

_CODES = {"I": "c", "U": "u", "D": "d", "T": "t"}
_KNOWN = tuple(_CODES)  # no dict: what is looked up may be a list


class Operation(msgspec.Struct, gc=False):
    """What is read of a record."""

    table: str
    op_type: Literal["I", "U", "D", "T"]
    op_ts: str
    pos: str | int
    before: Image = UNSET
    after: Image = UNSET


class GoldenGate(ImageUnwrapper[Operation]):
    """Reads the records of one table."""

    connector, envelope = "goldengate", Operation

    def take(self, _offsets: list[int], index: int, operation: Operation, events: Events) -> None:
        """Add the change of a record."""
        events.source_table = operation.table
        at = partial(goldengate_position, self._epoch, str(operation.pos))
        try:
            time = temporal.micros_of(operation.op_ts)
        except Rejection:
            raise Rejection("bad_time", "`op_ts` is no time") from None
        code = _CODES[operation.op_type]
        after, before = given(operation.after), given(operation.before)
        self._images.add(events, index, RowChange(code, at, time, None if code == "d" else after, before))

    @staticmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row."""
        if not isinstance(document, dict) or not looks_like(document):
            raise Rejection("not_a_change", "not one of GoldenGate's operations")
        if document["op_type"] not in _KNOWN:
            raise Rejection("unknown_op", "`op_type` is none of I, U, D, T")
        if not isinstance(document.get("pos"), str | int):
            raise Rejection(
                "bad_position", "no `pos`: the formatter leaves it out where its template has no ${position}"
            )
        raise Rejection("not_a_change", "a field of the operation has another type than GoldenGate writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of GoldenGate's."""
    return {"table", "op_type", "op_ts"} <= document.keys()


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to as GoldenGate names it: its schema, and its catalogue if it has one."""
    table = document.get("table")
    return table if isinstance(table, str) else None


FORMAT = EventFormat("goldengate", GoldenGate, absent="unavailable")
