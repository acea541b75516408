"""Qlik Replicate's JSON: one change a record, inside an envelope with headers; a full load comes as REFRESH.

A full load that begins after changes of the same table means that the source was read anew. The messages do not name
their table unless the task is told to write it among the columns, so a topic has one table.
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
from schemas.position import qlik_load_position, qlik_position

_MAGIC = "atMSG"
_CODES = {"REFRESH": "r", "INSERT": "c", "UPDATE": "u", "DELETE": "d"}
_KNOWN = tuple(_CODES)  # no dict: what is looked up may be a list


class Headers(msgspec.Struct, rename={"sequence": "changeSequence", "transaction": "transactionId"}, gc=False):
    """What is read of a message's headers; rows of a full load have no sequence, and may have no time."""

    operation: Literal["REFRESH", "INSERT", "UPDATE", "DELETE"]
    sequence: str | UnsetType | None = UNSET
    timestamp: str | UnsetType | None = UNSET
    transaction: str | UnsetType | None = UNSET


class Message(msgspec.Struct, rename={"before": "beforeData"}, gc=False):
    """A row that was changed; of a delete it is in `data`."""

    headers: Headers
    data: Image = UNSET
    before: Image = UNSET


class Envelope(msgspec.Struct, gc=False):
    """A record."""

    type: Literal["DT"]
    message: Message


class Qlik(ImageUnwrapper[Envelope]):
    """Reads the records of one table."""

    connector, envelope = "qlik", Envelope

    def take(self, offsets: list[int], index: int, envelope: Envelope, events: Events) -> None:
        """Add the change of a record."""
        message, headers = envelope.message, envelope.message.headers
        code, data, before = _CODES[headers.operation], given(message.data), given(message.before)
        time = _time(headers.timestamp or "", needed=code != "r")
        at = partial(qlik_position, self._epoch, headers.sequence or "")
        if code == "r":
            at = partial(qlik_load_position, self._epoch, time, offsets[index])
        after = data
        if code == "d":
            after, before = None, before if data is None else data
        self._images.add(events, index, RowChange(code, at, time, after, before, headers.transaction or None))
        if code == "r":
            events.initial.add(len(events.indices) - 1)

    @staticmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row."""
        if not isinstance(document, dict) or not looks_like(document):
            raise Rejection("not_a_change", "not one of Replicate's messages")
        if document["type"] != "DT":
            return "schema_change"
        message = document.get("message")
        headers = message.get("headers") if isinstance(message, dict) else None
        if isinstance(headers, dict) and headers.get("operation") not in _KNOWN:
            raise Rejection("unknown_op", "`operation` is none of REFRESH, INSERT, UPDATE, DELETE")
        raise Rejection("not_a_change", "a field of the message has another type than Replicate writes")


def _time(text: str, *, needed: bool) -> int:
    """Return a time in microseconds since 1970; it is UTC."""
    if not text and not needed:
        return 0
    try:
        return temporal.micros_of(text)
    except Rejection:
        raise Rejection("bad_time", "`timestamp` is no time") from None


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of Replicate's."""
    return document.get("magic") == _MAGIC and "type" in document


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table of a message about a table's structure; None of a change, which does not name it."""
    message = document.get("message")
    lineage = message.get("lineage") if isinstance(message, dict) else None
    if not isinstance(lineage, dict):
        return None
    schema, table = lineage.get("schema"), lineage.get("table")
    return f"{schema}.{table}" if isinstance(schema, str) and isinstance(table, str) else None


FORMAT = EventFormat("qlik", Qlik)
