"""Where a record goes that cannot be processed: the reason, and what is needed to send it again.

A quarantined record never blocks its neighbours. The original bytes are left out where they are above the broker's
limit; a redrive then reads the source topic at the origin. Those of a table with masks are sealed, or left out where
there is no key for that.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from schemas import versions
from schemas.errors import HeadgateError, PoisonRecord, kind_of

_ENCODER = msgspec.json.Encoder()
_OVERHEAD_BYTES = 8 * 1024  # what an entry holds beside the original bytes
_HEADERS_MAX = 50
_CHARACTER_BYTES_MAX = 6  # of a character in JSON: \u0001

Headers = Sequence[tuple[str, bytes | None]]
Seal = Callable[[bytes], bytes | None]  # what `packed` returns in, sealed bytes out; None where there is no key


class Quarantined(msgspec.Struct):
    """The value on the quarantine topic; `key` and `value` are base64, and null where they were left out.

    `row` says which change of its record it is, where NORMALIZE could read a record of several, and a later stage could
    not process one of them. `sealed` is base64 of what holds key, value and headers in their place (`packed`).
    `topic_id` is that of the origin's topic, where it was read there just then: in a topic of that id the record stands
    at its offset whatever generation it is read in. Entries of older releases do not say it.
    `time_ms` is the time that Kafka had of the record where it was read at first.
    """

    reason: str
    kind: str
    hint: str
    message: str
    stage: str
    table: str | None
    origin: tuple[str, int, int, int]
    at: str
    key: str | None
    value: str | None
    value_bytes: int
    headers: list[tuple[str, str | None]]
    redriven: tuple[str, int, int, int] | None = None  # where it was read when it failed again; `origin` is the first
    v: int = versions.QUARANTINED.writes
    row: int | msgspec.UnsetType = msgspec.UNSET
    sealed: str | msgspec.UnsetType = msgspec.UNSET
    topic_id: str | msgspec.UnsetType = msgspec.UNSET
    time_ms: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_whole(self) -> bool:
        """Tell whether it holds the record's own bytes, and all of its headers; sealed ones need a key."""
        if self.sealed:
            return True
        left_out = self.value is None and (self.value_bytes > 0 or self.key is None)
        return not left_out and len(self.headers) < _HEADERS_MAX


_DECODER = msgspec.json.Decoder(Quarantined)


def read_quarantined(value: bytes) -> Quarantined:
    """Return the entry that a record of the quarantine holds.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        msgspec.MsgspecError: it is no entry.
    """
    versions.QUARANTINED.check_json(value, "an entry of the quarantine")
    return _DECODER.decode(value)


def reason_of(error: BaseException) -> str:
    """Return the short name that a failed record is counted by."""
    return error.reason if isinstance(error, PoisonRecord) else "bug"


class Suspect(NamedTuple):
    """The record at fault, as it was read."""

    origin: tuple[str, int, int, int]
    key: bytes | None
    value: bytes | None
    headers: Headers
    redriven: tuple[str, int, int, int] | None = None
    row: int = 0
    time_ms: int = -1
    topic_id: str = ""  # empty where it is not known


class Packed(msgspec.Struct, array_like=True):
    """The own bytes of a record, as they are sealed."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    time_ms: int = -1


def packed(key: bytes | None, value: bytes | None, headers: Headers, time_ms: int = -1) -> bytes:
    """Return the own bytes of a record as one, and its time; `unpacked` reads them."""
    return msgspec.msgpack.encode(Packed(key, value, list(headers), time_ms))


def unpacked(data: bytes) -> Packed:
    """Return what `packed` was given."""
    return msgspec.msgpack.decode(data, type=Packed)


def quarantine_value(
    error: BaseException,
    record: Suspect,
    *,
    stage: str,
    table: str | None,
    at: float,
    message_bytes_max: int,
    seal: Seal | None = None,
) -> bytes:
    """Return the JSON of one entry, at most `message_bytes_max` long; `at` is in seconds since 1970.

    With a `seal` none of the record's own bytes stand in it but what that returns.
    """
    room = message_bytes_max - _OVERHEAD_BYTES
    sealed = _sealed(record, seal, room) if seal is not None else msgspec.UNSET
    fits = seal is None and _encoded_bytes(record) <= room
    ours = error if isinstance(error, HeadgateError) else None
    return _ENCODER.encode(
        Quarantined(
            reason=reason_of(error),
            kind=kind_of(error).value,
            hint=ours.hint if ours else "report it with the name of the error",
            # The text of a foreign error may repeat values of the row, so only its name goes out.
            message=ours.message if ours else type(error).__name__,
            stage=stage,
            table=table,
            origin=record.origin,
            at=datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            key=_base64(record.key) if fits else None,
            value=_base64(record.value) if fits else None,
            value_bytes=len(record.value or b""),
            headers=[(name, _base64(text)) for name, text in record.headers[:_HEADERS_MAX]] if fits else [],
            redriven=record.redriven,
            row=record.row or msgspec.UNSET,
            sealed=sealed,
            topic_id=record.topic_id or msgspec.UNSET,
            time_ms=msgspec.UNSET if record.time_ms < 0 else record.time_ms,
        )
    )


def _sealed(record: Suspect, seal: Seal, room: int) -> str | msgspec.UnsetType:
    if len(record.headers) >= _HEADERS_MAX or _encoded_bytes(record) > room:
        return msgspec.UNSET
    found = seal(packed(record.key, record.value, record.headers, record.time_ms))
    text = None if found is None else _base64(found)
    return msgspec.UNSET if text is None or len(text) > room else text


def _encoded_bytes(record: Suspect) -> int:
    parts = [record.key, record.value, *(text for _, text in record.headers[:_HEADERS_MAX])]
    names = sum(_CHARACTER_BYTES_MAX * len(name) + 16 for name, _ in record.headers[:_HEADERS_MAX])
    return names + sum((len(part or b"") + 2) // 3 * 4 for part in parts)


def _base64(text: bytes | None) -> str | None:
    return None if text is None else base64.b64encode(text).decode()
