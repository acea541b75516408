"""AWS DMS on Kafka or Kinesis: one record per change, `data` beside `metadata`; control records are no changes.

The row's key is taken from the row: the record's key is what DMS partitions by. What stood before an update is in an
object of its own or in columns with a prefix, as the task says; where the key's columns differ, the update is a delete
and an insert. Null columns are left out by default, so an absent column is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.base import Records, origin_offsets
from connectors.formats.dms_order import RANK_DIGITS, commit_times, positions
from connectors.formats.event_decoder import EventFormat
from connectors.formats.events import Envelopes, Events, RawRow
from connectors.formats.objects import check_unique, members, written
from connectors.formats.options import options_of
from connectors.formats.reasons import Rejection
from connectors.formats.texts import whole_texts
from schemas.config import LimitsConfig
from schemas.document import Strict
from schemas.table import TableEntry

_CODES = {"load": "r", "insert": "c", "update": "u", "delete": "d"}
OWN_TABLES = "awsdms_"  # tables that DMS makes for itself
_EMPTY = frozenset({b"", b"null", b"{}"})
_Text = str | None | UnsetType
_Number = int | str | float | None | UnsetType


class DmsOptions(Strict):
    """Where the task puts what stood before: a top-level object, or columns of `data` with a prefix."""

    before_image: str = "before-image"
    before_prefix: str = "BI_"


class Metadata(msgspec.Struct, rename="kebab", gc=False):
    """`metadata` of a data record; the names in a record have hyphens."""

    record_type: Literal["data"]
    operation: Literal["load", "insert", "update", "delete"]
    schema_name: _Text = UNSET
    table_name: _Text = UNSET
    timestamp: _Text = UNSET
    commit_timestamp: _Text = UNSET
    stream_position: _Text = UNSET
    partition_key_type: _Text = UNSET
    partition_key_value: _Text = UNSET
    transaction_id: _Number = UNSET
    transaction_record_id: _Number = UNSET
    prev_transaction_id: _Number = UNSET
    prev_transaction_record_id: _Number = UNSET


class Unwrapper:
    """Reads the records of one table."""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the options of the spec.

        Raises:
            ConfigurationError: an option is none.
        """
        options = options_of(entry.spec, DmsOptions)
        self._epoch, self._key, self._depth_max = entry.epoch, entry.spec.key, limits.record_depth_max
        self._prefix, self._columns = options.before_prefix, entry.spec.columns.keys()
        names = {"before": options.before_image}
        fields: list[Any] = [
            ("data", msgspec.Raw), ("metadata", Metadata), ("before", msgspec.Raw | UnsetType, UNSET),
        ]  # fmt: skip
        envelope = msgspec.defstruct("Envelope", fields, rename=names, gc=False)
        self._envelopes: Envelopes[Any] = Envelopes(envelope, limits, _judge)
        fields = [(f"k{i}", msgspec.Raw | UnsetType, UNSET) for i in range(len(self._key))]
        names = {f"k{i}": name for i, name in enumerate(self._key)}
        key = msgspec.defstruct("Key", fields, rename=names, gc=False)
        self._read_key = msgspec.json.Decoder(key).decode
        self._write = msgspec.json.Encoder().encode
        self._quoted = [self._write(name) for name in self._key]

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold; a change of a key is two of them."""
        events = Events(connector="dms", ranked=RANK_DIGITS)
        found = _without_own(self._envelopes.read(records.values(), events), events)
        if not found:
            return events
        indices = [index for index, _ in found]
        metadata = [one.metadata for _, one in found]
        offsets = origin_offsets(records)
        if len(indices) != len(offsets):
            offsets = [offsets[index] for index in indices]
        events.indices = indices
        events.codes = [_CODES[one.operation] for one in metadata]
        events.positions, faults = positions(metadata, offsets, self._epoch)
        events.times, bad = commit_times(metadata)
        events.rejected |= {indices[i]: fault for i, fault in (faults | bad).items()}
        events.transactions = _transactions(metadata)
        events.source_table = f"{metadata[0].schema_name or ''}.{metadata[0].table_name or ''}"
        _mark_loads(events)
        self._put_rows(events, [one for _, one in found])
        return events

    def _put_rows(self, events: Events, envelopes: list[Any]) -> None:
        """Put the rows after and before the changes into `events`, and part changes of keys in two."""
        datas: list[Any] = [one.data for one in envelopes]
        befores: list[Any] = [None] * len(envelopes)
        if any(one.before is not UNSET for one in envelopes):
            befores = [None if bytes(one.before or b"") in _EMPTY else one.before for one in envelopes]
        if self._prefix and f'"{self._prefix}'.encode() in b"".join(datas):
            self._part_by_prefix(events, datas, befores)
        events.afters, events.befores = datas, befores
        if "d" not in events.codes and befores.count(None) == len(befores):
            events.befores = []
            return
        others: dict[int, tuple[bytes, bytes]] = {}
        for i, code in enumerate(events.codes):
            try:
                if code == "d":
                    datas[i], befores[i] = None, self._deleted(datas[i], befores[i])
                elif code == "u" and befores[i] is not None and (keys := self._changed(befores[i], datas[i])):
                    others[i] = keys
            except Rejection as fault:
                events.rejected[events.indices[i]] = fault
        if others:
            _part_key_changes(events, others)

    def _deleted(self, data: RawRow, before: RawRow) -> RawRow:
        """Return the row of a delete: the image of it where that has the key, for `data` may have no more than that."""
        return data if before is None or self._key_of(before) is None else before

    def _key_of(self, row: Any) -> bytes | None:
        """Return the columns of the key that a row has as an object; None where one is missing.

        Raises:
            Rejection: one stands there twice.
        """
        try:
            key = self._read_key(row)
        except (msgspec.MsgspecError, RecursionError):  # what is wrong with it is said where rows are typed
            return None
        check_unique(row, self._quoted, depth_max=self._depth_max)
        values = msgspec.structs.astuple(key)
        return None if UNSET in values or not values else self._write(key)

    def _changed(self, before: RawRow, after: RawRow) -> tuple[bytes, bytes] | None:
        """Return the keys before and after an update if they are two."""
        old, new = self._key_of(before), self._key_of(after)
        return None if old is None or new is None or old == new else (old, new)

    def _part_by_prefix(self, events: Events, datas: list[Any], befores: list[Any]) -> None:
        """Move the columns with the prefix, without it, into what stood before."""
        needle, prefix = f'"{self._prefix}'.encode(), self._prefix
        for i, data in enumerate(datas):
            raw = bytes(data)
            if needle not in raw:
                continue
            try:
                columns = members(raw, depth_max=self._depth_max)
            except Rejection as fault:
                events.rejected[events.indices[i]] = fault
                continue
            own = {name for name in columns if name.startswith(prefix) and name not in self._columns}
            datas[i] = written({name: one for name, one in columns.items() if name not in own})
            if own:
                befores[i] = written({name.removeprefix(prefix): columns[name] for name in own})


def _part_key_changes(events: Events, others: dict[int, tuple[bytes, bytes]]) -> None:
    """Make each update at a place in `others` (old and new key) a delete and an insert."""
    places = list(chain.from_iterable((i, i) if i in others else (i,) for i in range(len(events.codes))))
    codes, afters, befores = events.codes, events.afters, events.befores
    for name in ("indices", "positions", "times", "transactions", "snapshots"):
        column = getattr(events, name)
        setattr(events, name, [column[i] for i in places])
    initial = events.initial
    events.codes, events.afters, events.befores, events.initial = [], [], [], set()
    for place, i in enumerate(places):
        code, after, before = codes[i], afters[i], befores[i]
        if i in others:
            old, new = others[i]
            first = place + 1 < len(places) and places[place + 1] == i
            code, after, before = ("d", None, before) if first else ("c", after, None)
            events.other_keys[place] = new if first else old
        elif i in initial:
            events.initial.add(place)
        events.codes.append(code)
        events.afters.append(after)
        events.befores.append(before)


def _mark_loads(events: Events) -> None:
    events.snapshots = [code == "r" for code in events.codes]
    events.initial = {i for i, snapshot in enumerate(events.snapshots) if snapshot}


def _without_own(found: list[tuple[int, Any]], events: Events) -> list[tuple[int, Any]]:
    """Skip rows of the tables that DMS keeps for itself."""
    names = {one.metadata.table_name for _, one in found}
    own = {name for name in names if name and name.startswith(OWN_TABLES)}
    if own:
        events.skipped |= {index: "notification" for index, one in found if one.metadata.table_name in own}
        found = [(index, one) for index, one in found if one.metadata.table_name not in own]
    return found


def _transactions(metadata: Sequence[Metadata]) -> list[str | None]:
    ids: list[Any] = [one.transaction_id for one in metadata]
    if set(map(type, ids)) == {int}:
        return whole_texts(ids)  # type: ignore[return-value]
    return [None if one is None or one is UNSET else str(one) for one in ids]


def _judge(document: Any) -> str:
    """Return the name of a record that is no change of a row."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict):
        raise Rejection("not_a_change", "the record has no `metadata`, so AWS DMS did not write it")
    if metadata.get("record-type") == "control":
        return "schema_change"
    if metadata.get("record-type") != "data":
        raise Rejection("not_a_change", "`metadata.record-type` is neither data nor control")
    if metadata.get("operation") not in list(_CODES):
        raise Rejection("unknown_op", "`metadata.operation` is none of load, insert, update, delete")
    if "data" not in document:
        raise Rejection("no_row", "the record has no `data`")
    raise Rejection("not_a_change", "a field of `metadata` has another type than AWS DMS writes")


def looks_like(document: dict[str, Any]) -> bool:
    """Tell whether AWS DMS wrote a record."""
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and metadata.get("record-type") in ("data", "control")


def table_of(document: dict[str, Any]) -> str | None:
    """Return the source table of a record, `schema.table`; None if it names none."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(table := metadata.get("table-name"), str):
        return None
    schema = metadata.get("schema-name")
    return f"{schema}.{table}" if schema else table


FORMAT = EventFormat("dms", Unwrapper, absent="null")
