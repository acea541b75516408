"""Canal's FlatMessage: the rows of one event of MySQL's log a record, every value a text or null.

`mysqlType` and `sqlType` say what the texts are, but the spec decides. The order is weak: the time has whole seconds,
the number of a batch begins anew with Canal, and a batch may write a row twice, so the offset of the origin decides
within it (docs/positions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Events
from connectors.formats.images import Image, ImageUnwrapper, RowChange, given
from connectors.formats.reasons import Rejection
from schemas.position import canal_position

_CODES = {"INSERT": "c", "UPDATE": "u", "DELETE": "d", "TRUNCATE": "t"}
_KNOWN = tuple(_CODES)  # no dict: what is looked up may be a list
_MS = 1_000


class FlatMessage(msgspec.Struct, rename={"batch": "id", "is_ddl": "isDdl"}, gc=False):
    """What is read of a record; `es` is the time of the event in milliseconds, `old` what an update changed."""

    type: Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    database: str
    table: str
    es: int
    batch: int | UnsetType = UNSET
    is_ddl: bool | UnsetType = UNSET
    data: list[msgspec.Raw] | UnsetType | None = UNSET
    old: list[msgspec.Raw] | UnsetType | None = UNSET
    gtid: str | UnsetType | None = UNSET


class Canal(ImageUnwrapper[FlatMessage]):
    """Reads the records of one table."""

    connector, envelope = "canal", FlatMessage
    partial = True

    def take(self, offsets: list[int], index: int, message: FlatMessage, events: Events) -> None:
        """Add the change of a record."""
        events.source_table = f"{message.database}.{message.table}"
        code, time = _CODES[message.type], message.es * _MS
        at = partial(canal_position, self._epoch, time, message.batch or 0, offsets[index])
        if code == "t":
            events.add(index, code, at(0, 1), time)
            return
        rows = message.data or []
        olds: Sequence[Image] = [UNSET] * len(rows)
        if code == "u" and isinstance(message.old, list):
            olds = message.old
        if not rows or len(rows) != len(olds):
            raise Rejection("no_row", "`data` has no rows, or another number than `old`")
        for number, (row, old) in enumerate(zip(rows, olds, strict=True)):
            after, before = (None, given(row)) if code == "d" else (given(row), given(old))
            change = RowChange(code, partial(at, number), time, after, before, message.gtid or None)
            self._images.add(events, index, change)

    @staticmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row."""
        if not isinstance(document, dict) or not {"type", "isDdl", "es"} <= document.keys():
            raise Rejection("not_a_change", "not one of Canal's flat messages")
        if document["isDdl"] is True:
            return "schema_change"
        if document["type"] not in _KNOWN:
            raise Rejection("unknown_op", "`type` is no change of rows: Canal needs binlog_format=ROW at its source")
        raise Rejection("not_a_change", "a field of the message has another type than Canal writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of Canal's."""
    return {"type", "database", "table", "isDdl", "es"} <= document.keys()


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to, with its database; None of a record of no table."""
    database, table = document.get("database"), document.get("table")
    return f"{database}.{table}" if isinstance(database, str) and isinstance(table, str) and table else None


FORMAT = EventFormat("canal", Canal)
