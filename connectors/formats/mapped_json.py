"""The format `json`: changes in a JSON of your own making, for tables that have no tool to capture them.

The spec's options say by paths where row, operation, time, position and key stand (json_options.py). There are no
expressions: what needs one belongs to the producer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from connectors.formats import plain, temporal
from connectors.formats.base import Records, origin_offsets
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events
from connectors.formats.inspection import inspect
from connectors.formats.json_options import OFFSET, JsonOptions, Part
from connectors.formats.objects import members, written
from connectors.formats.options import options_of
from connectors.formats.paths import Paths, names_of
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError, PoisonRecord
from schemas.position import source_position
from schemas.table import TableEntry, TableSpec

RANK_DIGITS = 6
_CODES = {"insert": "c", "update": "u", "delete": "d", "snapshot": "r"}
_EXACT, _WEAK, _NONE = 2, 1, 0
_OFFSET_DIGITS = 20
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NANOS = 1_000
_DIGITS, _HEX = re.compile(r"[0-9]{1,100}"), re.compile(r"[0-9A-Fa-f]{1,80}")


class Unwrapper:
    """Reads the records of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the paths of the spec.

        Raises:
            ConfigurationError: an option is none, or a path or a column of the key is not one.
        """
        self._options = options = options_of(entry.spec, JsonOptions)
        self._epoch, self._depth_max, self._key = entry.epoch, limits.record_depth_max, entry.spec.key
        if isinstance(options.key, dict) and set(options.key) != set(self._key):
            raise ConfigurationError(
                f"table {entry.spec.table}, options of json: key names {', '.join(options.key) or 'nothing'}",
                hint=f"it names each column of the spec's key: {', '.join(self._key) or 'there is none'}",
            )
        self._paths = Paths(options.paths())
        self._envelopes = Envelopes(msgspec.Raw, limits, _judge)

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events(connector="json", ranked=RANK_DIGITS)
        values, offsets = records.values(), origin_offsets(records)
        for index, _ in self._envelopes.read(values, events):
            value = values[index] or b""
            try:
                change = _Change(self._paths, value, self._paths.read(value, depth_max=self._depth_max))
                self._add(events, index, change, offsets[index])
            except Rejection as fault:
                events.rejected[index] = fault
            except (msgspec.MsgspecError, RecursionError):
                events.rejected[index] = self._misfit(value)
        return events

    def _add(self, events: Events, index: int, change: _Change, offset: int) -> None:
        """Add the change of a record, or skip it."""
        options = self._options
        word = self._word(change)
        if word == "skip":
            events.skipped[index] = "notification"
            return
        code = _CODES[word]
        micros = _micros(change.wanted(options.time.path, "time", "bad_time"), options.time.unit)
        position = self._position(change, offset, snapshot=code == "r")
        row = change.row(options.row)
        if row is None and code != "d":
            raise Rejection("no_row", f"row: {options.row} finds nothing")
        key = self._key_of(change)
        before = change.row(options.before) if options.before else None
        if code == "d":
            row, before = None, next((one for one in (before, row, key) if one is not None), None)
        place = events.add(
            index, code, position, micros, after=row, before=before, snapshot=code == "r",
            transaction=change.text(options.transaction),
        )  # fmt: skip
        if key is not None:
            events.keys.append(key)
        if code == "r":
            events.initial.add(place)
        if not events.source_table:
            events.source_table = ".".join(change.text(path) or "" for path in options.tables)

    def _word(self, change: _Change) -> str:
        operation = self._options.operation
        if operation is None:
            return "update"
        text = plain.text_of(change.wanted(operation.path, "operation", "no_op"))
        word = operation.words.get(text or "")
        if word is None:
            raise Rejection("unknown_op", f"operation: {operation.path} holds a word that `words` does not have")
        return word

    def _key_of(self, change: _Change) -> bytes | None:
        """Return the key as an object of its columns, None where no option says where it is."""
        key = self._options.key
        if key is None or not self._key:
            return None
        if isinstance(key, dict):
            return written({name: change.wanted(path, f"key.{name}", "no_key") for name, path in key.items()})
        found = members(change.wanted(key, "key", "no_key"), depth_max=self._depth_max)
        missing = [name for name in self._key if name not in found]
        if missing:
            raise Rejection("no_key", f"key: {key} has no {', '.join(missing)}")
        return written({name: found[name] for name in self._key})

    def _position(self, change: _Change, offset: int, *, snapshot: bool) -> str:
        parts = [(self._number(change, part, snapshot=snapshot), part.digits) for part in self._options.parts]
        exact = _EXACT if parts else _NONE
        if not parts or self._options.position[-1] == OFFSET:
            parts.append((offset, _OFFSET_DIGITS))
            exact = min(exact, _WEAK)
        try:
            return source_position(self._epoch, *parts, streamed=not snapshot, exact=exact)
        except PoisonRecord:
            raise Rejection("bad_position", "position: a part is negative, or has more digits than declared") from None

    def _number(self, change: _Change, part: Part, *, snapshot: bool) -> int:
        raw = change.find(part.path)
        if raw is None and snapshot:
            return 0
        if raw is None:
            raise Rejection("bad_position", f"position: {part.path} finds nothing")
        try:
            return _PART_READERS[part.kind](raw)
        except (Rejection, ValueError):
            raise Rejection("bad_position", f"position: {part.path} is no {part.kind}") from None

    def _misfit(self, value: bytes) -> Rejection:
        """Return why a path does not lead through a record."""
        try:
            document = inspect(value, depth_max=self._depth_max)
        except Rejection as fault:
            return fault
        for path in self._options.paths():
            node, walked = document, "$"
            for name in names_of(path):
                if node is not None and not isinstance(node, dict):
                    return Rejection("not_a_change", f"{walked} is no object, and {path} leads through it")
                node, walked = (node or {}).get(name), f"{walked}.{name}"
        return Rejection("not_a_change", "the record is no JSON object")


class _Change:
    """A record, and what its paths lead to."""

    def __init__(self, paths: Paths, value: bytes, found: list[Any]) -> None:
        self._paths, self._value, self._found = paths, value, found

    def find(self, path: str) -> Any:
        """Return the JSON at a path, None where there is nothing or null."""
        return self._paths.find(self._value, self._found, path)

    def wanted(self, path: str, what: str, reason: str) -> Any:
        """Return the JSON at a path that must lead somewhere.

        Raises:
            Rejection: it finds nothing.
        """
        found = self.find(path)
        if found is None:
            raise Rejection(reason, f"{what}: {path} finds nothing")
        return found

    def text(self, path: str | None) -> str | None:
        """Return the text at a path, None where there is none."""
        found = None if path is None else self.find(path)
        return None if found is None else plain.text_of(found)

    def row(self, path: str) -> Any:
        """Return the object at a path, which may stand in a text."""
        found = self.find(path)
        if found is None or not bytes(found).startswith(b'"'):
            return found
        return (plain.text_of(found) or "").encode()


def _number(raw: Any) -> int:
    """Return a whole number of up to 100 digits, or of 64 bits however it is written."""
    text = plain.text_of(raw) or ""
    return int(text) if _DIGITS.fullmatch(text) else int(plain.long_of(raw) or "")


def _hex(raw: Any) -> int:
    text = plain.text_of(raw) or ""
    if not _HEX.fullmatch(text):
        raise ValueError("not hexadecimal")
    return int(text, 16)


_PART_READERS: dict[str, Callable[[Any], int]] = {
    "number": _number, "hex": _hex, "time": lambda raw: temporal.micros_of(plain.text_of(raw) or ""),
}  # fmt: skip


def _micros(raw: Any, unit: str) -> int:
    try:
        if unit == "iso":
            return temporal.micros_of(plain.text_of(raw) or "")
        number = plain.number_of(raw)
        assert number is not None, "the path found something"
        return int(number / _NANOS if unit == "ns" else number * _MICROS[unit])
    except (Rejection, ValueError, ArithmeticError):
        raise Rejection("bad_time", f"time: what stands there is no time of unit {unit}") from None


def _judge(_document: Any) -> str:
    raise Rejection("not_a_change", "the record is no JSON object")


def looks_like(_document: dict[str, Any]) -> bool:
    """Tell that no record is known by its shape: only people know what theirs means."""
    return False


def table_of(document: dict[str, Any], spec: TableSpec) -> str | None:
    """Return the source table of a record by the `table` option of a spec; None if it is not there."""
    found = []
    for path in options_of(spec, JsonOptions).tables:
        node: Any = document
        for name in names_of(path):
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, str):
            return None
        found.append(node)
    return ".".join(found) or None


FORMAT = EventFormat("json", Unwrapper)
