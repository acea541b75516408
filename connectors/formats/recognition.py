"""Which format records are in, told by how they look: one line per format, the first that fits.

A record that is none of a row (a heartbeat, a tombstone) says nothing. The names are those that `format:` of a spec
has or will have; whether a format is built is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from connectors.formats.inspection import is_block, side_record

LOOKS_MAX = 1_000  # records of a topic that are looked at until one is recognised
TOPICS_MAX = 10_000


class Recognizable(Protocol):
    """A record, of which nothing but topic and value is looked at."""

    topic: str
    value: bytes | None


Document = dict[str, Any]
_CONFLUENT_BYTES = 5
_GLUE_BYTES = 18


def _has(*names: str) -> Callable[[Document], bool]:
    wanted = frozenset(names)
    return lambda document: wanted <= document.keys()


def _is_envelope(document: Document) -> bool:
    return isinstance(document.get("source"), dict) and "op" in document


def _is_mongodb(document: Document) -> bool:
    source = document["source"] if _is_envelope(document) else {}
    return source.get("connector") == "mongodb"


def _is_dms(document: Document) -> bool:
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and "record-type" in metadata


def _is_maxwell(document: Document) -> bool:
    return {"database", "type", "ts"} <= document.keys() and "isDdl" not in document and "es" not in document


def _is_canal(document: Document) -> bool:
    return {"database", "type", "isDdl"} <= document.keys()


def _is_qlik(document: Document) -> bool:
    return document.get("magic") in {"atMSG", "atMSG2"}


def _is_flat(document: Document) -> bool:
    """Any other object: a bare row, as a transformation leaves it."""
    return bool(document)


# Of documents without their schema block; the first that holds.
LOOKS: list[tuple[str, Callable[[Document], bool]]] = [
    ("debezium-mongodb", _is_mongodb),
    ("debezium-json", _is_envelope),
    ("cloudevents-json", _has("specversion", "iodebeziumop")),
    ("debezium-flat", lambda document: not {"__op", "__deleted"}.isdisjoint(document)),
    ("dms", _is_dms),
    ("canal", _is_canal),
    ("maxwell", _is_maxwell),
    ("ogg", _has("op_type", "pos")),
    ("qlik", _is_qlik),
    ("sequin", _has("record", "action", "metadata")),
    ("opencdc", _has("operation", "payload", "position")),
    ("dynamodb", _has("eventName", "dynamodb")),
    ("s3", _has("Records")),
    ("debezium-flat", _is_flat),
]


def recognize(records: Iterable[Recognizable]) -> str | None:
    """Return the format of the first record that says it, None if none does."""
    return next((found for record in records if (found := look(record.value)) is not None), None)


def look(value: bytes | None) -> str | None:
    """Return the format of one record's value, None if it does not say it."""
    if not value:
        return None
    if value[0] == 0 and len(value) > _CONFLUENT_BYTES:
        return "debezium-avro"
    if value[0] == 3 and value[1:2] in {b"\x00", b"\x05"} and len(value) > _GLUE_BYTES:  # noqa: PLR2004 - AWS Glue's
        return "debezium-avro"
    try:
        document = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if is_block(document):
        document = document["payload"]
    if not isinstance(document, dict) or side_record(document) is not None:
        return None
    return next((name for name, fits in LOOKS if fits(document)), None)


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
        found = self.formats[record.topic] = look(record.value)
        return found
