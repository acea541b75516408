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

from schemas.change import Operation
from schemas.feature import View
from schemas.feature_update import FeatureUpdate
from schemas.table import TableSpec
from schemas.types import Kind

UPDATE_OVERHEAD_BYTES = 4_096  # what an update has beside what its row has
UPDATE_ROWS = 12  # a row's bytes twice, before and after, each byte six in JSON at worst

_PLAIN = {Kind.INT: "json", Kind.BOOLEAN: "json", Kind.LIST: "json", Kind.FLOAT: "number", Kind.DOUBLE: "number"}
_NOT_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
_encode = msgspec.json.encode


class About(msgspec.Struct, gc=False):
    """What the updates of a view say of it: columns as (name, how its texts become JSON)."""

    view: str
    version: int
    table: str
    columns: list[tuple[str, str]]
    entity: list[tuple[str, str]]


class Cause(msgspec.Struct, array_like=True, gc=False):
    """The change that caused an update."""

    key: msgspec.Raw
    position: str
    ts: str
    snapshot: bool
    replay: bool
    origin: tuple[str, int, int, int]


class Entry(NamedTuple):
    """An entry of a bucket's stream."""

    bucket: int
    id: bytes
    payload: bytes


class Update(NamedTuple):
    """A feature update, and the text of its entity: the key of its record."""

    entity: str
    value: FeatureUpdate


# What cmsgpack makes of a shown entity: texts of `.null` and `.unavailable`, then values; false is none.
_Shown = list[Any] | bool
_Payload = tuple[str, int, list[tuple[str, list[tuple[str, str, _Shown, _Shown]]]]]
_payload = msgspec.msgpack.Decoder(_Payload)
_cause = msgspec.json.Decoder(Cause)
_names = msgspec.json.Decoder(list[str])


def about_view(spec: TableSpec, view: View) -> str:
    """Return what the updates of a view say of it, as a text of JSON."""
    columns, entity = ([(name, _form(spec, name)) for name in names] for names in (view.columns, _entity(spec, view)))
    return _encode(About(view.view, view.version, spec.table, columns, entity)).decode()


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
                change.source.origin[1] > 0 and replayed(index),  # a replay has a generation of its own
                change.source.origin,
            )
        ).decode()
        for index, change in enumerate(changes)
    ]


def updates_of(entry: Entry) -> list[Update]:
    """Return the updates of an entry, in their order.

    Raises:
        ValueError: it is not one that the script has written.
    """
    try:
        incarnation, number, groups = _payload.decode(entry.payload)
        found: list[Update] = []
        for about, updates in groups:
            reader = _reader(about)
            for entity, cause, before, after in updates:
                count = (entry.bucket, incarnation, number + len(found))
                found.append(reader.update(entity, _cause.decode(cause), before, after, count))
    except (msgspec.MsgspecError, IndexError, ValueError) as exc:
        raise ValueError(f"not an entry of ours: {type(exc).__name__}") from None  # its text may repeat a value
    return found


@functools.lru_cache(maxsize=1_000)
def _reader(about: str) -> _Reader:
    return _Reader(msgspec.json.decode(about, type=About))


class _Reader:
    """Makes the updates of one view."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._names = [name for name, _ in about.columns]
        self._forms = [(index, form) for index, (_, form) in enumerate(about.columns) if form != "text"]

    def update(self, entity: str, cause: Cause, before: _Shown, after: _Shown, count: tuple[int, str, int]) -> Update:
        """Return one update; `count` is bucket, incarnation and number."""
        old, unavailable_before = self._features(before)
        new, unavailable = self._features(after)
        about = self._about
        value = FeatureUpdate(
            view=about.view,
            version=about.version,
            entity=self._entity(entity),
            op="delete" if new is None else "insert" if old is None else "update",
            before=old,
            after=new,
            unavailable_before=unavailable_before,
            unavailable=unavailable,
            table=about.table,
            key=cause.key,  # type: ignore[arg-type]  # JSON as it is
            position=cause.position,
            ts=cause.ts,
            snapshot=cause.snapshot,
            replay=cause.replay,
            origin=cause.origin,
            bucket=count[0],
            incarnation=count[1],
            number=count[2],
        )
        return Update(entity, value)

    def _features(self, shown: _Shown) -> tuple[dict[str, Any] | None, list[str]]:
        """Return values by column, and the columns that are unavailable."""
        if isinstance(shown, bool):
            return None, []
        null, unavailable, *values = shown
        if len(values) != len(self._names):
            raise ValueError("not a value for each column")
        for index, form in self._forms:
            if values[index] is not False:
                values[index] = _value(form, str(values[index]))
        if null is False and unavailable is False and False not in values:
            return dict(zip(self._names, values, strict=True)), []
        nulls = _names.decode(null) if null else ()
        found = {
            name: None if value is False else value
            for name, value in zip(self._names, values, strict=True)
            if value is not False or name in nulls
        }
        missing = _names.decode(unavailable) if unavailable else ()
        return found, [name for name in missing if not name.startswith(".")]

    def _entity(self, text: str) -> dict[str, Any]:
        """Return the columns that an entity's text names (`layout.entity_text`)."""
        columns = self._about.entity
        parts = [text] if len(columns) == 1 else [_unescaped(part) for part in text.split(":")]
        return {name: _value(form, part) for (name, form), part in zip(columns, parts, strict=True)}


def _value(form: str, text: str) -> Any:
    """Return a text of Redis as the contract has it: text, or the piece of JSON that it is."""
    if form == "text" or (form == "number" and text in _NOT_NUMBERS):
        return text
    return msgspec.Raw(text.encode())


def _unescaped(part: str) -> str:
    return part.replace("%3A", ":").replace("%25", "%")


def update_row_bytes_max(row_bytes_max: int, message_bytes_max: int) -> int:
    """Return how large a row of a view that emits may be, so that no update is above `message_bytes_max`."""
    return max(1, min(row_bytes_max, (message_bytes_max - UPDATE_OVERHEAD_BYTES) // UPDATE_ROWS))
