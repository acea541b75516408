"""Amazon DynamoDB: records of its streams, and what it writes to Kinesis Data Streams; typed attributes become rows.

An attribute that an item does not have is absent. A view without the new image says of an item no more than its key:
its other columns are unavailable.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.base import Records, origin_offsets
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.objects import elements, members, written
from connectors.formats.options import NoOptions, options_of
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import PoisonRecord
from schemas.position import source_position
from schemas.table import TableEntry

TTL_DELETE = "ttl_delete"
RANK_DIGITS = 6
_CODES = {"INSERT": "c", "MODIFY": "u", "REMOVE": "d"}
_SEQUENCE, _TIME, _OFFSET = 40, 20, 20
_EXACT, _WEAK = 2, 1
_TTL = "dynamodb.amazonaws.com"
_TABLE = re.compile(r"arn:[^:]*:dynamodb:[^:]*:[^:]*:table/([^/]+)")
_NUMBER = re.compile(rb'"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"')  # one that JSON takes as it is
_FACTORS = {"MILLISECOND": 1_000, "MICROSECOND": 1}
_SECOND = 1_000_000
_Text = str | None | UnsetType
_Raw = msgspec.Raw | UnsetType


class Change(msgspec.Struct, rename="pascal", gc=False):
    """`dynamodb` of a record."""

    keys: msgspec.Raw
    new_image: _Raw = UNSET
    old_image: _Raw = UNSET
    sequence_number: str | int | UnsetType | None = UNSET
    approximate_creation_date_time: int | float | UnsetType | None = UNSET
    approximate_creation_date_time_precision: _Text = UNSET
    stream_view_type: _Text = UNSET
    size_bytes: int | float | UnsetType | None = UNSET


class Record(msgspec.Struct, rename="camel", gc=False):
    """A record of a table's stream."""

    event_name: Literal["INSERT", "MODIFY", "REMOVE"]
    dynamodb: Change
    event_id: _Text = msgspec.field(default=UNSET, name="eventID")
    event_version: _Text = UNSET
    event_source: _Text = UNSET
    event_source_arn: _Text = msgspec.field(default=UNSET, name="eventSourceARN")
    aws_region: _Text = UNSET
    table_name: _Text = UNSET
    record_format: _Text = UNSET
    user_identity: _Raw = UNSET


class Unwrapper:
    """Reads the records of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare; there are no options.

        Raises:
            ConfigurationError: the spec has options.
        """
        options_of(entry.spec, NoOptions)
        self._epoch, self._columns, self._depth_max = entry.epoch, list(entry.spec.columns), limits.record_depth_max
        self._trusted = entry.spec.before == "full"
        self._envelopes = Envelopes(Record, limits, _judge)

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events(connector="dynamodb", ranked=RANK_DIGITS)
        values, offsets = records.values(), origin_offsets(records)
        found = self._envelopes.read(values, events)
        for index, record in found:
            try:
                self._add(events, index, record, offsets[index])
            except Rejection as fault:
                events.rejected[index] = fault
            except PoisonRecord:
                events.rejected[index] = Rejection("bad_time", "ApproximateCreationDateTime is out of range")
        if found:
            record = found[0][1]
            events.source_name = record.aws_region or ""
            events.source_table = record.table_name or _named_in(record.event_source_arn) or ""
        return events

    def _add(self, events: Events, index: int, record: Record, offset: int) -> None:
        change, code = record.dynamodb, _CODES[record.event_name]
        micros = _micros(record)
        position = self._position(change, micros, offset)
        keys = self._row(change.keys)
        after = before = None
        if code != "d":
            after = self._row(change.new_image) if change.new_image else keys
        if code == "d" or self._trusted:
            before = self._row(change.old_image) if self._trusted and change.old_image else keys
        place = events.add(index, code, position, micros, after=after, before=before if code != "c" else None)
        if code != "d" and not change.new_image:
            known = members(change.keys, depth_max=self._depth_max)
            events.unavailable[place] = [name for name in self._columns if name not in known]
        if code == "d" and record.user_identity and f'"{_TTL}"'.encode() in bytes(record.user_identity):
            events.noted[place] = TTL_DELETE

    def _position(self, change: Change, micros: int, offset: int) -> str:
        number = change.sequence_number
        if number is None or number is UNSET:
            return source_position(self._epoch, (micros, _TIME), (offset, _OFFSET), streamed=True, exact=_WEAK)
        text = str(number)
        if not (text.isascii() and text.isdecimal() and len(text) <= _SEQUENCE):
            raise Rejection("bad_position", f"the sequence number is none of up to {_SEQUENCE} digits")
        return source_position(self._epoch, (int(text), _SEQUENCE), streamed=True, exact=_EXACT)

    def _row(self, image: Any) -> bytes:
        """Return an image as a row: what is typed there as plain JSON."""
        depth_max = self._depth_max
        return written({
            name: _plain(typed, depth_max, nested=False) for name, typed in members(image, depth_max=depth_max).items()
        })  # fmt: skip


def _plain(typed: msgspec.Raw, depth_max: int, *, nested: bool) -> msgspec.Raw:
    """Return an attribute's value; a number is text in a row, where its column says what it is, else a JSON number."""
    if depth_max < 0:
        raise Rejection("too_deep", "an attribute is nested deeper than the limit")
    found = members(typed, depth_max=depth_max)
    if len(found) != 1:
        raise Rejection("bad_type", "an attribute has not one type")
    ((kind, value),) = found.items()
    match kind:
        case "S" | "B" | "BOOL" | "SS" | "BS":
            return value
        case "N":
            return _number(value) if nested else value
        case "NULL":
            return msgspec.Raw(b"null")
        case "NS":
            return _array(map(_number, elements(value)))
        case "L":
            return _array(_plain(one, depth_max - 1, nested=True) for one in elements(value))
        case "M":
            inner = members(value, depth_max=depth_max)
            return msgspec.Raw(written({name: _plain(one, depth_max - 1, nested=True) for name, one in inner.items()}))
    raise Rejection("bad_type", "an attribute has a type that DynamoDB does not have")


def _array(values: Any) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join(values) + b"]")


def _number(value: msgspec.Raw) -> msgspec.Raw:
    match = _NUMBER.fullmatch(bytes(value))
    return msgspec.Raw(match[1]) if match else value


def _micros(record: Record) -> int:
    """Return when the change was made; streams write seconds, and Kinesis what it says, else milliseconds."""
    change = record.dynamodb
    time = change.approximate_creation_date_time
    if time is None or time is UNSET:
        raise Rejection("bad_time", "`dynamodb` has no ApproximateCreationDateTime")
    precision = change.approximate_creation_date_time_precision
    if precision:
        factor = _FACTORS.get(precision)
        if factor is None:
            raise Rejection("bad_time", "ApproximateCreationDateTimePrecision is one that is not known")
    else:
        factor = _SECOND if change.sequence_number else _FACTORS["MILLISECOND"]
    try:
        return round(time * factor)
    except OverflowError:
        raise Rejection("bad_time", "ApproximateCreationDateTime is out of range") from None


def _named_in(arn: Any) -> str | None:
    match = _TABLE.match(arn) if isinstance(arn, str) else None
    return match[1] if match else None


def _judge(document: Any) -> str:
    """Return the name of a record that is no change of an item."""
    if not isinstance(document, dict) or not isinstance(change := document.get("dynamodb"), dict):
        raise Rejection("not_a_change", "the record has no `dynamodb`, so it is none of a table's stream")
    if document.get("eventName") not in list(_CODES):
        raise Rejection("unknown_op", "`eventName` is none of INSERT, MODIFY, REMOVE")
    if "Keys" not in change:
        raise Rejection("no_key", "`dynamodb` has no `Keys`")
    raise Rejection("not_a_change", "a field has another type than DynamoDB writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a record is one of a DynamoDB table."""
    return "eventName" in document and isinstance(document.get("dynamodb"), dict)


def table_of(document: dict[str, Any]) -> str | None:
    """Return the table of a record; None if it names none."""
    name = document.get("tableName")
    return name if isinstance(name, str) else _named_in(document.get("eventSourceARN"))


FORMAT = EventFormat("dynamodb", Unwrapper)
