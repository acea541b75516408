"""Keys: from the bytes of a record's key, or of a header of a change of key, to a row object of the key's columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.formats.defaults import DEFAULTS
from connectors.formats.encodings import is_whole_text
from connectors.formats.envelope import Block
from connectors.formats.forms import WHOLE
from connectors.formats.inspection import inspect
from connectors.formats.reasons import Rejection
from connectors.formats.rows import ColumnPlan, RowPlan, WireColumn, convert, row_plan, text_colons
from connectors.formats.schemablock import encoding_of, key_fields, payload_behind, payloads_behind, prefix_of
from connectors.formats.texts import whole_texts
from schemas.errors import ConfigurationError
from schemas.evolution import read_rest_of, read_text_of
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind

ESCAPED_COLON = b"\\u003"  # how JSON may write a colon inside a text
_SCHEMAS_KEPT = 16
_FEW = 8
_block = msgspec.json.Decoder(Block).decode


def wire_encoding(type_: ColumnType, encoding: str | None, dialect: str) -> str:
    """Return the encoding of a column where no schema block says it; of a list, that of its elements."""
    if encoding is not None:
        return encoding
    while type_.kind is Kind.LIST:
        assert type_.element is not None, "a list has an element type"
        type_ = type_.element
    return DEFAULTS[dialect][type_.kind]


def wire_columns(spec: TableSpec, names: list[str], dialect: str, fields: dict[str, Any] | None) -> list[WireColumn]:
    """Return how the named columns stand on the wire: as `fields` of a schema block say, else as the spec does.

    Raises:
        Rejection: `bad_schema`, for a type that Kafka Connect does not have.
        ConfigurationError: a column is the text or the rest of what it cannot be.
    """
    _check_evolved(spec)
    rests = {of: name for name in names if (of := read_rest_of(spec.columns[name].encoding)) is not None}
    columns = []
    for name in names:
        column = spec.columns[name]
        if read_rest_of(column.encoding) is not None:
            columns.append(WireColumn(name, column.type, "", is_rest=True))
            continue
        was = read_text_of(column.encoding)
        type_, own = (column.type, column.encoding) if was is None else was
        encoding, scale, stated = wire_encoding(type_, own, dialect), None, fields is not None and name in fields
        if fields is not None and stated:
            listed = type_.kind is Kind.LIST
            encoding, scale = encoding_of(fields[name], own, listed=listed, dialect=dialect)
        lenient, rest = column.unrepresentable == "null", rests.get(name)
        columns.append(
            WireColumn(name, type_, encoding, scale, lenient, is_text=was is not None, rest=rest, stated=stated)
        )
    return columns


def _check_evolved(spec: TableSpec) -> None:
    """Check the columns that stand in specs for what others were: workers make them right, people may not."""
    for name, column in spec.columns.items():
        of, was = read_rest_of(column.encoding), read_text_of(column.encoding)
        if of is None and was is None:
            continue
        if column.type.kind is not Kind.STRING:
            raise ConfigurationError(f"column {name}: encoding {column.encoding} is of a string", hint="type: string")
        if of is not None and (of not in spec.columns or of in spec.key):
            why = "is one of the key" if of in spec.key else "is none of the table"
            raise ConfigurationError(f"column {name}: {of} {why}, so it has no rest", hint="leave the column out")


class _KeyLayout:
    """One way that keys look: with this schema block in front, or none."""

    def __init__(self, plan: RowPlan, prefix: bytes) -> None:
        self.plan = plan
        self.prefix = prefix
        self.type = plan.type
        self._decode = msgspec.json.Decoder(plan.type).decode

    def rows(self, payloads: list[bytes]) -> list[Any]:
        """Return the decoded keys; raises what msgspec raises."""
        return list(map(self._decode, payloads))


class KeyReader:
    """Reads the keys of one table from one kind of connector."""

    def __init__(
        self,
        spec: TableSpec,
        dialect: str,
        depth_max: int,
        *,
        fields_of: Callable[[Any], dict[str, Any]] = key_fields,
    ) -> None:
        """Prepare for keys without a schema block; `fields_of` reads a key's fields out of one.

        Raises:
            ConfigurationError: a column of the key cannot be one, or its encoding does not fit.
        """
        self._spec, self._dialect, self._depth_max, self._fields_of = spec, dialect, depth_max, fields_of
        lists = [name for name in spec.key if spec.columns[name].type.kind is Kind.LIST]
        if lists:
            raise ConfigurationError(f"key: {', '.join(lists)} is a list", hint="a key is made of plain columns")
        self._current = self._layout(b"", None)
        self._known = {b"": self._current}
        self.row_type = self._current.type

    def read(self, raws: list[bytes]) -> tuple[list[Any], dict[int, Rejection]]:
        """Return the keys in the contract's form, and which are refused, by index."""
        layout = self._current
        try:
            payloads = list(payloads_behind(layout.prefix, raws)) if layout.prefix else raws
            rows = layout.rows(payloads)
        except Exception:  # noqa: BLE001 - one key or all may be at fault: `one` decides for each
            return self._parted(raws)
        if not self._unique(layout, rows, payloads):
            return self._parted(raws)
        faults = convert(layout.plan, rows)
        return rows, {index: _at_fault(name, fault) for index, (name, fault) in faults.items()}

    def of_rows(self, column: ColumnPlan, values: list[Any], raws: list[bytes | None]) -> list[Any] | None:
        """Return the keys where their bytes are what rows with `values` in `column` give; None: read them.

        Only for a key of one whole number without a schema block. Its texts hold no newline: if the lines are equal,
        then so is each key, for one with a newline inside would be a line too many.
        """
        own = self._current.plan.columns
        if self._current.prefix or len(own) != 1 or None in values or None in raws:
            return None
        form = own[0].form
        plain = form.conversion is None
        if form.wire not in WHOLE or form != column.form or not (plain or is_whole_text(form)):
            return None
        texts = whole_texts(values) if plain else values
        head = f'{{"{own[0].name}":'
        lines = head + f"}}\n{head}".join(texts) + "}"
        if lines.encode() != b"\n".join(raws):  # type: ignore[arg-type]
            return None
        return list(map(self._current.type, values))

    def one(self, raw: bytes) -> Any:
        """Return one key in the contract's form.

        Raises:
            Rejection: it cannot be read, or is not the key that the spec names.
        """
        document = inspect(raw, depth_max=self._depth_max)
        layout, block, prefix = self._known[b""], False, b""
        if isinstance(document, dict) and document.keys() == {"schema", "payload"} and "schema" not in self._spec.key:
            block, prefix = True, prefix_of(raw) or b""
            known = self._known.get(prefix) if prefix else None
            layout = known or self._learn(prefix, document["schema"])
        try:
            payload = bytes(_block(raw).payload) if block and not prefix else payload_behind(prefix, raw)
            rows = layout.rows([payload])
        except Exception as exc:
            raise Rejection(
                "bad_key", "the record's key does not have the columns and types of the spec's key"
            ) from exc
        faults = convert(layout.plan, rows)
        for name, fault in faults.values():
            raise _at_fault(name, fault)
        if prefix_of(raw) == (layout.prefix or None):
            self._current = layout
        return rows[0]

    def _parted(self, raws: list[bytes]) -> tuple[list[Any], dict[int, Rejection]]:
        """Read keys of which some are at fault, or have another schema block: by halves, at last one by one."""
        if len(raws) <= _FEW:
            return self._each(raws)
        half = len(raws) // 2
        rows, faults = self.read(raws[:half])
        more, worse = self.read(raws[half:])
        return rows + more, faults | {half + index: fault for index, fault in worse.items()}

    def _each(self, raws: list[bytes]) -> tuple[list[Any], dict[int, Rejection]]:
        rows: list[Any] = []
        faults = {}
        for index, raw in enumerate(raws):
            try:
                rows.append(self.one(raw))
            except Rejection as exc:
                faults[index] = exc
                rows.append(None)
        return rows, faults

    def _learn(self, prefix: bytes, schema: Any) -> _KeyLayout:
        layout = self._layout(prefix, self._fields_of(schema))
        if prefix:
            if len(self._known) > _SCHEMAS_KEPT:
                self._known = {b"": self._known[b""]}
            self._known[prefix] = layout
        return layout

    def _layout(self, prefix: bytes, fields: dict[str, Any] | None) -> _KeyLayout:
        columns = wire_columns(self._spec, self._spec.key, self._dialect, fields)
        try:
            return _KeyLayout(_required(columns), prefix)
        except ConfigurationError as exc:
            if fields is None:
                raise
            raise Rejection("bad_schema", exc.message) from exc

    def _unique(self, layout: _KeyLayout, rows: list[Any], payloads: list[bytes]) -> bool:
        """Tell whether no key names a column twice: each has all columns, so together they have no colon too many."""
        same, each = text_colons(layout.plan, rows)
        inside = same * len(rows) + sum(each or ())
        joined = b"".join(payloads)
        if inside and joined.rfind(ESCAPED_COLON) >= 0:
            return False
        return joined.count(b":") - inside == len(rows) * len(layout.plan.columns)


def _required(columns: list[WireColumn]) -> RowPlan:
    return row_plan(columns, placeholder=None)


def _at_fault(name: str, fault: Rejection) -> Rejection:
    return Rejection(fault.reason, f"column {name} of the key: {fault.message or 'the value does not fit its type'}")
