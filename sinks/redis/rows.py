"""Changes of the contract as rows of the ledger: decoded by msgspec, naming only the columns that views use. Pure.

A row is a flat tuple of what `ledger.lua` reads: key, position, state, values. `state` is "" where every column has a
value, "d" for a delete (its one value says where the delete stands in the output topic), else a letter per column:
v a value follows, n null, u unavailable, a absent.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from schemas.errors import PoisonRecord, RecordTooLarge
from schemas.feature import View
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind
from sinks.redis.event_order import check_event_time, event_order
from sinks.redis.layout import ROW, SHARING_ROW, entity_text

Row = tuple[Any, ...]

EVENT_TIME = ".t"
EVENT_ORDER = ".s"  # the event time as digits that compare as it does
ENTITY_OF_ROW = ".e"
DELETED = "d"
UPSERTS = frozenset({"insert", "update", "snapshot"})
ROW_OVERHEAD_BYTES = 512  # what our own fields of a row add at most, apart from those per column

_RAW = frozenset({Kind.BOOLEAN, Kind.FLOAT, Kind.DOUBLE, Kind.LIST})


class ViewPlan:
    """How the rows of one table become the rows of one view, where an entity is a row of the table."""

    kind = ROW
    folds = True  # changes that a newer one hides need not be sent

    def __init__(self, spec: TableSpec, view: View, position_of: Mapping[str, int]) -> None:
        self.id = view_id(view)
        sources = [*view.columns, *([view.event_time] if view.event_time else [])]
        self.columns = [*view.columns, *([EVENT_TIME] if view.event_time else [])]
        # Which of our columns a source's one is in: it can be a value and the event time.
        self.made_from = {name: [i for i, source in enumerate(sources) if source == name] for name in sources}
        self.values: Callable[[Any], Row] = getter([f"c{position_of[name]}" for name in sources])
        self.has_raw = any(_is_raw(spec.columns[name].type) for name in sources)
        self._names_bytes = sum(2 * len(name.encode()) + 64 for name in self.columns)

    @property
    def header(self) -> list[Any]:
        """What stands before the rows of a section."""
        quoted = [part for name in self.columns for part in (name, msgspec.json.encode(name).decode())]
        return [self.kind, self.id, len(self.columns), *quoted]

    def row(self, key: str, change: Any, values: Row) -> Row:
        """Return the row of a change whose columns are not all plain values."""
        missing = {index for name in change.unavailable for index in self.made_from.get(name, ())}
        state: list[str] = []
        present: list[Any] = []
        for index, value in enumerate(values):
            # Unavailable wins over a value that should not be there: the source did not send it.
            letter = "u" if index in missing else _letter(value)
            state.append(letter)
            if letter == "v":
                present.append(plain(value))
        text = "".join(state)
        return (key, change.position, "" if text == "v" * len(text) else text, *present)

    def may_exceed(self, value_bytes: int, row_bytes_max: int) -> bool:
        """Say whether a row from a contract value of `value_bytes` could be above the limit."""
        return value_bytes + ROW_OVERHEAD_BYTES + self._names_bytes > row_bytes_max

    def check_size(self, row: Row, row_bytes_max: int) -> None:
        """Refuse a row above the limit.

        Raises:
            RecordTooLarge: its values and our own fields are above `row_bytes_max`.
        """
        size = ROW_OVERHEAD_BYTES + self._names_bytes + sum(len(_bytes(part)) for part in row)
        if size > row_bytes_max:
            raise RecordTooLarge(
                f"a row of view {self.id} has {size} bytes, above redis.row_bytes_max of {row_bytes_max}",
                hint="name fewer columns in the view, or raise redis.row_bytes_max",
            )


class SharingPlan(ViewPlan):
    """How rows become those of a view whose entities several rows share: each names its entity in `.e`."""

    kind = SHARING_ROW
    folds = False  # each entity that a row has been at must hear that it left

    def __init__(self, spec: TableSpec, view: View, position_of: Mapping[str, int]) -> None:
        super().__init__(spec, view, position_of)
        assert view.entity_key is not None, "else an entity is a row"
        shown = self.values
        key = getter([f"c{position_of[name]}" for name in view.entity_key])
        entity = len(self.columns)
        self.columns = [*self.columns, ENTITY_OF_ROW]
        for name in view.entity_key:
            self.made_from.setdefault(name, []).append(entity)
        self.has_raw = True  # each row is looked at closely: its last columns are made here
        if view.event_time is None:
            self.values = lambda after: (*shown(after), _entity_of(key(after)))
            return
        self.columns.append(EVENT_ORDER)
        self.made_from[view.event_time].append(entity + 1)
        event_type, event = spec.columns[view.event_time].type, getter([f"c{position_of[view.event_time]}"])
        check_event_time(event_type, self.id)
        self.values = lambda after: (
            *shown(after),
            _entity_of(key(after)),
            event_order(event_type, plain(event(after)[0])),
        )


def _entity_of(parts: Row) -> Any:
    letters = {_letter(part) for part in parts}
    if "a" in letters:
        return msgspec.UNSET
    return None if "n" in letters else entity_text([_bytes(plain(part)).decode() for part in parts])


class TableRows:
    """Decodes the contract's values of one table, for all of its views at once."""

    def __init__(self, spec: TableSpec, views: Sequence[View]) -> None:
        self._used = _used_columns(views)
        position_of = {name: index for index, name in enumerate(self._used)}
        self.plans = [
            (ViewPlan if is_own_entity(spec, view) else SharingPlan)(spec, view, position_of) for view in views
        ]
        self.arguments = sum(3 + len(plan.columns) for plan in self.plans)  # per change, at most
        self._decode: Callable[[bytes], Any] = _decoder(spec, self._used).decode
        self.key_text = _key_text(spec)

    def decode(self, values: Sequence[bytes]) -> list[Any]:
        """Return the changes that `values` hold, with only the columns in use.

        Raises:
            PoisonRecord: it names the index of the first value that is not the contract's.
        """
        decode = self._decode
        try:
            return [decode(value) for value in values]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._first_bad(values) from None  # msgspec's own text may repeat a value

    def _first_bad(self, values: Sequence[bytes]) -> PoisonRecord:
        for index, value in enumerate(values):
            try:
                self._decode(value)
            except msgspec.ValidationError as exc:
                return PoisonRecord("bad_contract", f"record {index}: {exc}", hint="is another writer on the topic?")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return PoisonRecord(
                    "bad_contract", f"record {index} is not JSON", hint="is another writer on the topic?"
                )
        raise AssertionError("a value was refused and none is bad")


def view_id(view: View) -> str:
    """Return the name and version of a view as keys have them."""
    return f"{view.view}.{view.version}"


def is_own_entity(spec: TableSpec, view: View) -> bool:
    """Say whether an entity of the view is a row of its table."""
    return view.entity_key is None or view.entity_key == spec.key


def _used_columns(views: Sequence[View]) -> list[str]:
    used: dict[str, None] = {}
    for view in views:
        used.update(dict.fromkeys(view.columns))
        used.update(dict.fromkeys([view.event_time] if view.event_time else []))
        used.update(dict.fromkeys(view.entity_key or []))
    return list(used)


def _decoder(spec: TableSpec, used: Sequence[str]) -> msgspec.json.Decoder[Any]:
    """Build the narrowest struct that reads a change; fields are numbered, since a column may have any name."""
    after = msgspec.defstruct(
        "After",
        [(f"c{index}", _python_type(spec.columns[name].type), msgspec.UNSET) for index, name in enumerate(used)],
        rename={f"c{index}": name for index, name in enumerate(used)},
        gc=False,
    )
    key = msgspec.defstruct(
        "Key",
        [(f"k{index}", _python_type(spec.columns[name].type, null=False)) for index, name in enumerate(spec.key)],
        rename={f"k{index}": name for index, name in enumerate(spec.key)},
        gc=False,
    )
    change = msgspec.defstruct(
        "Change",
        [
            ("op", str),
            ("key", key | None),
            ("position", str),
            ("after", after | None, None),
            ("unavailable", list[str], msgspec.field(default_factory=list)),
        ],
        gc=False,
    )
    return msgspec.json.Decoder(change)


def _python_type(column: ColumnType, *, null: bool = True) -> Any:
    if _is_raw(column):
        return msgspec.Raw
    plain = int if column.kind is Kind.INT else str
    return plain | None if null else plain


def _is_raw(column: ColumnType) -> bool:
    return column.kind in _RAW


def getter(fields: list[str]) -> Callable[[Any], Row]:
    """Return what reads these attributes as a tuple."""
    if len(fields) > 1:
        return operator.attrgetter(*fields)
    one = operator.attrgetter(fields[0])
    return lambda source: (one(source),)


def _key_text(spec: TableSpec) -> Callable[[Any], str]:
    """Return what makes the text of a row's key; of one text column that is the text."""
    values = getter([f"k{index}" for index in range(len(spec.key))])
    if len(spec.key) == 1 and _python_type(spec.columns[spec.key[0]].type, null=False) is str:
        return operator.attrgetter("k0")
    return lambda key: entity_text([_bytes(plain(value)).decode() for value in values(key)])


def _letter(value: Any) -> str:
    if value is None or (type(value) is msgspec.Raw and bytes(value) == b"null"):
        return "n"
    return "a" if value is msgspec.UNSET else "v"


def plain(value: Any) -> Any:
    """Return what Redis shall hold: text as it is, all else as the contract's JSON has it."""
    if type(value) is not msgspec.Raw:
        return value
    text = bytes(value)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
