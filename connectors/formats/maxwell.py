"""Maxwell: a change of MySQL or MariaDB a record, the rows of a bootstrap among them.

An update that changes the key is one record. Maxwell says no place without `output_binlog_position`: then a change has
the time of its commit, and is below every one that has a place. Within an event of several rows it gives an order with
`output_xoffset`, else the offsets of the origin stand in for it. It writes zero dates as they are: a column of dates
refuses them, one declared string keeps them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import WEAK_ORDER, Events
from connectors.formats.images import Image, ImageUnwrapper, RowChange, given
from connectors.formats.reasons import Rejection
from schemas.position import maxwell_position

Types = Literal["insert", "update", "delete", "bootstrap-insert"]
_CODES = {"insert": "c", "update": "u", "delete": "d", "bootstrap-insert": "r"}
_NOTIFICATIONS = ("bootstrap-start", "bootstrap-complete")  # no set: what is looked up may be a list
_DEFINITIONS = ("table-", "database-")
_NO_FILE = 0  # the files of a log begin with 1
_FILE_END = 15  # what stands before it, and the file's number, are the first digits of a position
_LAST_ROW = 10**20 - 1  # of a transaction: it has no xoffset, but `commit`


class Change(msgspec.Struct, gc=False):
    """What is read of a record."""

    type: Types
    database: str
    table: str
    data: msgspec.Raw
    old: Image = UNSET
    ts: int | UnsetType = UNSET  # seconds
    position: str | UnsetType | None = UNSET
    xid: int | UnsetType | None = UNSET
    xoffset: int | UnsetType | None = UNSET
    commit: bool | UnsetType = UNSET


class Maxwell(ImageUnwrapper[Change]):
    """Reads the records of one table."""

    connector, envelope = "maxwell", Change
    partial = True

    def take(self, offsets: list[int], index: int, change: Change, events: Events) -> None:
        """Add the change of a record."""
        events.source_table = f"{change.database}.{change.table}"
        if change.ts is UNSET:
            raise Rejection("bad_time", "no `ts`")
        data, old = given(change.data), given(change.old)
        code = _CODES[change.type]
        before = data if code == "d" else old
        file, pos, row = self._place(change, offsets[index])
        if file == _NO_FILE and code != "r":
            events.ranked = _FILE_END  # where places were said before, this stops the table
            events.noted[len(events.indices)] = WEAK_ORDER
        row_change = RowChange(
            code,
            lambda half: maxwell_position(self._epoch, file, pos, row, half, streamed=code != "r"),
            change.ts * 1_000_000,
            None if code == "d" else data,
            before,
            None if change.xid is None or change.xid is UNSET else str(change.xid),
        )
        self._images.add(events, index, row_change)

    @staticmethod
    def _place(change: Change, offset: int) -> tuple[int, int, int]:
        """Return file, place in it, and row; where Maxwell says none, the time and the offset stand for it."""
        if change.type == "bootstrap-insert" or change.position is None or change.position is UNSET:
            return _NO_FILE, change.ts or 0, offset
        name, _, pos = change.position.rpartition(":")
        file = name.rpartition(".")[2]
        if not (file.isascii() and file.isdecimal() and pos.isascii() and pos.isdecimal() and file.strip("0")):
            raise Rejection("bad_position", "`position` is not the name of a file, a colon and a number")
        if isinstance(change.xoffset, int):
            return int(file), int(pos), change.xoffset
        return int(file), int(pos), _LAST_ROW if change.commit else offset

    @staticmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row."""
        kind = document.get("type") if isinstance(document, dict) else None
        if kind in _NOTIFICATIONS:
            return "notification"
        if isinstance(kind, str) and kind.startswith(_DEFINITIONS):
            return "schema_change"
        raise Rejection("not_a_change", "not one of Maxwell's records")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of Maxwell's."""
    kind = document.get("type")
    if not (isinstance(kind, str) and "database" in document and "ts" in document):
        return False
    return kind.startswith(_DEFINITIONS) or isinstance(document.get("data"), dict)


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to, with its database; None of a record of no table."""
    database, table = document.get("database"), document.get("table")
    return f"{database}.{table}" if isinstance(database, str) and isinstance(table, str) else None


FORMAT = EventFormat("maxwell", Maxwell)
