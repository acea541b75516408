"""The slow and exact look at one record: why the fast decoder refused it, or whether its keys are all different.

msgspec takes the last of two equal keys without a word. A full look at each record costs more than decoding it, so
colons are counted instead: those of a record, less those inside its values, are as many as its keys. A record with
another number than the last one that was found clean is looked at in full. `inspect` is that look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

from connectors.formats.reasons import Rejection

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_INT_DIGITS_MAX = 4_000  # Python itself refuses more


class _Duplicate(Exception):
    """A key stands twice in one object."""


def depth_of(value: bytes, *, enough: int) -> int:
    """Return how deep the JSON of `value` nests; counting stops above `enough`."""
    if value.count(b"[") + value.count(b"{") <= enough:
        return 0
    deepest = depth = 0
    for bracket in _STRINGS.sub(b"", value).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > enough:
                return deepest
        else:
            depth -= 1
    return deepest


def inspect(value: bytes, *, depth_max: int) -> Any:
    """Return what the JSON of `value` says, with every rule of JSON enforced and no key twice in an object.

    Raises:
        Rejection: `not_utf8`, `too_deep`, `duplicate_keys` or `broken_json`, with the place but no value.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Rejection("not_utf8", f"not UTF-8 at byte {exc.start} of {len(value)}") from None
    if depth_of(value, enough=depth_max) > depth_max:
        raise Rejection("too_deep", f"nested deeper than {depth_max} levels")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=str
        )
    except _Duplicate:
        raise Rejection("duplicate_keys", "a key stands twice in one object") from None
    except json.JSONDecodeError as exc:
        raise Rejection("broken_json", f"not JSON at character {exc.pos} of {len(text)}") from None
    except RecursionError:
        raise Rejection("too_deep", "nested deeper than Python reads") from None


def check_names(names: Iterable[str]) -> None:
    """Check names of columns that a record brings along: they are told in the status, and in messages of errors.

    Raises:
        Rejection: `broken_json`, one holds half of a surrogate pair, which is no character.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise Rejection("broken_json", "the name of a column holds half of a surrogate pair") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Duplicate
    return found


def _no_constant(_name: str) -> Any:
    raise Rejection("broken_json", "a bare NaN or Infinity is not JSON")


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _INT_DIGITS_MAX else 1 << 64


def is_block(document: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a document is a payload behind its schema block."""
    return isinstance(document, dict) and "schema" in document and "payload" in document and "op" not in document


def side_kind(value: bytes | None, *, depth_max: int) -> str | None:
    """Return the name of a record, of a topic that no table reads, that is no change of a row; None if it may be one.

    Rows of the connector's own table of signals are `signal` there: whoever wants them as rows names their topic.

    Raises:
        Rejection: it is no JSON.
    """
    document = None if value is None else inspect(value, depth_max=depth_max)
    if is_block(document):
        document = document["payload"]
    if document is None:
        return "tombstone"
    if not isinstance(document, dict):
        return None
    return side_record(document) or ("signal" if _is_signal_envelope(document) or _is_signal_flat(document) else None)


def side_record(document: dict[str, Any]) -> str | None:
    """Return the name of a record that is no change of a row, such as `heartbeat`, None if it is not known as one."""
    if document.get("op") == "m" and "message" in document:
        return "message"
    keys = document.keys()
    if "op" in keys:
        return None
    for name, needed, all_of_them in _SIDE_RECORDS:
        if needed <= keys <= all_of_them:
            return name if name != "signal" or _is_signal(document) else None
    return None


_SIDE_RECORDS = tuple(
    (name, frozenset(needed.split()), frozenset(f"{needed} {more}".split()))
    for name, needed, more in (
        ("heartbeat", "ts_ms", "ts_us ts_ns"),
        ("transaction", "status id", "ts_ms ts_us ts_ns event_count data_collections"),
        (
            "schema_change",
            "source databaseName",
            "ddl tableChanges schemaName ts_ms ts_us ts_ns position database charset",
        ),
        ("notification", "id type aggregate_type", "additional_data timestamp"),
        ("signal", "type data", "id"),
    )
)
_SIGNALS = frozenset(
    {
        "log",
        "schema-changes",
        "execute-snapshot",
        "stop-snapshot",
        "pause-snapshot",
        "resume-snapshot",
        "snapshot-window-open",
        "snapshot-window-close",
    }
)


def _is_signal(document: dict[str, Any]) -> bool:
    """Tell a signal from a row of a table that happens to have its columns; a signal's own data is an object."""
    kind = document["type"]
    return isinstance(document["data"], dict) or (isinstance(kind, str) and kind in _SIGNALS)


def _is_signal_envelope(envelope: dict[str, Any]) -> bool:
    """Tell whether a change is one of the table of signals."""
    deleted = envelope.get("op") == "d"
    return is_signal_row(envelope.get("before") if deleted else envelope.get("after"), deleted=deleted)


def _is_signal_flat(document: dict[str, Any]) -> bool:
    """Tell the same of a flattened record, whatever the transformation added to its row."""
    row = {name: value for name, value in document.items() if not name.startswith("__")}
    return is_signal_row(row, deleted=document.get("__deleted") == "true")


def is_signal_row(row: Any, *, deleted: bool) -> bool:
    """Tell whether a row is one of the table of signals; Oracle's columns are in upper case."""
    if not isinstance(row, dict):
        return False
    lower = {name.lower(): value for name, value in row.items()}
    # A deleted row has its key at least; what the source did not log of it is null, or empty.
    known = _SIGNALS | {None, ""} if deleted else _SIGNALS
    kind = lower.get("type")
    return lower.keys() == {"id", "type", "data"} and (kind is None or isinstance(kind, str)) and kind in known
