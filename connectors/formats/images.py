"""Images of rows before typing: what a tool writes of a row before and after becomes changes of one key each.

An update that changes the key is two changes, the delete of the old key and the insert of the new one. Values of keys
are compared as they are written: the same tool writes equal values alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from connectors.formats.base import Records, origin_offsets
from connectors.formats.events import Envelopes, Events
from connectors.formats.objects import check_unique, members
from connectors.formats.reasons import Rejection
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec

Image = msgspec.Raw | UnsetType
T = TypeVar("T")
_encode = msgspec.json.encode


def given(raw: Image) -> msgspec.Raw | None:
    """Return an image, None where it is null or not there."""
    return None if raw is UNSET or bytes(raw) == b"null" else raw


class RowChange(NamedTuple):
    """One row as a tool says that it changed; `at` gives the position, of 0 the delete of a changed key, else of 1."""

    code: str
    at: Callable[[int], str]
    ts: int
    after: msgspec.Raw | None = None
    before: msgspec.Raw | None = None
    transaction: str | None = None


class KeyChange(NamedTuple):
    """The keys of a row before and after a change of its key, as JSON objects of exactly the key's columns."""

    old: bytes
    new: bytes


class Images:
    """Adds changes of one table's rows to events.

    Where the spec does not trust images of what was there before, only their keys are read. `partial` is for tools
    that write of it only what changed, `unsent` the JSON that one writes for a value that its source did not send.
    """

    def __init__(self, spec: TableSpec, *, depth_max: int, partial: bool = False, unsent: bytes = b"") -> None:
        """Prepare for the spec's key; without one, no image has a key.

        Raises:
            ConfigurationError: a name cannot be read.
        """
        self._trusted, self._partial, self._depth_max = spec.before == "full", partial, depth_max
        self._unsent, self._columns = unsent, spec.columns.keys()
        self._quoted = [_encode(name) for name in spec.key]
        self._heads = [name + b":" for name in self._quoted]
        self._names = [f"k{number}" for number in range(len(spec.key))]
        try:
            type_ = msgspec.defstruct(
                "KeyImage",
                [(name, msgspec.Raw | UnsetType, UNSET) for name in self._names],
                rename=dict(zip(self._names, spec.key, strict=True)),
                gc=False,
            )
        except ValueError as exc:
            raise ConfigurationError(
                "a column of the key has a quote, a backslash or a control character in its name",
                hint="rename it at the source",
            ) from exc
        self._decode = msgspec.json.Decoder(type_).decode

    def add(self, events: Events, index: int, row: RowChange) -> None:
        """Add what happened to one row of the record `index`.

        Raises:
            Rejection: an image is no JSON object, or names a column twice.
        """
        unavailable: list[str] = []
        if self._unsent:
            after, unavailable = self._sent(row.after)
            row = row._replace(after=after, before=self._sent(row.before)[0])
        self._add(events, index, row)
        if unavailable:
            events.unavailable[len(events.indices) - 1] = unavailable

    def _sent(self, image: msgspec.Raw | None) -> tuple[msgspec.Raw | None, list[str]]:
        """Return an image without what was not sent, and the columns of the spec that it lacks for that."""
        if image is None or self._unsent not in bytes(image):
            return image, []
        fields = members(image, depth_max=self._depth_max)
        names = [name for name, value in fields.items() if bytes(value) == self._unsent]
        kept = {name: value for name, value in fields.items() if name not in names}
        return msgspec.Raw(_encode(kept)), [name for name in names if name in self._columns]

    def _add(self, events: Events, index: int, row: RowChange) -> None:
        if row.code == "d":
            self._add_delete(events, index, row)
        elif row.code == "u" and row.after is not None and (keys := self.change(row.after, row.before)):
            before = self._before(row)
            deleted = events.add(index, "d", row.at(0), row.ts, before=before, transaction=row.transaction)
            events.name_key(keys.old)
            inserted = events.add(index, "c", row.at(1), row.ts, after=row.after, transaction=row.transaction)
            events.name_key(keys.new)
            events.other_keys |= {deleted: keys.new, inserted: keys.old}
        else:
            events.add(
                index,
                row.code,
                row.at(1),
                row.ts,
                after=row.after,
                before=self._before(row),
                snapshot=row.code == "r",
                transaction=row.transaction,
            )

    def _add_delete(self, events: Events, index: int, row: RowChange) -> None:
        """Add a delete by its key alone if it has one: nothing else of an image that nobody trusts can be at fault."""
        key = self.key(row.before)
        before = row.before if self._trusted or key is None else None
        events.add(index, "d", row.at(1), row.ts, before=before, transaction=row.transaction)
        if key is not None:
            events.name_key(key)

    def _before(self, row: RowChange) -> bytes | msgspec.Raw | None:
        if not self._trusted or row.before is None or row.after is None:
            return None
        if not self._partial:
            return row.before
        whole, changed = (members(image, depth_max=self._depth_max) for image in (row.after, row.before))
        return _encode(whole | changed)

    def key(self, image: msgspec.Raw | None) -> bytes | None:
        """Return the key of a row, None where the image does not have all of it.

        Raises:
            Rejection: the image is no JSON object, or names a column of the key twice.
        """
        return None if image is None or not self._names else self._object(self._parts(image))

    def change(self, after: msgspec.Raw, before: msgspec.Raw | None) -> KeyChange | None:
        """Return both keys where they differ; what `before` does not have is as in `after`.

        Raises:
            Rejection: an image is no JSON object, or names a column of the key twice.
        """
        if before is None or not self._names:
            return None
        earlier = self._parts(before)
        if earlier.count(UNSET) == len(earlier):
            return None
        new = self._parts(after)
        old = [n if o is UNSET else o for o, n in zip(earlier, new, strict=True)]
        found = self._object(old), self._object(new)
        if found[0] == found[1] or found[0] is None or found[1] is None:
            return None
        return KeyChange(found[0], found[1])

    def _parts(self, image: msgspec.Raw) -> list[Any]:
        try:
            found = self._decode(image)
        except RecursionError:  # it was passed over before, but from a place with more room
            raise Rejection("too_deep", "nested deeper than the decoder reads") from None
        except msgspec.MsgspecError:
            raise Rejection("no_row", "an image of the row is no JSON object") from None
        parts = [getattr(found, name) for name in self._names]
        if parts.count(UNSET) != len(parts):  # else none of them stands there, nor does one twice
            check_unique(image, self._quoted, depth_max=self._depth_max)
        return parts

    def _object(self, parts: list[Any]) -> bytes | None:
        if any(part is UNSET or bytes(part) == b"null" for part in parts):
            return None
        return b"{" + b",".join([head + bytes(part) for head, part in zip(self._heads, parts, strict=True)]) + b"}"


class ImageUnwrapper(Generic[T]):
    """Reads the records of one table of a tool that writes images of rows; a format says how one is taken."""

    connector: ClassVar[str]
    envelope: ClassVar[type[Any]]
    partial: ClassVar[bool] = False  # both as `Images` has them
    unsent: ClassVar[bytes] = b""

    def __init__(self, entry: TableEntry, limits: LimitsConfig) -> None:
        """Prepare for the table.

        Raises:
            ConfigurationError: a column of the key has a name that cannot be read.
        """
        self._epoch = entry.epoch
        self._envelopes: Envelopes[T] = Envelopes(self.envelope, limits, self.judge)
        self._images = Images(
            entry.spec, depth_max=limits.record_depth_max, partial=self.partial, unsent=self.unsent
        )  # fmt: skip

    def unwrap(self, records: Records) -> Events:
        """Return the changes that the records hold."""
        events = Events(connector=self.connector)
        self._envelopes.each(records.values(), events, partial(self.take, origin_offsets(records)))
        return events

    @staticmethod
    @abstractmethod
    def judge(document: Any) -> str:
        """Return the name of a record that is no change of a row, of its document.

        Raises:
            Rejection: the tool does not write such a record.
        """

    @abstractmethod
    def take(self, offsets: list[int], index: int, envelope: T, events: Events) -> None:
        """Add the changes of an envelope; `offsets` are those of the records.

        Raises:
            Rejection: it says too little, or what no tool writes.
        """
