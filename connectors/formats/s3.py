"""Notifications of Amazon S3: the objects of buckets as rows, bare or wrapped by SNS or SQS, several in one message.

A bucket's name and an object's key are the row's key. Of the order of changes S3 says a sequencer, which counts per
object.
"""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats import temporal
from connectors.formats.base import Records
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.inspection import inspect
from connectors.formats.objects import written
from connectors.formats.options import NoOptions, options_of
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.position import source_position
from schemas.table import TableEntry, TableSpec

COLUMNS = ("bucket", "key", "size", "etag", "version_id", "sequencer", "event_name", "event_time", "region")
RANK_DIGITS = 6
_EXACT = 2
_SEQUENCER = re.compile(r"[0-9A-Fa-f]{1,32}")
_SEQUENCER_HEX, _SEQUENCER_DIGITS = 32, 40
_CREATED, _REMOVED = "ObjectCreated:", ("ObjectRemoved:", "LifecycleExpiration:")
_WRAPPED_MAX = 2  # SNS inside SQS
_Text = str | UnsetType | None
_encode = msgspec.json.Encoder().encode


class Bucket(msgspec.Struct, rename="camel", gc=False):
    """`s3.bucket`."""

    name: str
    arn: _Text = UNSET
    owner_identity: msgspec.Raw | UnsetType = UNSET


class Object(msgspec.Struct, rename="camel", gc=False):
    """`s3.object`; the key is encoded as in a URL."""

    key: str
    size: int | UnsetType | None = UNSET
    e_tag: _Text = UNSET
    version_id: _Text = UNSET
    sequencer: _Text = UNSET


class S3(msgspec.Struct, gc=False):
    """`s3` of a notification."""

    bucket: Bucket
    object: Object
    version: _Text = msgspec.field(default=UNSET, name="s3SchemaVersion")
    configuration: _Text = msgspec.field(default=UNSET, name="configurationId")


class Notification(msgspec.Struct, rename="camel", gc=False):
    """What S3 says of one object."""

    event_name: str
    event_time: str
    s3: S3
    event_version: _Text = UNSET
    event_source: _Text = UNSET
    aws_region: _Text = UNSET
    user_identity: msgspec.Raw | UnsetType = UNSET
    request_parameters: msgspec.Raw | UnsetType = UNSET
    response_elements: msgspec.Raw | UnsetType = UNSET


class Message(msgspec.Struct, gc=False):
    """A message of notifications."""

    records: list[Notification] = msgspec.field(name="Records")


class Unwrapper:
    """Reads the notifications of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the columns of the spec; there are no options.

        Raises:
            ConfigurationError: the spec has options, or a column that S3 does not say.
        """
        options_of(entry.spec, NoOptions)
        self._columns = _checked(entry.spec)
        self._epoch, self._limits = entry.epoch, limits
        self._envelopes = Envelopes(Message, limits, _judge)

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events(connector="s3", ranked=RANK_DIGITS)
        unread: dict[int, Rejection] = {}
        values = [self._bare(index, value, unread) for index, value in enumerate(records.values())]
        found = self._envelopes.read(values, events)
        events.rejected |= unread
        for index, message in found:
            before = len(events.indices)
            for notification in message.records:
                try:
                    self._add(events, index, notification)
                except Rejection as fault:
                    events.rejected[index] = fault
            if len(events.indices) == before and index not in events.rejected:
                events.skipped[index] = "notification"
        return events

    def _bare(self, index: int, value: bytes | None, unread: dict[int, Rejection]) -> bytes | None:
        """Return a message without what SNS or SQS wrap around it; one that cannot be unwrapped is noted."""
        if value is None or not _is_wrapped(value) or len(value) > self._limits.record_bytes_max:
            return value
        try:
            return _unwrapped(value, self._limits.record_depth_max, _WRAPPED_MAX)
        except Rejection as fault:
            unread[index] = fault
        except (ValueError, OverflowError):  # half of a surrogate pair, or a number of more than 64 bits
            unread[index] = Rejection("broken_json", "what SNS or SQS wraps holds what no decoder reads")
        return b"{}"

    def _add(self, events: Events, index: int, one: Notification) -> None:
        name = one.event_name.removeprefix("s3:")
        code = "c" if name.startswith(_CREATED) else "d" if name.startswith(_REMOVED) else None
        if code is None:
            return  # tags, restores, replication: the object is as it was
        try:
            micros = temporal.micros_of(one.event_time)
        except Rejection:
            raise Rejection("bad_time", "`eventTime` is no time") from None
        row = self._row(one, name)
        side: dict[str, Any] = {"after": row} if code == "c" else {"before": row}
        events.add(index, code, self._position(one.s3.object.sequencer), micros, **side)
        events.source_name, events.source_table = one.aws_region or "", one.s3.bucket.name

    def _position(self, sequencer: Any) -> str:
        if not isinstance(sequencer, str) or not _SEQUENCER.fullmatch(sequencer):
            raise Rejection("bad_position", "the object has no sequencer of up to 32 hexadecimal digits")
        # Sequencers of different lengths are filled up at their end to be compared, as AWS says.
        number = int(sequencer.ljust(_SEQUENCER_HEX, "0"), 16)
        return source_position(self._epoch, (number, _SEQUENCER_DIGITS), streamed=True, exact=_EXACT)

    def _row(self, one: Notification, name: str) -> bytes:
        found, bucket = one.s3.object, one.s3.bucket
        try:
            key = unquote_plus(found.key, errors="strict")
        except UnicodeDecodeError:
            raise Rejection("not_utf8", "the object's key is no UTF-8 once it is decoded") from None
        values = {
            "bucket": bucket.name, "key": key, "size": found.size, "etag": found.e_tag, "version_id": found.version_id,
            "sequencer": found.sequencer, "event_name": name, "event_time": one.event_time, "region": one.aws_region,
        }  # fmt: skip
        return written({column: values[column] for column in self._columns if values[column] is not UNSET})


def _checked(spec: TableSpec) -> list[str]:
    for name in spec.columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"columns are {', '.join(COLUMNS)}"
            raise ConfigurationError(f"table {spec.table}: S3 does not say a column {name!r}", hint=hint)
    return list(spec.columns)


def _is_wrapped(value: bytes) -> bool:
    """Tell whether SNS or SQS may have wrapped a message; it is looked at in full then."""
    return b'"Message"' in value or b'"body"' in value


def _unwrapped(value: bytes, depth_max: int, layers: int) -> bytes:
    document = inspect(value, depth_max=depth_max)
    if layers and isinstance(document, dict):
        if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
            return _unwrapped(document["Message"].encode(), depth_max, layers - 1)
        bodies = _bodies(document)
        if bodies:
            inner = [inspect(_unwrapped(body, depth_max, layers - 1), depth_max=depth_max) for body in bodies]
            parts = [one.get("Records", []) for one in inner if isinstance(one, dict)]
            return _encode({"Records": [one for part in parts if isinstance(part, list) for one in part]})
    return value


def _bodies(document: dict[str, Any]) -> list[bytes]:
    records = document.get("Records")
    bodies = [one.get("body") for one in records if isinstance(one, dict)] if isinstance(records, list) else []
    return [body.encode() for body in bodies if isinstance(body, str)]


def _judge(document: Any) -> str:
    """Return the name of a message that says nothing of an object."""
    if isinstance(document, dict) and document.get("Event") == "s3:TestEvent":
        return "notification"
    if not isinstance(document, dict) or not isinstance(document.get("Records"), list):
        raise Rejection("not_a_change", "the message has no `Records`, so it is no notification of S3")
    raise Rejection("not_a_change", "one of `Records` is no notification of S3")


def _notifications(document: dict[str, Any]) -> list[Any]:
    try:
        value = _encode(document)
        document = inspect(_unwrapped(value, 100, _WRAPPED_MAX), depth_max=100) if _is_wrapped(value) else document
    except (Rejection, ValueError, OverflowError):  # as for `_bare`
        return []
    records = document.get("Records") if isinstance(document, dict) else None
    return records if isinstance(records, list) else []


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether a message is a notification of S3."""
    if document.get("Event") == "s3:TestEvent":
        return True
    found = _notifications(document)
    return bool(found) and all(isinstance(one, dict) and isinstance(one.get("s3"), dict) for one in found)


def table_of(document: dict[str, Any]) -> str | None:
    """Return the bucket that a message tells of; None if it names none."""
    for one in _notifications(document):
        bucket = one["s3"].get("bucket") if isinstance(one, dict) and isinstance(one.get("s3"), dict) else None
        if isinstance(bucket, dict) and isinstance(bucket.get("name"), str):
            return str(bucket["name"])
    return None


FORMAT = EventFormat("s3", Unwrapper)
