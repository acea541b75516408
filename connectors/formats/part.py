"""The changes of one layout, column by column: keys named twice, unavailable values, forms, keys, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from msgspec import UNSET

from connectors.formats import temporal
from connectors.formats.envelope import COLON_TEXTS, Layout
from connectors.formats.forms import Conversion
from connectors.formats.inspection import inspect
from connectors.formats.keys import ESCAPED_COLON, KeyReader
from connectors.formats.reasons import Rejection
from connectors.formats.rows import convert, take_unavailable, text_colons
from connectors.formats.truncates import CODE

COMMIT_TIMES = Conversion(lambda micros: temporal.datetime_text(micros) + "Z", temporal.timestamp_column(1, 1, "Z"))
_ROWLESS = frozenset("dt")


@dataclass(slots=True)
class Part:
    """The changes of one layout as parallel columns; a place is an index into them.

    `faults` are the places that are rejected, `unavailable` the columns that the source did not send. `befores` is
    empty unless `before` is trusted. `joined` is all payloads, to look for what is rare at once; `rfind` does that
    three times as fast as `in`.
    """

    layout: Layout
    indices: list[int]
    payloads: list[bytes]
    entries: list[Any]
    joined: bytes
    sources: list[Any] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    afters: list[Any] = field(default_factory=list)
    befores: list[Any] = field(default_factory=list)
    faults: dict[int, Rejection] = field(default_factory=dict)
    unavailable: dict[int, list[str]] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)
    other_keys: dict[int, Any] = field(default_factory=dict)
    positions: list[str] = field(default_factory=list)
    snapshots: list[bool] = field(default_factory=list)
    ts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sources = [entry.source for entry in self.entries]
        self.codes = [entry.op for entry in self.entries]
        self.afters = [entry.after for entry in self.entries]
        self.befores = [entry.before for entry in self.entries] if self.layout.before else []
        self.keys = [None] * len(self.entries)
        if not _ROWLESS.isdisjoint(self.codes):
            self.afters = [
                None if code in _ROWLESS else after for code, after in zip(self.codes, self.afters, strict=True)
            ]

    def reject(self, faults: dict[int, Rejection]) -> None:
        """Keep faults by place; the first of a place stays."""
        if faults:
            self.faults = faults | self.faults


def check_rows(part: Part) -> None:
    """Reject inserts, updates and snapshot rows without a row."""
    if None in part.afters:
        bare = [i for i, after in enumerate(part.afters) if after is None and part.codes[i] not in _ROWLESS]
        part.reject({i: Rejection("no_row", f"`op` is {part.codes[i]}, and `after` holds no row") for i in bare})


def check_keys_unique(part: Part, *, depth_max: int) -> None:
    """Reject records that name a key twice: one whose number of keys is not the usual one is looked at in full."""
    layout = part.layout
    if not layout.exact:
        for i, payload in enumerate(part.payloads):
            _inspected(part, i, payload, depth_max)
        return
    counts, shapes = _key_counts(part)
    if len(set(counts)) == 1 and shapes is None and layout.keys.get(_ORDINARY) == counts[0]:
        return
    for i, count in enumerate(counts):
        shape = _ORDINARY if shapes is None else shapes[i]
        if layout.keys.get(shape) == count:
            continue
        if _inspected(part, i, part.payloads[i], depth_max) and count != _UNCOUNTED:
            layout.keys[shape] = count


_UNCOUNTED = -1
_ORDINARY = (True, False, False)  # a row after, none trusted before, no transaction block


def _inspected(part: Part, place: int, payload: bytes, depth_max: int) -> bool:
    try:
        inspect(payload, depth_max=depth_max)
    except Rejection as exc:
        part.reject({place: exc})
        return False
    return True


def _key_counts(part: Part) -> tuple[list[int], list[Any] | None]:
    """Return how many keys each record has (colons outside its values), and each one's shape if not all are ordinary.

    An escaped colon would hide a key: such a record gets a number that is never learned.
    """
    counts = [payload.count(b":") for payload in part.payloads]
    _less(counts, part, part.afters)
    trusted, entries, size = part.layout.before, part.entries, len(counts)
    befores = [entry.before for entry in entries]
    bare = befores.count(None) == size if trusted else b"".join(befores) == b"null" * size
    ordinary = bare and None not in part.afters and [entry.transaction for entry in entries].count(None) == size
    if trusted:
        _less(counts, part, befores)
    elif not bare:
        for i, before in enumerate(befores):
            counts[i] -= bytes(before).count(b":")
    for name in COLON_TEXTS[type(part.sources[0])]:
        for i, text in enumerate(map(attrgetter(name), part.sources)):
            if isinstance(text, str):
                counts[i] -= text.count(":")
    if part.joined.rfind(ESCAPED_COLON) >= 0:
        counts = [
            _UNCOUNTED if ESCAPED_COLON in payload else count
            for payload, count in zip(part.payloads, counts, strict=True)
        ]
    if ordinary:
        return counts, None
    return counts, [
        (entry.after is not None, trusted and entry.before is not None, entry.transaction is not None)
        for entry in entries
    ]


def _less(counts: list[int], part: Part, rows: list[Any]) -> None:
    """Take the colons inside the values of `rows` off `counts`, in place."""
    places: Sequence[int] = range(len(rows))
    if None in rows:
        places = [i for i, row in enumerate(rows) if row is not None]
        rows = [rows[i] for i in places]
    if not rows:
        return
    same, each = text_colons(part.layout.plan, rows)
    if each is not None:
        for i, more in zip(places, each, strict=True):
            counts[i] -= more + same
    elif same:
        if len(places) == len(counts):
            counts[:] = [count - same for count in counts]
        else:
            for i in places:
                counts[i] -= same


def find_unavailable(part: Part) -> None:
    """Remove what the source did not send from the rows, and name it in `unavailable`."""
    needles = part.layout.plan.needles
    if needles == ():
        return
    flagged: Sequence[int] = range(len(part.entries))
    if needles is not None:
        present = [needle for needle in needles if part.joined.rfind(needle) >= 0]
        if not present:
            return
        flagged = [i for i, payload in enumerate(part.payloads) if any(needle in payload for needle in present)]
    for i in flagged:
        if part.afters[i] is not None and (names := take_unavailable(part.layout.plan, part.afters[i])):
            part.unavailable[i] = names
        if part.befores and part.befores[i] is not None:
            take_unavailable(part.layout.plan, part.befores[i])


def convert_rows(part: Part) -> int:
    """Bring the rows into the contract's form; reject those with a value that has none.

    Returns how many values became null instead, as their columns' specs ask for.
    """
    nulled: Counter[str] = Counter()
    for rows in (part.afters, part.befores):
        places: Sequence[int] = range(len(rows))
        present = rows
        if None in rows:
            places = [i for i, row in enumerate(rows) if row is not None]
            present = [rows[i] for i in places]
        if present:
            faults = convert(part.layout.plan, present, nulled)
            part.reject({places[i]: _misfit(name, fault) for i, (name, fault) in faults.items()})
    return nulled.total()


def _misfit(name: str, fault: Rejection) -> Rejection:
    return Rejection(fault.reason, f"column {name}: {fault.message or 'the value has no form in its type'}")


def read_keys(part: Part, reader: KeyReader, names: list[str], raws: list[bytes | None]) -> int:
    """Take keys from records, else from rows; reject what names two rows or none; return how many are from rows."""
    column = part.layout.plan.by_name(names[0])
    if column is not None and part.layout.exact and not part.faults and None not in part.afters:
        known = reader.of_rows(column, list(map(column.read, part.afters)), raws)
        if known is not None:
            part.keys = known
            return 0
    if CODE in part.codes:  # a truncate has none, whatever its record says
        raws = [None if code == CODE else raw for code, raw in zip(part.codes, raws, strict=True)]
    if None not in raws:
        part.keys, faults = reader.read(raws)  # type: ignore[arg-type]
        part.reject(faults)
        from_rows = 0
    else:
        places = [i for i, raw in enumerate(raws) if raw is not None]
        keys, faults = reader.read([raw for raw in raws if raw is not None])
        for place, key in zip(places, keys, strict=True):
            part.keys[place] = key
        part.reject({places[i]: fault for i, fault in faults.items()})
        bare = [i for i, raw in enumerate(raws) if raw is None and part.codes[i] != CODE]
        from_rows = sum(_key_of_row(part, reader, names, i) for i in bare)
    for number, name in enumerate(names):
        _compare(part, name, f"c{number}")
    return from_rows


def _key_of_row(part: Part, reader: KeyReader, names: list[str], place: int) -> bool:
    row = part.afters[place] if part.codes[place] != "d" else (part.befores[place] if part.befores else None)
    columns = [part.layout.plan.by_name(name) for name in names]
    found = [None if row is None or column is None else column.read(row) for column in columns]
    if any(value is None or value is UNSET for value in found):
        part.reject({place: Rejection("no_key", "the record has no key, and no trusted row that is complete in it")})
        return False
    part.keys[place] = reader.row_type(*found)
    return place not in part.faults


def _compare(part: Part, name: str, attribute: str) -> None:
    """Reject where a key and its row differ in a column; a delete's row is `before`, if that is trusted.

    Without a row a null is no key: the source did not log the column of what was deleted.
    """
    rows = part.afters
    if part.befores and None in rows:
        rows = [
            before if code == "d" else row for code, row, before in zip(part.codes, rows, part.befores, strict=True)
        ]
    if None in rows:
        bare = [i for i, row in enumerate(rows) if row is None and getattr(part.keys[i], attribute, "") is None]
        part.reject({i: Rejection("bad_key", f"column {name} of the key is null, and there is no row") for i in bare})
    column = part.layout.plan.by_name(name)
    if column is None:
        return
    if None in rows or None in part.keys or part.faults:
        pairs = [
            (i, key, row)
            for i, (key, row) in enumerate(zip(part.keys, rows, strict=True))
            if key is not None and row is not None
        ]
    elif [getattr(key, attribute) for key in part.keys] == list(map(column.read, rows)):
        return
    else:
        pairs = [(i, key, row) for i, (key, row) in enumerate(zip(part.keys, rows, strict=True))]
    wrong = [i for i, key, row in pairs if getattr(key, attribute) != column.read(row)]
    part.reject({i: Rejection("key_mismatch", f"column {name} of the key is not that of the row") for i in wrong})


def read_times(part: Part) -> None:
    """Write the commit times of the sources as the contract has them; microseconds where the connector gives them."""
    micros = [source.ts_us for source in part.sources]
    if None in micros:
        millis = [source.ts_ms for source in part.sources]
        bare = [i for i, value in enumerate(micros) if value is None and millis[i] is None]
        part.reject({i: Rejection("bad_time", "`source` has neither ts_us nor ts_ms") for i in bare})
        micros = [(millis[i] or 0) * 1_000 if value is None else value for i, value in enumerate(micros)]
    part.ts, faults = COMMIT_TIMES.apply(micros)
    part.reject({i: Rejection("bad_time", "the commit time in `source` is no time") for i in faults})
