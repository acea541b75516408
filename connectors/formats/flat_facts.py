"""What Debezium's flattening (ExtractNewRecordState) was told to add to a row or its headers, and the source it makes.

Which fields and headers there are is the transformation's setting (`add.fields`, `add.headers`): each is found by its
name, `__lsn` or `__source_lsn`, whatever prefix or other name the spec says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from pydantic import Field

from connectors.formats.envelope import Block
from schemas.document import Strict

Facts = dict[str, bytes]  # of each, its JSON
NULL = b"null"
DELETED = "__deleted"  # it has no other prefix
_NUMBERS = frozenset({"lsn", "pos", "row", "event_serial_no", "txSeq", "ts_us", "ts_ms", "ts_ns"})
_TIMES = {"ts_us": (1, 1), "ts_ms": (1_000, 1), "ts_ns": (1, 1_000)}
_NAMED = ("name", "db", "schema", "table")
# What a position is made of, by connector, and what else is passed on of its source.
_PLACES: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "postgresql": (frozenset({"lsn"}), ("lsn", "sequence", "txId")),
    "mysql": (frozenset({"file", "pos", "row"}), ("file", "pos", "row", "gtid")),
    "mariadb": (frozenset({"file", "pos", "row"}), ("file", "pos", "row", "gtid")),
    "sqlserver": (
        frozenset({"commit_lsn", "change_lsn", "event_serial_no"}),
        ("commit_lsn", "change_lsn", "event_serial_no"),
    ),
    "oracle": (frozenset({"scn", "commit_scn"}), ("scn", "commit_scn", "txSeq", "txId")),
    "db2": (frozenset({"commit_lsn", "change_lsn"}), ("commit_lsn", "change_lsn")),
}
_GUESSED = ("postgresql", "mysql", "sqlserver", "oracle")  # the connectors that are known by their fields alone
_SOURCE = ("connector", "snapshot", *_NAMED, *dict.fromkeys(name for _, names in _PLACES.values() for name in names))
_OTHERS = ("op", "transaction_id")
_block = msgspec.json.Decoder(Block).decode


class FlatOptions(Strict):
    """How the transformation was set: `prefix` is `add.fields.prefix`, `fields` names what was renamed (`lsn: LSN`)."""

    prefix: str = "__"
    header_prefix: str = "__"
    fields: dict[str, str] = Field(default_factory=dict)
    connector: Literal["postgresql", "mysql", "mariadb", "sqlserver", "oracle", "db2"] | None = None
    order: Literal["auto", "offset"] = "auto"


def names_of(prefix: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return which fact each name is, of fields or of headers; `source.ts_ms` is the commit's time, `ts_ms` is not."""
    found = {f"{prefix}{name}": name for name in _OTHERS}
    for name in _SOURCE:
        found |= {f"{prefix}{name}": name, f"{prefix}source_{name}": name}
    for name in _TIMES:
        found |= {f"{prefix}source_{name}": name, f"{prefix}{name}": f"processed_{name}"}
    return found | {named: name for name, named in renamed.items()}


def known_facts() -> set[str]:
    """Return what `fields` of the options may name."""
    return set(_SOURCE) | set(_OTHERS) | set(_TIMES)


def header_facts(headers: Iterable[tuple[str, bytes | None]] | None, names: Mapping[str, str]) -> Facts:
    """Return the facts of headers, whose texts may be bare, as JSON, or JSON behind a schema block."""
    return {names[name]: _header(names[name], value) for name, value in headers or () if name in names}


def _header(fact: str, value: bytes | None) -> bytes:
    if value is None:
        return NULL
    if value.startswith(b"{"):
        try:
            value = bytes(_block(value).payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return NULL
    if value == NULL or _is_text(value) or (fact in _NUMBERS and value.isdigit()):
        return value
    return msgspec.json.encode(value.decode("utf-8", "replace"))


def _is_text(value: bytes) -> bool:
    try:
        return value.startswith(b'"') and isinstance(msgspec.json.decode(value), str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def text_of(facts: Facts, name: str) -> str:
    """Return a fact that is a text, and nothing of any other."""
    raw = facts.get(name, NULL)
    return str(msgspec.json.decode(raw)) if raw.startswith(b'"') else ""


def placed_by(facts: Facts, connector: str | None) -> str | None:
    """Return the connector whose place of a change is all there; a fact that is null is there."""
    for name in (connector,) if connector else _GUESSED:
        if name in _PLACES and facts.keys() >= _PLACES[name][0]:
            return name
    return None


def micros_of(facts: Facts) -> int | None:
    """Return when the change was committed, else when the connector processed it, in microseconds since 1970."""
    for prefix in ("", "processed_"):
        for name, (factor, divisor) in _TIMES.items():
            raw = facts.get(f"{prefix}{name}", NULL).strip(b'"')
            if raw.lstrip(b"-").isdigit() and len(raw) <= 20:  # noqa: PLR2004 - as many as 64 bits have
                return int(raw) * factor // divisor
    return None


def source_of(facts: Facts, connector: str, micros: int) -> bytes:
    """Return the `source` of an envelope with these facts; of one connector it has always the same fields."""
    found = {name: facts.get(name, NULL) for name in ("snapshot", *_NAMED, *_PLACES[connector][1])}
    transaction = text_of(facts, "transaction_id")
    if transaction:
        name = "gtid" if "gtid" in found else "txId"
        if found.get(name) == NULL:  # PostgreSQL's is id:LSN, and the LSN differs from change to change
            found[name] = msgspec.json.encode(
                transaction.partition(":")[0] if connector == "postgresql" else transaction
            )
    if connector == "postgresql" and facts.get("lsn") == NULL == facts.get("sequence", NULL) and _is_read(facts):
        found |= {"lsn": b"0", "snapshot": b'"incremental"'}  # only those have no place: below all that was streamed
    found["connector"] = msgspec.json.encode(connector)
    found["ts_us"] = b"%d" % micros
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in found.items()) + b"}"


def _is_read(facts: Facts) -> bool:
    """Tell whether a row was read, not changed."""
    return facts.get("op") == b'"r"' or facts.get("snapshot", NULL) not in {NULL, b'"false"', b"false"}
