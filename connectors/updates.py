"""Feature updates read as columns: values of `headgate.features.<view>` in, one typed Arrow table out.

Promise: as `connectors/contract.py`, with whose two ways the rows `before`, `after` and `key` are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import filterfalse
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from connectors.contract import UTC_MICROSECONDS, VALUES_AT_ONCE_MAX, VALUES_SLOW_MAX, arrow_type
from connectors.contract_columns import NAME_NOT_BY_COLUMN, REFUSED, RowReader
from connectors.contract_older import Row, read_older_row
from connectors.contract_rows import DoesNotFit, array_of, read_timestamp
from schemas.errors import PoisonRecord
from schemas.feature_update import FeatureUpdate
from schemas.types import ColumnType

UPDATE_ROWS = frozenset({"before", "after", "key"})
_NUMBER_MAX = 2**63 - 1


class _Update(FeatureUpdate, gc=False):
    """An update whose columns are still the JSON that was written: it may be of before they became wider."""

    before: Row
    after: Row
    key: dict[str, msgspec.Raw]


_decode_update = msgspec.json.Decoder(_Update).decode

_FIELDS = pa.schema(
    [
        pa.field("op", pa.string(), nullable=False),
        pa.field("ts", UTC_MICROSECONDS, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("silent", pa.bool_(), nullable=False),  # snapshot or replay: no news
        pa.field("bucket", pa.int64(), nullable=False),
        pa.field("incarnation", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("unavailable_before", pa.list_(pa.string()), nullable=False),
        pa.field("unavailable", pa.list_(pa.string()), nullable=False),
    ]
)
_Natural = Annotated[int, msgspec.Meta(ge=0)]
_READ: dict[str, Any] = {
    "version": _Natural,
    "op": str,
    "unavailable_before": tuple[str, ...],
    "unavailable": tuple[str, ...],
    "ts": str,
    "snapshot": bool,
    "replay": bool,
    "bucket": _Natural,
    "incarnation": str,
    "number": _Natural,
}


class UpdateReader:
    """Reads the updates of one view; `rows` are the row objects wanted, of these columns."""

    def __init__(
        self, columns: Mapping[str, ColumnType], key: Mapping[str, ColumnType], *, rows: frozenset[str]
    ) -> None:
        assert rows <= UPDATE_ROWS, f"rows are {sorted(UPDATE_ROWS)}"
        self._types = {name: key if name == "key" else columns for name in sorted(rows)}
        structs = {
            name: pa.struct([(column, arrow_type(type_)) for column, type_ in types.items()])
            for name, types in self._types.items()
        }
        self.schema = pa.schema([*_FIELDS, *(pa.field(name, struct) for name, struct in structs.items())])
        self._readers: dict[str, RowReader] = {}
        self._decode: Callable[[bytes], Any] | None = None
        if not any(NAME_NOT_BY_COLUMN.search(name) for types in self._types.values() for name in types):
            self._readers = {name: RowReader(types, structs[name]) for name, types in self._types.items() if types}
            self._decode = msgspec.json.Decoder(self._struct()).decode

    def _struct(self) -> type[Any]:
        """Return the narrowest struct that reads an update, in the order in which it is written."""
        fields = {**_READ, **{name: reader.struct | None for name, reader in self._readers.items()}}
        ordered = [(name, fields[name]) for name in FeatureUpdate.__struct_fields__ if name in fields]
        return msgspec.defstruct("Update", ordered, gc=False)

    def read(self, values: Sequence[bytes]) -> pa.Table:
        """Return one row per value.

        Raises:
            PoisonRecord: the first value that is no feature update, by its index.
        """
        tables: list[pa.Table] = []
        for at in range(0, len(values), VALUES_AT_ONCE_MAX):
            part = values[at : at + VALUES_AT_ONCE_MAX]
            tables += self._read(part, at)
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def _read(self, values: Sequence[bytes], at: int) -> list[pa.Table]:
        if (table := self.read_fast(values)) is not None:
            return [table]
        if len(values) <= VALUES_SLOW_MAX:
            return [self._read_slowly(values, at)]
        starts = range(0, len(values), VALUES_SLOW_MAX)
        return [table for start in starts for table in self._read(values[start : start + VALUES_SLOW_MAX], at + start)]

    def read_fast(self, values: Sequence[bytes]) -> pa.Table | None:
        """Return the values as a table, or None where the fast way does not know one of them."""
        if self._decode is None:
            return None
        try:
            for _ in map(bytes.decode, filterfalse(bytes.isascii, values)):
                pass
            return self._table(list(map(self._decode, values)))
        except REFUSED:
            return None

    def _table(self, updates: list[Any]) -> pa.Table:
        columns: dict[str, Any] = {
            name: [getattr(update, name) for update in updates] for name in _FIELDS.names if name != "silent"
        }
        columns["silent"] = [update.snapshot or update.replay for update in updates]
        arrays = {name: pa.array(values, _FIELDS.field(name).type) for name, values in columns.items() if name != "ts"}
        arrays["ts"] = pa.array(columns["ts"], pa.string()).cast(UTC_MICROSECONDS)
        for name, reader in self._readers.items():
            arrays[name] = reader.array([getattr(update, name) for update in updates])
        for name in self.schema.names:
            if name not in arrays:
                arrays[name] = pa.nulls(len(updates), self.schema.field(name).type)
        return pa.Table.from_arrays([arrays[name] for name in self.schema.names], schema=self.schema)

    def _read_slowly(self, values: Sequence[bytes], at: int) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        for index, value in enumerate(values, at):
            fields = self._fields(value, index)
            for name, found in columns.items():
                found.append(fields[name])
        arrays = [array_of(columns[field.name], field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _fields(self, value: bytes, index: int) -> dict[str, Any]:
        try:
            update = _decode_update(value)
            if not all(0 <= each <= _NUMBER_MAX for each in (update.version, update.bucket, update.number)):
                raise _unreadable(index, "a number of it is out of range")
            fields = {name: getattr(update, name) for name in _FIELDS.names if name != "silent"}
            rows = {name: read_older_row(getattr(update, name), types) for name, types in self._types.items()}
            return {
                **fields,
                **rows,
                "silent": update.snapshot or update.replay,
                "ts": read_timestamp(update.ts),
            }
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as exc:
            # The chained message may hold a piece of the value, which no error of ours carries.
            raise _unreadable(index, f"no feature update ({type(exc).__name__})") from None
        except DoesNotFit as exc:
            raise _unreadable(index, str(exc)) from None


def _unreadable(index: int, what: str) -> PoisonRecord:
    return PoisonRecord(
        "broken_contract",
        f"value {index}: {what}",
        hint="only FEATURES writes to this topic; see who else did, or whether the table's spec changed its types",
    )
