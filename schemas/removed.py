"""What stays of a table that was removed: enough for it to go on where it stood if it is ever registered again.

Its output topic, features and lake table may all be there still. A version of its columns, a generation of its topics
or an epoch that began anew would contradict what they hold.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas import versions
from schemas.document import Strict, read_record
from schemas.epoch import EpochStart
from schemas.position import EPOCH_MAX
from schemas.table import APPLIED_BY_CHARACTERS_MAX, Decision, TableEntry, TableSpec
from schemas.views_left import views_left

_PREFIX = "removed/"
# What a table that is registered again takes over as it was; these stand under the same names in its entry.
_AS_IT_WAS = (
    "epoch", "generation", "decisions", "epochs", "resynced", "resumed", "replayed_apart", "mask_keys",
)  # fmt: skip


class Removed(Strict):
    """A table as it stood when it was removed; see `TableEntry` for what each of these says.

    `topics` are those that it read, by name or pattern, which no template takes over; what was removed by an older
    release does not say them.
    """

    table: str
    schema_version: Annotated[int, Field(ge=1)]
    epoch: Annotated[int, Field(ge=0, le=EPOCH_MAX)] = 0
    generation: Annotated[int, Field(ge=0)] = 0
    decisions: dict[str, Decision] = {}
    epochs: dict[str, list[EpochStart]] = {}
    resynced: Annotated[int, Field(ge=0, le=EPOCH_MAX)] = 0
    resumed: Annotated[int, Field(ge=0)] = 0
    replayed_apart: bool = False
    mask_keys: dict[str, str] = {}
    views_left: dict[str, str] = {}
    topics: list[str] = []
    removed_at: str = ""
    removed_by: Annotated[str, Field(max_length=APPLIED_BY_CHARACTERS_MAX)] = ""
    v: int = versions.REMOVED.writes

    @property
    def key(self) -> bytes:
        """The key of its record in the tables' topic."""
        return key_of(self.table)

    def encoded(self) -> bytes:
        """Return the value of its record."""
        return self.model_dump_json().encode()

    def entry(self, spec: TableSpec) -> TableEntry:
        """Return the entry of a spec that is registered under this name again; its version is one that never was."""
        return TableEntry(
            spec=spec,
            schema_version=self.schema_version + 1,
            views_left=self.views_left,
            **{name: getattr(self, name) for name in _AS_IT_WAS},
        )


def removed_of(entry: TableEntry, *, at: str, by: str) -> Removed:
    """Return what stays of a table; `entry` is the one in force, whose version counts what workers found, too."""
    return Removed(
        table=entry.spec.table,
        schema_version=entry.schema_version,
        views_left=views_left(entry.views_left, entry.spec, None),
        topics=entry.spec.topics,
        **{name: getattr(entry, name) for name in _AS_IT_WAS},
        removed_at=at,
        removed_by=by,
    )


def key_of(table: str) -> bytes:
    """Return the key of what stays of a table; no table's name holds its slash."""
    return f"{_PREFIX}{table}".encode()


def table_of(key: str) -> str:
    """Return the table of such a key."""
    return key.removeprefix(_PREFIX)


def is_removed(key: str) -> bool:
    """Tell whether a key of the tables' topic is of a table that was removed."""
    return key.startswith(_PREFIX)


def read_removed(data: bytes) -> Removed:
    """Return what stays of a table.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        ConfigurationError: somebody else wrote it.
    """
    what, hint = "what stays of a removed table", "upgrade this release, or delete that record"
    return read_record(data, Removed, versions.REMOVED, what, hint=hint)
