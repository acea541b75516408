"""Sequin: one change of PostgreSQL a record, by its commit and its number in that; rows of a backfill are `read`.

What was before, and so the old key of a row whose key changed, is sent with REPLICA IDENTITY FULL only; without it a
large column that did not change is `"unchanged_toast"`, here unavailable. A truncate is not sent at all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats import temporal
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Events
from connectors.formats.images import Image, ImageUnwrapper, RowChange, given
from connectors.formats.reasons import Rejection
from schemas.position import sequin_position

_CODES = {"insert": "c", "update": "u", "delete": "d", "read": "r"}
_KNOWN = tuple(_CODES)  # no dict: what is looked up may be a list


class Metadata(
    msgspec.Struct, rename={"lsn": "commit_lsn", "number": "commit_idx", "time": "commit_timestamp"}, gc=False
):
    """Where a change comes from."""

    table_schema: str
    table_name: str
    time: str
    lsn: int | UnsetType | None = UNSET
    number: int | UnsetType | None = UNSET


class Message(msgspec.Struct, gc=False):
    """A record; `changes` are the columns that an update changed, as they were before."""

    action: Literal["insert", "update", "delete", "read"]
    metadata: Metadata
    record: Image = UNSET
    changes: Image = UNSET


class Sequin(ImageUnwrapper[Message]):
    """Reads the records of one table."""

    connector, envelope = "sequin", Message
    partial = True
    unsent = b'"unchanged_toast"'

    def take(self, offsets: list[int], index: int, message: Message, events: Events) -> None:
        """Add the change of a record."""
        source, code = message.metadata, _CODES[message.action]
        events.source_table = f"{source.table_schema}.{source.table_name}"
        time = _time(source.time)
        lsn, number = (time, offsets[index]) if code == "r" else (source.lsn, source.number)
        if not (isinstance(lsn, int) and isinstance(number, int)):
            raise Rejection("bad_position", "no `commit_lsn` or no `commit_idx`")
        at = partial(sequin_position, self._epoch, lsn, number, streamed=code != "r")
        record, changes = given(message.record), given(message.changes)
        after, before = (None, record) if code == "d" else (record, changes)
        self._images.add(events, index, RowChange(code, at, time, after, before))

    @staticmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row."""
        if not isinstance(document, dict) or not looks_like(document):
            raise Rejection("not_a_change", "not one of Sequin's messages")
        if document["action"] not in _KNOWN:
            raise Rejection("unknown_op", "`action` is none of insert, update, delete, read")
        raise Rejection("not_a_change", "a field of the message has another type than Sequin writes")


def _time(text: str) -> int:
    try:
        return temporal.micros_of(text)
    except Rejection:
        raise Rejection("bad_time", "`commit_timestamp` is no time") from None


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of Sequin's."""
    metadata = document.get("metadata")
    return {"action", "record"} <= document.keys() and isinstance(metadata, dict) and "commit_timestamp" in metadata


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table that a record belongs to, with its schema."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return None
    schema, table = metadata.get("table_schema"), metadata.get("table_name")
    return f"{schema}.{table}" if isinstance(schema, str) and isinstance(table, str) else None


FORMAT = EventFormat("sequin", Sequin)
