"""Changes of the contract as rows of the ledger: decoded by msgspec, naming only the columns that views use. Pure.

A row is a flat tuple of what `ledger.lua` reads: key, position as generation.py has it, state, values. `state` is ""
where every column has a value, "d" for a delete (its one value says where the delete stands in the output topic), else
a letter per column: v a value follows, n null, u unavailable, a absent.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from schemas.change import Origin
from schemas.errors import PoisonRecord, RecordTooLarge
from schemas.feature import View
from schemas.table import TableSpec
from schemas.types import ColumnType, Kind
from sinks.redis.event_order import check_event_time, event_order
from sinks.redis.layout import ROW, SHARING_ROW, entity_text
from sinks.redis.updates import UPDATE_ROWS, about_view, forms_of, schema_block_bytes

Row = tuple[Any, ...]

EVENT_TIME = ".t"
EVENT_ORDER = ".s"  # the event time as digits that compare as it does
ENTITY_OF_ROW = ".e"
DELETED = "d"
DELETE = "delete"
UPSERTS = frozenset({"insert", "update", "snapshot"})
ROW_OVERHEAD_BYTES = 512  # what our own fields of a row add at most, apart from those per column

_RAW = frozenset({Kind.FLOAT, Kind.DOUBLE, Kind.LIST})  # kept as the contract writes them
_BOOLEANS = {True: "true", False: "false", None: None, msgspec.UNSET: msgspec.UNSET}
_VALUES = frozenset({str, int})
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_unavailable_of = operator.attrgetter("unavailable")


class ViewPlan:
    """How the rows of one table become the rows of one view, where an entity is a row of the table."""

    kind = ROW
    shares = False

    def __init__(self, spec: TableSpec, view: View, position_of: Mapping[str, int], *, emits: bool = False) -> None:
        self.id = view.id
        self.emits = emits
        self.folds = not emits and not self.shares  # changes that a newer one hides need not be sent
        self.loading = False  # no change is news: the updates say that they are of a snapshot
        self.filling = False  # rows of the lake are sent beside what comes
        self.about = about_view(spec, view) if emits else ""
        self.key = forms_of(spec, spec.key)
        self._key = frozenset(spec.key)
        sources = [*view.columns, *([view.event_time] if view.event_time else [])]
        self.columns = [*view.columns, *([EVENT_TIME] if view.event_time else [])]
        # Which of our columns a source's one is in: it can be a value and the event time.
        self.made_from = {name: [i for i, source in enumerate(sources) if source == name] for name in sources}
        self._shown = [reader_of(spec, name, position_of) for name in sources]
        # What a record has beside its row takes of the room that the row would have, by the bytes of each of its own.
        beside = schema_block_bytes(spec, view) // UPDATE_ROWS
        self._names_bytes = sum(2 * len(name.encode()) + 64 for name in self.columns) + beside

    @property
    def header(self) -> list[Any]:
        """What stands before the rows of a section."""
        return section_header(self.kind, self, self.columns)

    @functools.cached_property
    def handed(self) -> str:
        """A letter per column: h if a new key takes it from an old one, - if it is made from the key."""
        own = {index for name in self._key for index in self.made_from.get(name, ())}
        return "".join("-" if index in own else "h" for index in range(len(self.columns)))

    def rows(
        self, keys: Sequence[str], positions: Sequence[str], changes: Sequence[Any], origin: Callable[[int], str]
    ) -> list[Row]:
        """Return a row for each of `changes`, upserts and deletes; `origin(i)` says where change i stands."""
        upserts = [change for change in changes if change.op != DELETE]
        if len(upserts) == len(changes):
            return self._upserted(keys, positions, upserts)
        of_upserts = [index for index, change in enumerate(changes) if change.op != DELETE]
        their_keys, theirs = ([some[index] for index in of_upserts] for some in (keys, positions))
        rows = iter(self._upserted(their_keys, theirs, upserts) if upserts else ())
        return [
            (key, position, DELETED, origin(index)) if change.op == DELETE else next(rows)
            for index, (key, position, change) in enumerate(zip(keys, positions, changes, strict=True))
        ]

    def _upserted(self, keys: Sequence[str], positions: Sequence[str], changes: Sequence[Any]) -> list[Row]:
        """Return the rows of upserts: by column where every change has every value, which is nearly always."""
        columns = self.values([change.after for change in changes])
        if all(map(is_whole, columns)) and not any(map(_unavailable_of, changes)):
            return list(zip(keys, positions, repeat(""), *columns))
        return [
            self._row(key, position, change, values)
            for key, position, change, values in zip(keys, positions, changes, zip(*columns, strict=True), strict=True)
        ]

    def values(self, afters: Sequence[Any]) -> list[list[Any]]:
        """Return what Redis shall hold, a list for each of our columns; None is a null, UNSET an absent value."""
        return [read(afters) for read in self._shown]

    def _row(self, key: str, position: str, change: Any, values: Row) -> Row:
        missing = {index for name in change.unavailable for index in self.made_from.get(name, ())}
        # Unavailable wins over a value that should not be there: the source did not send it.
        letters = ["u" if index in missing else _letter(value) for index, value in enumerate(values)]
        present = [value for letter, value in zip(letters, values, strict=True) if letter == "v"]
        return (key, position, "" if len(present) == len(values) else "".join(letters), *present)

    def may_exceed(self, value_bytes: int, row_bytes_max: int) -> bool:
        """Say whether a row from a contract value of `value_bytes` could be above the limit."""
        return value_bytes + ROW_OVERHEAD_BYTES + self._names_bytes > row_bytes_max

    def check_size(self, row: Row, row_bytes_max: int) -> None:
        """Refuse a row above the limit.

        Raises:
            RecordTooLarge: its values and our own fields are above `row_bytes_max`.
        """
        size = ROW_OVERHEAD_BYTES + self._names_bytes + sum(len(str(part).encode()) for part in row)
        if size > row_bytes_max:
            raise RecordTooLarge(
                f"a row of view {self.id} has {size} bytes, above redis.row_bytes_max of {row_bytes_max}",
                hint="name fewer columns in the view, or raise redis.row_bytes_max",
            )


class SharingPlan(ViewPlan):
    """How rows become those of a view whose entities several rows share: each names its entity in `.e`."""

    kind = SHARING_ROW
    shares = True  # each entity that a row has been at must hear that it left

    def __init__(self, spec: TableSpec, view: View, position_of: Mapping[str, int], *, emits: bool = False) -> None:
        super().__init__(spec, view, position_of, emits=emits)
        assert view.entity_key is not None, "else an entity is a row"
        self._entity = [reader_of(spec, name, position_of) for name in view.entity_key]
        self._event: tuple[ColumnType, Reader] | None = None
        at = len(self.columns)
        self.columns = [*self.columns, ENTITY_OF_ROW]
        for name in view.entity_key:
            self.made_from.setdefault(name, []).append(at)
        if view.event_time is not None:
            self.columns.append(EVENT_ORDER)
            self.made_from[view.event_time].append(at + 1)
            event_type = spec.columns[view.event_time].type
            check_event_time(event_type, self.id)
            self._event = (event_type, reader_of(spec, view.event_time, position_of))

    def values(self, afters: Sequence[Any]) -> list[list[Any]]:
        """Return the columns of the view, the entity of each row, and the order of its event time."""
        columns = [*super().values(afters), _entities([read(afters) for read in self._entity])]
        if self._event is not None:
            event_type, read = self._event
            columns.append([event_order(event_type, value) for value in read(afters)])
        return columns


def _entities(parts: list[list[Any]]) -> list[Any]:
    """Return the text of each row's entity; None where a part of it is null, UNSET where one is absent."""
    if all(map(is_whole, parts)):
        return key_texts(parts)
    return [_entity_of(row) for row in zip(*parts, strict=True)]


def _entity_of(parts: Row) -> Any:
    if msgspec.UNSET in parts:
        return msgspec.UNSET
    return None if None in parts else entity_text(list(map(str, parts)))


class TableRows:
    """Decodes the contract's values of one table, for all of its views at once."""

    def __init__(self, spec: TableSpec, views: Sequence[View], emitting: Container[str] = ()) -> None:
        """Read what `views` need; those that `emitting` names emit feature updates."""
        self.used = _used_columns(views)  # of the table's columns
        position_of = {name: index for index, name in enumerate(self.used)}
        self.plans = [
            (ViewPlan if is_own_entity(spec, view) else SharingPlan)(
                spec, view, position_of, emits=view.view in emitting
            )
            for view in views
        ]
        self.arguments = sum(4 + len(plan.columns) for plan in self.plans)  # per change, at most
        emits = any(plan.emits for plan in self.plans)
        self._decode: Callable[[bytes], Any] = _decoder(spec, self.used, causes=emits)
        self._decode_older = _older_decoder(spec, self.used, causes=emits)
        self._key = [Reader(f"k{index}", spec.columns[name].type.kind) for index, name in enumerate(spec.key)]

    def decode(self, values: Sequence[bytes], *, older: bool = False) -> list[Any]:
        """Return the changes that `values` hold, with only the columns in use.

        With `older` some may be of a schema version before the spec's: what was no text then is the text of its JSON.

        Raises:
            PoisonRecord: it names the index of the first value that is not the contract's.
        """
        try:
            return list(map(self._decode, values))
        except _REFUSED:
            if not older:
                raise self._first_bad(values, self._decode) from None  # msgspec's own text may repeat a value
        try:
            return list(map(self._decode_older, values))
        except _REFUSED:
            raise self._first_bad(values, self._decode_older) from None

    def keys(self, changes: Sequence[Any]) -> list[str]:
        """Return the text of each change's key."""
        return self.texts([change.key for change in changes])

    def texts(self, keys: Sequence[Any]) -> list[str]:
        """Return the texts of keys."""
        return key_texts([read(keys) for read in self._key])

    @staticmethod
    def _first_bad(values: Sequence[bytes], decode: Callable[[bytes], Any]) -> PoisonRecord:
        for index, value in enumerate(values):
            try:
                decode(value)
            except msgspec.ValidationError as exc:
                return PoisonRecord("bad_contract", f"record {index}: {exc}", hint="is another writer on the topic?")
            except _REFUSED:
                return PoisonRecord(
                    "bad_contract", f"record {index} is not JSON", hint="is another writer on the topic?"
                )
        raise AssertionError("a value was refused and none is bad")


def section_header(kind: str, plan: ViewPlan, columns: Sequence[str]) -> list[Any]:
    """Return what stands before the rows of a section of a view."""
    quoted = [part for name in columns for part in (name, msgspec.json.encode(name).decode())]
    return [kind, plan.id, plan.about, len(columns), *quoted]


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


class Read(msgspec.Struct, gc=False, frozen=True):
    """Where a change was read."""

    origin: Origin


class Source(Read, gc=False, frozen=True):
    """What feature updates say of where a change comes from."""

    snapshot: bool = False


_NOWHERE = Read(("", 0, 0, 0))


def _decoder(spec: TableSpec, used: Sequence[str], *, causes: bool, older: bool = False) -> Callable[[bytes], Any]:
    """Build the narrowest struct that reads a change; fields are numbered, since a column may have any name.

    With `causes` it also reads what feature updates say of the change that caused them; with `older` texts are left as
    the JSON that they are.
    """
    after = _row_struct("After", "c", {name: spec.columns[name].type for name in used}, null=True, older=older)
    key = _row_struct("Key", "k", {name: spec.columns[name].type for name in spec.key}, null=False, older=older)
    change = msgspec.defstruct(
        "Change",
        [
            ("op", str),
            ("key", key | None),
            ("position", str),
            *([("ts", str), ("source", Source)] if causes else [("source", Read, _NOWHERE)]),
            ("new_key", key | None, None),
            ("after", after | None, None),
            ("unavailable", tuple[str, ...], ()),  # empty ones are one
        ],
        gc=False,
    )
    return msgspec.json.Decoder(change).decode


def _row_struct(
    name: str, letter: str, columns: Mapping[str, ColumnType], *, null: bool, older: bool
) -> type[msgspec.Struct]:
    types = [_python_type(type_, null=null, older=older) for type_ in columns.values()]
    names = [f"{letter}{index}" for index in range(len(columns))]
    fields: list[Any] = [
        (field, type_, msgspec.UNSET) if null else (field, type_) for field, type_ in zip(names, types, strict=True)
    ]
    return msgspec.defstruct(name, fields, rename=dict(zip(names, columns, strict=True)), gc=False)


def _python_type(column: ColumnType, *, null: bool, older: bool) -> Any:
    if column.kind in _RAW:
        return msgspec.Raw
    plain = {Kind.INT: int, Kind.BOOLEAN: bool}.get(column.kind, str)
    if plain is str and older:
        return msgspec.Raw
    return plain | None if null else plain


def _older_decoder(spec: TableSpec, used: Sequence[str], *, causes: bool) -> Callable[[bytes], Any]:
    """Return what reads a change of any schema version up to the spec's, as `_decoder` would what it is now.

    A column becomes wider, or a text: Redis shows the same of its values, a text as it is and all else as its JSON.
    """
    decode = _decoder(spec, used, causes=causes, older=True)
    of_after = [f"c{at}" for at, name in enumerate(used) if _is_text(spec.columns[name].type)]
    of_key = [f"k{at}" for at, name in enumerate(spec.key) if _is_text(spec.columns[name].type)]

    def decode_older(value: bytes) -> Any:
        change = decode(value)
        for row, names in ((change.key, of_key), (change.after, of_after)):
            for name in names if row is not None else ():
                text = _raw_text(getattr(row, name))
                if text is None and names is of_key:
                    raise msgspec.ValidationError("a column of the key is null")
                setattr(row, name, text)
        return change

    return decode_older


def _is_text(column: ColumnType) -> bool:
    return column.kind not in {*_RAW, Kind.INT, Kind.BOOLEAN}


class Reader:
    """Reads an attribute of many structs as Redis shall hold it: text as it is, all else as in the contract's JSON."""

    __slots__ = ("_get", "_kind")

    def __init__(self, attribute: str, kind: Kind) -> None:
        self._get, self._kind = operator.attrgetter(attribute), kind

    def __call__(self, structs: Sequence[Any]) -> list[Any]:
        """Return a text or a number for each; None for a null, UNSET where the value is absent."""
        column = list(map(self._get, structs))
        if self._kind is Kind.BOOLEAN:
            return list(map(_BOOLEANS.__getitem__, column))
        return _raw_texts(column) if self._kind in _RAW else column


def reader_of(spec: TableSpec, name: str, position_of: Mapping[str, int]) -> Reader:
    """Return what reads a column of rows."""
    return Reader(f"c{position_of[name]}", spec.columns[name].type.kind)


def is_whole(column: Sequence[Any]) -> bool:
    """Say whether a column has a value everywhere."""
    return _VALUES.issuperset(map(type, column))  # a search for None compares each value, which takes twice as long


def key_texts(columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return the texts that name what keys of these columns name."""
    if len(columns) == 1:
        return list(map(str, columns[0]))
    return [entity_text(parts) for parts in zip(*(map(str, column) for column in columns), strict=True)]


def _raw_texts(column: list[Any]) -> list[Any]:
    """Return pieces of JSON as they are written, and texts without their quotes; all in one go where none is odd."""
    try:
        joined = b"\n".join(column).decode()
    except TypeError:  # an absent one
        return list(map(_raw_text, column))
    texts = joined.split("\n")
    odd = len(texts) != len(column) or "null" in texts or joined.startswith('"') or '\n"' in joined
    return list(map(_raw_text, column)) if odd else texts


def _raw_text(value: Any) -> Any:
    if value is msgspec.UNSET:
        return value
    text = bytes(value).decode()
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return None if text == "null" else text


def _letter(value: Any) -> str:
    return "n" if value is None else "a" if value is msgspec.UNSET else "v"
