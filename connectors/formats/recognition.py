"""Which format records are in, told by how they look: one line per format, the first that fits.

A record that is none of a row (a heartbeat, a tombstone) says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from connectors import wire
from connectors.formats import canal, cloudevents, dms, dynamodb, goldengate, maxwell, mongodb, qlik, s3, sequin
from connectors.formats.debezium_avro import DebeziumAvro
from connectors.formats.debezium_flat import DebeziumFlat
from connectors.formats.debezium_json import DebeziumJson
from connectors.formats.inspection import is_block, side_record
from connectors.formats.mongodb import DEBEZIUM_MONGODB
from connectors.formats.reasons import Rejection

LOOKS_MAX = 1_000  # records of a topic that are looked at until one is recognised
TOPICS_MAX = 10_000


Headers = Sequence[tuple[str, bytes | None]]


class Recognizable(Protocol):
    """A record, of which topic, value and headers are looked at."""

    topic: str
    value: bytes | None

    def headers(self, index: int, /) -> Headers | None:
        """Return its headers; `index` is 0."""


Document = dict[str, Any]
_CONFLUENT_BYTES = 5
_GUID_BYTES = 17
_GLUE_BYTES = 18


def _is_envelope(document: Document) -> bool:
    return isinstance(document.get("source"), dict) and "op" in document


def _is_flat(document: Document) -> bool:
    """Any other object: a bare row, as a transformation leaves it."""
    return bool(document)


# Of documents without their schema block; the first that holds.
LOOKS: list[tuple[str, Callable[[Document], bool]]] = [
    (DEBEZIUM_MONGODB.name, mongodb.looks_like),
    (DebeziumJson.name, _is_envelope),
    (cloudevents.FORMAT.name, cloudevents.looks_like),
    (DebeziumFlat.name, lambda document: not {"__op", "__deleted"}.isdisjoint(document)),
    (dms.FORMAT.name, dms.looks_like),
    (canal.FORMAT.name, canal.looks_like),
    (maxwell.FORMAT.name, maxwell.looks_like),
    (goldengate.FORMAT.name, goldengate.looks_like),
    (qlik.FORMAT.name, qlik.looks_like),
    (sequin.FORMAT.name, sequin.looks_like),
    (dynamodb.FORMAT.name, dynamodb.looks_like),
    (s3.FORMAT.name, s3.looks_like),
    (DebeziumFlat.name, _is_flat),
]


def recognize(records: Iterable[Recognizable]) -> str | None:
    """Return the format of the first record that says it, None if none does."""
    return next(
        (found for record in records if (found := look(record.value, record.headers(0) or ())) is not None), None
    )


def look(value: bytes | None, headers: Headers = ()) -> str | None:
    """Return the format of one record's value, None if it does not say it."""
    if not value:
        return None
    if _is_framed(value, headers):
        return DebeziumAvro.name
    try:
        document = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if is_block(document):
        document = document["payload"]
    if not isinstance(document, dict) or side_record(document) is not None:
        return None
    return next((name for name, fits in LOOKS if fits(document)), None)


def _is_framed(value: bytes, headers: Headers) -> bool:
    """Tell whether the id of a schema stands before the value, or in its headers."""
    match value[:1]:
        case b"\x00":
            framed = len(value) > _CONFLUENT_BYTES
        case b"\x01":
            framed = len(value) > _GUID_BYTES
        case b"\x03":
            framed = len(value) > _GLUE_BYTES and value[1:2] in {b"\x00", b"\x05"}
        case _:
            framed = False
    try:
        return framed or (bool(headers) and wire.of_headers(headers, "value") is not None)
    except Rejection:
        return True


class Recognizer:
    """Recognises the format of each topic by its first record that says it."""

    def __init__(self) -> None:
        """Know no topic."""
        self.formats: dict[str, str | None] = {}
        self._looks: dict[str, int] = {}

    def format_of(self, record: Recognizable) -> str | None:
        """Return the format of the record's topic as far as it is known, this record included."""
        known = self.formats.get(record.topic)
        if known is not None:
            return known
        looks = self._looks.get(record.topic, 0)
        if looks >= LOOKS_MAX or (not looks and len(self._looks) >= TOPICS_MAX):
            return None
        self._looks[record.topic] = looks + 1
        found = self.formats[record.topic] = look(record.value, record.headers(0) or ())
        return found
