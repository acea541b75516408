"""The samples of one table: taken column by column, and at last made a proposal of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

from connectors.formats.inspection import is_signal_row
from connectors.formats.placeholder import Placeholder
from connectors.formats.rows import can_be_named
from connectors.inference.base import Fields, Sample
from connectors.inference.choice import Choice, Sure
from connectors.inference.columns import ColumnSamples
from connectors.inference.connect import column_of
from connectors.inference.definitions import Definition
from connectors.inference.event_times import event_time
from connectors.inference.fitting import Way
from connectors.inference.names import table_name
from connectors.inference.proposal import Evidence, Proposal
from connectors.inference.raw_values import RAW
from connectors.inference.risks import Risks
from connectors.inference.unavailable import Unavailable
from schemas.risk import shown
from schemas.table import COLUMNS_MAX, OWN_PREFIX, TableSpec
from schemas.types import ColumnType, Kind

_PORTION_ROWS = 500
_PORTION_BYTES = 4 * 1024 * 1024
_DELETES_KEPT = 1_000
_KEYS_KEPT = 100
_NAMES_SHOWN = 8
OWN_SCALE = "data.VariableScaleDecimal"
PLACEHOLDER = "__debezium_unavailable_value"

# As text, 1 and "1" would be one.
BY_TYPE = Choice(Way(ColumnType(Kind.JSON), "bson"), Sure.HIGH, "its values differ by their type alone")

_placeholder = Placeholder(PLACEHOLDER)
_unavailable = Unavailable(_placeholder)


class TableSamples:
    """What was seen of one table."""

    def __init__(self, source: str, format: str, definition: Definition | None = None) -> None:  # noqa: A002 - what a spec calls it
        """Have seen nothing; `definition` is what a schema-change topic says of the table."""
        self._source, self._format, self._definition = source, format, definition
        self._topics: dict[str, None] = {}
        self._sources: dict[str, None] = {}
        self._connectors: dict[str, None] = {}
        self._dialects: dict[str, None] = {}
        self._columns: dict[str, ColumnSamples] = {}
        self._keys: Counter[tuple[str, ...]] = Counter()
        self._key: tuple[str, ...] = ()
        self._pending: list[Sample] = []
        self._pending_bytes = 0
        self._deleted: list[Sample] = []
        self._apart: frozenset[str] = frozenset()
        self._parts: frozenset[str] = frozenset()
        self._risks = Risks()
        self._operations: Counter[str] = Counter()
        self._has_schema = False
        self._signals = True  # until a row is none
        self.records = 0

    def add(self, sample: Sample, topic: str, *, size_bytes: int) -> None:
        """Take a sample; `size_bytes` is about what it holds in memory."""
        self._topics[topic] = self._sources[sample.table] = self._connectors[sample.connector] = None
        self._dialects[sample.dialect] = None
        self.records += 1
        self._operations[sample.op] += 1
        if self._signals:
            row, deleted = (sample.row, False) if sample.row is not None else (sample.before, True)
            self._signals = is_signal_row(row, deleted=deleted)
        self._apart |= sample.apart
        self._risks.saw(sample)
        if len(self._parts) < _KEYS_KEPT:
            self._parts |= sample.parts
        if sample.key_columns is not None:
            self._key = sample.key_columns  # the newest: a key that was changed does not come back
            if self._key in self._keys or len(self._keys) < _KEYS_KEPT:
                self._keys[self._key] += 1
        if sample.row is None and sample.before and len(self._deleted) < _DELETES_KEPT:
            self._deleted.append(sample)
        self._pending.append(sample)
        self._pending_bytes += size_bytes
        if len(self._pending) >= _PORTION_ROWS or self._pending_bytes >= _PORTION_BYTES:
            self.absorb()

    def absorb(self) -> None:
        """Take what was added so far into account, and hold it no longer."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        start = 0
        for at in range(1, len(pending) + 1):  # runs with one schema
            first = pending[start]
            if at < len(pending) and _are_alike(pending[at], first):
                continue
            run = pending[start:at]
            self._take([sample.row for sample in run if sample.row is not None], first.fields, first)
            self._take([sample.key for sample in run if sample.key], first.key_fields, first, counted=False)
            start = at

    def _take(
        self, rows: Sequence[dict[str, Any]], fields: Fields | None, like: Sample, *, counted: bool = True
    ) -> None:
        names = dict.fromkeys(fields or ())
        for row in rows:
            if row.keys() != names.keys():
                names.update(dict.fromkeys(row))
        self._has_schema = self._has_schema or fields is not None
        for name in names:
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) > COLUMNS_MAX:
                    continue
                column = self._columns[name] = ColumnSamples(name, _placeholder, _unavailable)
                if self._definition is not None and name in self._definition.columns:
                    column.define(self._definition.columns[name])
            values = [row[name] for row in rows if name in row]
            if like.dialect in RAW:
                column.absorb_raw(values, like.dialect, (like.types or {}).get(name), zoneless=True)
            else:
                column.absorb(values, None if fields is None else fields.get(name))
            if counted:
                column.seen, column.nulls = column.seen + len(values), column.nulls + values.count(None)

    def proposal(self, taken: Container[str]) -> Proposal | None:
        """Return what is proposed, under a name that is not taken; None where no column was seen."""
        self.absorb()
        if not self._columns.keys() - set(self._key):  # deletes alone: their images name columns, but may hold zeros
            for sample in self._deleted:
                self._take([dict.fromkeys(sample.before or ())], None, sample, counted=False)
        if self._definition is not None and not self._keys:  # no record has a key
            self._key = self._definition.key
        names = [name for name in self._columns if _speakable(name)][:COLUMNS_MAX]
        if not names:
            return None
        choices = {name: self._columns[name].choice() for name in names}
        choices |= dict.fromkeys(self._apart & choices.keys(), BY_TYPE)
        key = self._usable_key(choices)
        columns = {name: column_of(choice.way, list(self._dialects)) for name, choice in choices.items()}
        spec = TableSpec(
            table=table_name(self._source, taken),
            topics=list(self._topics),
            format=self._format,
            key=key,
            columns=columns,
        )
        evidence = {
            name: Evidence(
                type=str(columns[name].type),
                encoding=columns[name].encoding,
                sure=choice.sure,
                why=choice.why,
                seen=self._columns[name].seen,
                nulls=self._columns[name].nulls,
                unavailable=self._columns[name].unavailable,
                warning=choice.warning,
            )
            for name, choice in choices.items()
        }
        connectors = ", ".join(filter(None, self._connectors))
        warnings = [*self._warnings(key), *_by_warning(choices)]
        risks = self._risks.told(
            {name: self._columns[name].nulls for name in names},
            {name for name, one in evidence.items() if one.encoding == OWN_SCALE and "postgresql" in self._connectors},
        )
        return Proposal(
            spec,
            self._source,
            connectors,
            self._has_schema,
            self.records,
            evidence,
            warnings,
            risks,
            self._signals,
            is_defined=self._definition is not None,
            operations=dict(self._operations),
            event_time=event_time({name: column.type for name, column in columns.items()}),
        )

    def _usable_key(self, choices: dict[str, Choice]) -> list[str]:
        usable = all(name in choices and choices[name].way.type.kind is not Kind.LIST for name in self._key)
        return list(self._key) if usable and not self._mixed else []

    @property
    def _mixed(self) -> bool:
        """Whether rows of one key may be of several tables; a router of Debezium's leaves keys that tell them apart."""
        return len(self._sources) > 1 and (len(self._keys) > 1 or not self._format.startswith("debezium-"))

    def _warnings(self, key: list[str]) -> list[str]:
        found = []
        if self._key and not key and not self._mixed:
            found.append(f"the key {shown(self._key)} cannot be one here: a list, or a name that cannot be read")
        if len(self._keys) > 1 and not self._mixed:
            others = "; ".join(
                shown(other) or "none" for other in list(self._keys)[:_NAMES_SHOWN] if other != self._key
            )
            found.append(f"keys of other columns were seen as well: {others}; the newest is proposed")
        if parts := sorted(self._parts):
            found.append(
                f"{shown(parts)}: updates say parts inside of them and not the rest, and are refused: set "
                "capture.mode=change_streams_update_full, or make columns of what is inside by options.paths"
            )
        if len(self._sources) > 1:
            without = ", so no key is proposed" if self._mixed and self._key else ""
            found.append(f"the topic holds several tables of the source{without}: {shown(self._sources)}")
        if left := [name for name in self._columns if not _speakable(name)]:
            found.append(f"{len(left)} columns are left out, whose names cannot be read or are ours")
        return found


def _are_alike(one: Sample, other: Sample) -> bool:
    """Tell whether two samples were stated alike, so that their columns are taken together."""
    if one.fields is not other.fields or one.key_fields is not other.key_fields:
        return False
    return one.types is other.types and one.dialect == other.dialect


def _speakable(name: str) -> bool:
    """Tell whether a spec and the decoder can have a column of this name."""
    return can_be_named(name) and not name.startswith(OWN_PREFIX)


def _by_warning(choices: dict[str, Choice]) -> list[str]:
    """Return the warnings of columns, each once, with the names that it is about."""
    found: dict[str, list[str]] = {}
    for name, choice in choices.items():
        if choice.warning:
            found.setdefault(choice.warning, []).append(name)
    return [f"{shown(names)}: {warning}" for warning, names in found.items()]
