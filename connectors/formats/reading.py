"""From bytes to decoded envelopes: which layout fits, what is no change at all, and why a record is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from connectors.formats.envelope import DIALECTS, SOURCES, Block, Layout, layout
from connectors.formats.inspection import check_names, inspect, is_block, side_record
from connectors.formats.keys import wire_columns
from connectors.formats.placeholder import Placeholder
from connectors.formats.reasons import Rejection
from connectors.formats.rows import RowPlan, can_be_named, row_plan
from connectors.formats.schemablock import payloads_behind, prefix_of, row_fields
from connectors.formats.traps import defaults_of
from connectors.formats.unknown import check_unknown
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableSpec

LAYOUTS_KEPT = 64
LAYOUTS_TRIED = 8
IGNORED_MAX = 100  # so many unknown columns are cheaper to carry past than to look at each record in full
OPERATIONS = frozenset("cudrtm")
WITH_ROW = frozenset("cur")

_TOO_MUCH = (
    *("Integer value out of range", "Number out of range"),
    *("Expected `int` <", "Expected `int` >", "Expected `float` <", "Expected `float` >"),
)
_TIME_FIELDS = frozenset({"ts_ms", "ts_us"})


@dataclass(slots=True)
class Reading:
    """What became of each record: an entry (an envelope) that belongs to a layout, or None and a place below."""

    joined: bytes = b""  # all values together, if they were joined: what is rare is looked for in them at once
    entries: list[Any] = field(default_factory=list)
    members: dict[Layout, list[int]] = field(default_factory=dict)
    rejected: dict[int, Rejection] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    unknown_columns: set[str] = field(default_factory=set)

    def belongs(self, layout_: Layout, start: int, stop: int) -> None:
        """Note that the entries from `start` up to `stop` were read with a layout."""
        if start < stop:
            self.members.setdefault(layout_, []).extend(range(start, stop))
            self.unknown_columns.update(layout_.unknown)


class Reader:
    """Reads the records of a table with the layout that fitted last; another is tried, or made, where it does not."""

    def __init__(
        self,
        spec: TableSpec,
        limits: LimitsConfig,
        *,
        fields_of: Callable[[Any], dict[str, Any] | None] = row_fields,
    ) -> None:
        """Prepare for records of PostgreSQL without a schema block; `fields_of` reads the fields of rows out of one.

        Raises:
            ConfigurationError: an encoding does not fit its column.
        """
        self._spec, self._limits, self._fields_of = spec, limits, fields_of
        self._placeholder = Placeholder(spec.unavailable_placeholder)
        self._trusted = spec.before == "full"
        self._layouts: dict[Any, Layout] = {}
        self._current = self._made("postgresql", b"", None, frozenset(), ())

    def read(self, values: list[bytes | None]) -> Reading:
        """Return what became of each value."""
        reading = Reading()
        entries = reading.entries
        remaining = iter(self._screened(values, reading))
        while True:
            current, start = self._current, len(entries)
            payloads = payloads_behind(current.prefix, remaining) if current.prefix else remaining
            try:
                entries.extend(map(current.decode, payloads))
            except Exception:  # noqa: BLE001 - whatever is wrong with this record: `_slow` decides
                stop = len(
                    entries
                )  # `extend` keeps what came before the record at fault, and `remaining` stands behind it
                reading.belongs(current, start, stop)
                entries.append(self._slow(values[stop], stop, reading))
                continue
            reading.belongs(current, start, len(entries))
            assert len(entries) == len(values), "each record has an entry"
            return reading

    def _screened(self, values: list[bytes | None], reading: Reading) -> list[bytes]:
        """Return the values; empty, which is no JSON, where they are not to be decoded."""
        largest = self._limits.record_bytes_max
        found: list[bytes] = [value or b"" for value in values] if None in values else values  # type: ignore[assignment]
        if max(map(len, found), default=0) > largest:
            found = [value if len(value) <= largest else b"" for value in found]
        if self._current.prefix:  # joining records that are mostly a schema block costs more than it saves
            ascii_only = all(map(bytes.isascii, found))
        else:
            reading.joined = b"".join(found)
            ascii_only = reading.joined.isascii()
        if not ascii_only:
            found = [value if value.isascii() or _is_utf8(value) else b"" for value in found]
        return found

    def _slow(self, value: bytes | None, index: int, reading: Reading) -> Any:
        try:
            if value is None:
                reading.skipped[index] = "tombstone"
                return None
            if len(value) > self._limits.record_bytes_max:
                raise Rejection("too_large", f"{len(value)} bytes, above {self._limits.record_bytes_max}")  # noqa: TRY301
            if (entry := self._tried(value, index, reading)) is not None:
                return entry
            return self._judged(value, index, reading)
        except Rejection as exc:
            reading.rejected[index] = exc
            return None

    def _tried(self, value: bytes, index: int, reading: Reading) -> Any:
        """Return the entry that another layout makes of the record, if one fits."""
        if not _is_utf8(value):
            return None
        for known in list(self._layouts.values())[: -LAYOUTS_TRIED - 1 : -1]:
            if known is self._current or not known.exact:
                continue
            try:
                entry = known.read(value)
            except Exception:  # noqa: BLE001, S112 - it does not fit; the full look decides
                continue
            self._current = known
            reading.belongs(known, index, index + 1)
            return entry
        return None

    def _judged(self, value: bytes, index: int, reading: Reading) -> Any:
        """Return the entry of a record after a full look at it, or None if it is no change."""
        document = inspect(value, depth_max=self._limits.record_depth_max)
        block = is_block(document)
        envelope = document["payload"] if block else document
        if envelope is None:
            reading.skipped[index] = "tombstone"
            return None
        if not isinstance(envelope, dict):
            raise Rejection("not_a_change", "the value is no JSON object")
        if (name := side_record(envelope)) is not None:
            reading.skipped[index] = name
            return None
        connector = _checked(envelope)
        schema = document["schema"] if block else None
        fitting = self._fitting(connector, envelope, value if block else b"", schema, reading)
        try:
            entry = fitting.read(value)
        except Exception as exc:  # noqa: BLE001 - `_explained` decides what it means
            raise _explained(exc, fitting.plan) from None
        if fitting.exact:
            self._current = fitting
        reading.belongs(fitting, index, index + 1)
        return entry

    def _fitting(self, connector: str, envelope: dict[str, Any], value: bytes, schema: Any, reading: Reading) -> Layout:
        """Return the layout for a record with these columns, made if there is none."""
        after, before = envelope.get("after"), envelope.get("before") if self._trusted else None
        rows = [row for row in (after, before) if isinstance(row, dict)]
        names = {name for row in rows for name in row}
        unknown = sorted(names - self._spec.columns.keys())
        check_names(unknown)
        reading.unknown_columns.update(unknown)
        nulls = frozenset[str]()
        if unknown and self._spec.unknown_columns != "ignore":
            if not value:
                nulls = frozenset(name for name in unknown if all(row.get(name) is None for row in rows))
            check_unknown(self._spec, [name for name in unknown if name not in nulls], unknown)
        absent = frozenset(self._spec.columns.keys() - names) if rows else frozenset()
        loose = len(unknown) > IGNORED_MAX or any(row.keys() != names for row in rows)
        loose = loose or not all(map(can_be_named, unknown))
        own = (None, None, None) if loose else (tuple(unknown), nulls, absent)
        key = (connector, *own, prefix_of(value) or value)
        if key not in self._layouts:
            fields = self._fields_of(schema) if value else None
            made = self._made(connector, value, fields, absent, tuple(unknown), nulls, loose=loose)
            self._layouts = dict(list(self._layouts.items())[-LAYOUTS_KEPT:])
            self._layouts[key] = made
        self._layouts[key] = self._layouts.pop(key)  # the last used stands last
        return self._layouts[key]

    def _made(
        self,
        connector: str,
        value: bytes,
        fields: Any,
        absent: frozenset[str],
        unknown: tuple[str, ...],
        nulls: frozenset[str] = frozenset(),
        *,
        loose: bool = False,
    ) -> Layout:
        columns = wire_columns(self._spec, list(self._spec.columns), DIALECTS[connector], fields)
        ignored = () if loose else unknown
        try:
            plan = row_plan(
                columns,
                placeholder=self._placeholder,
                absent=frozenset() if loose else absent,
                ignored=ignored,
                nulls=nulls,
                loose=loose,
            )
        except ConfigurationError as exc:
            if fields is None and not unknown:
                raise
            raise Rejection("bad_schema", exc.message) from exc
        prefix = prefix_of(value) if value else b""
        made = layout(connector, plan, before=self._trusted, prefix=prefix or b"", exact=not loose, unknown=ignored)
        made.defaults = defaults_of(plan, fields or {})
        if value and prefix is None:
            made.decode = _unusual_block(made.decode, value)
        return made


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(envelope: dict[str, Any]) -> str:
    """Return the connector of an envelope that has all that a change needs."""
    op = envelope.get("op")
    if "op" not in envelope:
        known = "before" in envelope or "after" in envelope
        raise Rejection("no_op" if known or "source" in envelope else "not_a_change", "the value has no `op`")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise Rejection("unknown_op", "`op` is none of c, u, d, r, t, m")
    source = envelope.get("source")
    if not isinstance(source, dict):
        raise Rejection("no_source", "the value has no `source`")
    connector = source.get("connector")
    if not isinstance(connector, str) or connector not in SOURCES:
        raise Rejection("unknown_connector", "`source.connector` is none of those whose order is known")
    if op in WITH_ROW and not isinstance(envelope.get("after"), dict):
        raise Rejection("no_row", f"`op` is {op}, and `after` holds no row")
    return connector


def _unusual_block(decode: Callable[[bytes], Any], value: bytes) -> Callable[[bytes], Any]:
    """Return a decoder of records whose schema block is that of `value` but not written as JsonConverter does."""
    read = msgspec.json.Decoder(Block).decode
    schema = bytes(read(value).schema)

    def decode_block(record: bytes) -> Any:
        block = read(record)
        if bytes(block.schema) != schema:
            raise msgspec.ValidationError("another schema block")
        return decode(bytes(block.payload))

    return decode_block


def _explained(error: Exception, plan: RowPlan) -> Rejection:
    """Return what an error of msgspec means, with the column's name and type; its own text may hold a value."""
    if isinstance(error, RecursionError):
        return Rejection("too_deep", "nested deeper than the decoder reads")
    if isinstance(error, UnicodeDecodeError):
        return Rejection("not_utf8", "a text is not UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        return Rejection("broken_json", "the JSON holds what no decoder reads, such as half of a surrogate pair")
    message, _, path = str(error).rpartition(" - at `$.")
    root, _, rest = path.removesuffix("`").partition(".")
    too_much = message.startswith(_TOO_MUCH)
    if root in {"after", "before"}:
        column = plan.nearest(rest)
        if column is None:
            return Rejection("bad_type", f"`{root}` is not the row that the spec describes")
        return Rejection(
            "out_of_range" if too_much else "bad_type", f"column {column.name}: not what its type and encoding ask for"
        )
    if root == "source":
        return Rejection(
            "bad_time" if rest in _TIME_FIELDS else "bad_position",
            f"`source.{rest}` has not the type it should have",
        )
    return Rejection("not_a_change", "the value is no Debezium envelope")
