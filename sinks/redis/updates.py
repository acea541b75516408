"""Feature updates between the ledger and the topic: what is said of a view and a cause, and entries read back. Pure.

The script of Redis carries two texts that it does not look into: what an update must know of its view (`about_view`),
once per entry, and what caused it (`causes`), once per update. So an entry says all that is needed to write its
records, also when the view has changed or is gone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.change import Operation, Origin
from schemas.feature import View
from schemas.feature_update import FeatureUpdate
from schemas.output import latest_view_name
from schemas.table import TableSpec
from schemas.types import Kind

UPDATE_OVERHEAD_BYTES = 4_096  # what an update has beside what its row has
UPDATE_ROWS = 12  # a row's bytes twice, before and after, each byte six in JSON at worst
SCHEMA_COLUMN_BYTES = 512  # what a schema block says of a column at most, beside its name

_PLAIN = {Kind.INT: "json", Kind.BOOLEAN: "json", Kind.LIST: "json", Kind.FLOAT: "number", Kind.DOUBLE: "number"}
_NOT_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
_encode = msgspec.json.encode


class Latest(msgspec.Struct, gc=False):
    """What a latest topic's records are made by: whether with a schema block, the types of columns and of the key."""

    schema: bool
    columns: list[str]
    key: list[str]


class About(msgspec.Struct, gc=False, omit_defaults=True):
    """What the updates of a view say of it: columns as (name, how its texts become JSON).

    With `latest` they are the rows of the table's latest topic.
    """

    view: str
    version: int
    table: str
    columns: list[tuple[str, str]]
    entity: list[tuple[str, str]]
    latest: Latest | None = None


class Cause(msgspec.Struct, array_like=True, gc=False):
    """The change that caused an update."""

    key: msgspec.Raw
    position: str
    ts: str
    snapshot: bool
    replay: bool
    origin: Origin


class Entry(NamedTuple):
    """An entry of a bucket's stream."""

    bucket: int
    id: bytes
    payload: bytes


class LatestRow(NamedTuple):
    """A row as it is now: the text of its key, the change that made it so, and its texts by column.

    A text is False where the row has none of a column; no list of texts: there is no row any more.
    """

    key: str
    position: str
    ts: str
    texts: list[Any] | None
    null: list[str]
    unavailable: list[str]


class LatestRows(NamedTuple):
    """Rows of a table for its latest topic, in the order in which the ledger accepted them."""

    about: About
    about_text: str
    rows: list[LatestRow]


class Updates(NamedTuple):
    """Updates of one view, in their order: of each the record's key, which is its entity's text, and its value.

    Of the view of a latest topic there are rows instead.
    """

    view: str
    records: list[tuple[bytes, bytes]]
    latest: LatestRows | None = None


# What cmsgpack makes of a shown entity: texts of `.null` and `.unavailable`, then values; false is none.
_Shown = list[Any] | bool
_Written = tuple[str, str, _Shown, _Shown]  # entity, cause, before, after
_Payload = tuple[str, int, list[tuple[str, list[_Written]]]]
_payload = msgspec.msgpack.Decoder(_Payload)
_cause = msgspec.json.Decoder(Cause)
_names = msgspec.json.Decoder(list[str])
_NO_NAMES: list[str] = []


def about_view(spec: TableSpec, view: View) -> str:
    """Return what the updates of a view say of it, as a text of JSON."""
    columns, entity = (forms_of(spec, names) for names in (view.columns, _entity(spec, view)))
    latest = _latest(spec, view) if is_latest(spec, view) else None
    return _encode(About(view.view, view.version, spec.table, columns, entity, latest)).decode()


def is_latest(spec: TableSpec, view: View) -> bool:
    """Say whether a view is the one that the table's latest topic is written from."""
    return spec.output.latest and view.view == latest_view_name(spec.table)


def schema_block_bytes(spec: TableSpec, view: View) -> int:
    """Return what the schema blocks of a record of the latest topic take at most, beside its row."""
    if not (is_latest(spec, view) and spec.output.latest_schema):
        return 0
    return sum(2 * len(name.encode()) + SCHEMA_COLUMN_BYTES for name in [*view.columns, *spec.key])


def _latest(spec: TableSpec, view: View) -> Latest:
    columns, key = ([str(spec.columns[name].type) for name in names] for names in (view.columns, spec.key))
    return Latest(spec.output.latest_schema, columns, key)


def forms_of(spec: TableSpec, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return columns, each with how its texts in Redis become JSON."""
    return [(name, _form(spec, name)) for name in names]


def columns_of_text(forms: Sequence[tuple[str, str]], text: str) -> dict[str, Any]:
    """Return the columns, given as `forms_of` has them, that an entity's or a row's text names."""
    parts = parts_of_text(len(forms), text)
    return {name: json_of_text(form, part) for (name, form), part in zip(forms, parts, strict=True)}


def parts_of_text(count: int, text: str) -> list[str]:
    """Return the texts of so many columns that an entity's or a row's text is made of."""
    return [text] if count == 1 else [_unescaped(part) for part in text.split(":")]


def _entity(spec: TableSpec, view: View) -> Sequence[str]:
    return view.entity_key or spec.key


def _form(spec: TableSpec, name: str) -> str:
    return _PLAIN.get(spec.columns[name].type.kind, "text")


def causes(changes: Sequence[Any], replayed: Callable[[int], bool], *, loading: bool) -> list[str]:
    """Return what each change says of itself; `replayed(i)` is asked of those that may be repeated history.

    `loading`: the view is being loaded, so no change is news.
    """
    return [
        _encode(
            Cause(
                msgspec.Raw(_encode(change.key)),
                change.position,
                change.ts,
                loading or change.source.snapshot or change.op == Operation.SNAPSHOT,
                change.source.origin[1] != 0 and replayed(index),  # a replay has a generation of its own
                change.source.origin,
            )
        ).decode()
        for index, change in enumerate(changes)
    ]


def updates_of(entry: Entry) -> list[Updates]:
    """Return the updates of an entry, in their order; a value is a `FeatureUpdate` as JSON.

    Raises:
        ValueError: it is not one that the script has written.
    """
    try:
        incarnation, number, groups = _payload.decode(entry.payload)
        found: list[Updates] = []
        for about, updates in groups:
            reader = _reader(about)
            if reader.about.latest is not None:
                found.append(Updates(reader.view, [], LatestRows(reader.about, about, reader.rows(updates))))
            else:
                found.append(Updates(reader.view, reader.records(updates, entry.bucket, incarnation, number)))
            number += len(updates)
    except (msgspec.MsgspecError, IndexError, ValueError) as exc:
        raise ValueError(f"not an entry of ours: {type(exc).__name__}") from None  # its text may repeat a value
    return found


@functools.lru_cache(maxsize=1_000)
def _reader(about: str) -> _Reader:
    return _Reader(msgspec.json.decode(about, type=About))


class _Reader:
    """Makes the updates of one view: bytes at once, since objects that wait cost the garbage collector."""

    def __init__(self, about: About) -> None:
        self.view, self.about = about.view, about
        self._names = [name for name, _ in about.columns]
        self._forms = [(index, form) for index, (_, form) in enumerate(about.columns) if form != "text"]
        fields = {f"f{index}": name for index, name in enumerate(self._names)}
        self._row = msgspec.defstruct("Row", fields, rename=fields, gc=False)  # written faster than a dictionary

    def records(
        self, updates: Sequence[_Written], bucket: int, incarnation: str, number: int
    ) -> list[tuple[bytes, bytes]]:
        """Return key and value of each; `number` is that of the first."""
        found: list[tuple[bytes, bytes]] = []
        view, version, table = self.about.view, self.about.version, self.about.table
        for number_here, (entity, text, before, after) in enumerate(updates, start=number):
            cause = _cause.decode(text)
            old, unavailable_before = self._features(before)
            new, unavailable = self._features(after)
            update = FeatureUpdate(
                view,
                version,
                self._entity(entity),
                "delete" if new is None else "insert" if old is None else "update",
                old,
                new,
                unavailable_before,
                unavailable,
                table,
                cause.key,  # type: ignore[arg-type]  # JSON as it is
                cause.position,
                cause.ts,
                cause.snapshot,
                cause.replay,
                cause.origin,
                bucket,
                incarnation,
                number_here,
            )
            found.append((entity.encode(), _encode(update)))
        return found

    def rows(self, updates: Sequence[_Written]) -> list[LatestRow]:
        """Return what each row has become."""
        found: list[LatestRow] = []
        for key, text, _, after in updates:
            cause = _cause.decode(text)
            null, unavailable, *texts = (False, False) if isinstance(after, bool) else after
            if texts and len(texts) != len(self._names):
                raise ValueError("not a text for each column")
            missing = [name for name in _names_in(unavailable) if not name.startswith(".")]
            found.append(LatestRow(key, cause.position, cause.ts, texts or None, _names_in(null), missing))
        return found

    def _features(self, shown: _Shown) -> tuple[Any, list[str]]:
        """Return values by column, None where the entity does not live, and the columns that are unavailable."""
        if isinstance(shown, bool):
            return None, _NO_NAMES
        null, unavailable, *values = shown
        if len(values) != len(self._names):
            raise ValueError("not a value for each column")
        for index, form in self._forms:
            if values[index] is not False:
                values[index] = json_of_text(form, str(values[index]))
        if null is False and unavailable is False and False not in values:
            return self._row(*values), _NO_NAMES
        nulls = _names_in(null)
        found = {
            name: None if value is False else value
            for name, value in zip(self._names, values, strict=True)
            if value is not False or name in nulls
        }
        return found, [name for name in _names_in(unavailable) if not name.startswith(".")]

    def _entity(self, text: str) -> dict[str, Any]:
        return columns_of_text(self.about.entity, text)


def _names_in(text: Any) -> list[str]:
    return _names.decode(text) if text else _NO_NAMES


def json_of_text(form: str, text: str) -> Any:
    """Return a text of Redis as the contract has it: text, or the piece of JSON that it is."""
    if form == "text" or (form == "number" and text in _NOT_NUMBERS):
        return text
    return msgspec.Raw(text.encode())


def _unescaped(part: str) -> str:
    return part.replace("%3A", ":").replace("%25", "%")


def update_row_bytes_max(row_bytes_max: int, message_bytes_max: int) -> int:
    """Return how large a row of a view that emits may be, so that no update is above `message_bytes_max`."""
    return max(1, min(row_bytes_max, (message_bytes_max - UPDATE_OVERHEAD_BYTES) // UPDATE_ROWS))
