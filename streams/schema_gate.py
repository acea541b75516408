"""The gate before a stage that reads changes: none is read by a spec that is older than the one it was written by.

Each change says its table's schema version in a header, and NORMALIZE writes a spec to `headgate.tables` before the
first change that is written by it. So a version that this worker does not know yet stands there: it is taken up first.
Read by the older spec, a column that is new would be dropped, and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from connectors.transport.chunk import Headers, Run, by_topic
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.errors import TableStopped
from schemas.table import TableEntry
from schemas.topics import TopicNames

CatchUp = Callable[[], Awaitable[None]]  # returns once all that `headgate.tables` holds now is taken up
_DIGITS_MAX = 18


async def nothing_new() -> None:
    """Take up nothing: for a stage whose tables nobody changes."""


def versions_in(tables: Mapping[str, TableEntry]) -> Callable[[str], int | None]:
    """Return what gives the schema version that a table has now, None where it is not registered."""

    def known(table: str) -> int | None:
        entry = tables.get(table)
        return None if entry is None else entry.schema_version

    return known


@dataclass(frozen=True, slots=True)
class LetIn:
    """What a group may do: topics whose table cannot go on, and those with changes of an older version."""

    stopped: dict[str, TableStopped]
    older: frozenset[str]


class SchemaGate:
    """Compares what runs say with what the stage knows; `catch_up` is called where that is not enough."""

    def __init__(self, names: TopicNames, known: Callable[[str], int | None]) -> None:
        """Ask `known` for the version of a table, None where the stage has no such table."""
        self._names, self.known = names, known
        self.catch_up: CatchUp = nothing_new

    async def let_in(self, runs: Iterable[Run]) -> LetIn:
        """Return what runs of output topics may do, once all versions are known that can be.

        Raises:
            SourceUnavailable: the end of the tables' topic was not reached in time.
        """
        found = {topic: versions_of(some) for topic, some in by_topic(runs).items()}
        if any(self._is_ahead(topic, versions) for topic, versions in found.items()):
            await self.catch_up()
        stopped = {
            topic: self._unknown(topic, max(versions))
            for topic, versions in found.items()
            if self._is_ahead(topic, versions)
        }
        older = frozenset(topic for topic, versions in found.items() if self._is_behind(topic, versions))
        return LetIn(stopped, older)

    def _is_ahead(self, topic: str, versions: set[int]) -> bool:
        known = self.known(self._names.table_of(topic))
        return known is not None and any(version > known for version in versions)

    def _is_behind(self, topic: str, versions: set[int]) -> bool:
        known = self.known(self._names.table_of(topic))
        return known is not None and any(version < known for version in versions)

    def _unknown(self, topic: str, version: int) -> TableStopped:
        table = self._names.table_of(topic)
        known = self.known(table)
        return TableStopped(
            "schema_unknown",
            f"{topic} has changes of schema version {version}, and {self._names.tables} has {table} in version {known}",
            hint="does another installation write to this topic? Apply the table's spec until it has that version, "
            "then `headgate tables resume TABLE`",
        )


def versions_of(runs: Sequence[Run]) -> set[int]:
    """Return the schema versions that runs are known to have, the highest of each among them.

    NORMALIZE's versions only rise while one worker has a partition. Who takes it over may know less for a moment, and
    begins a transaction; each leaves a gap among the offsets. So the last record before each gap is looked at.
    """
    found = {version_of(run.headers(index)) for run in runs for index in {0, *last_of_stretches(run)}}
    return {version for version in found if version is not None}


def version_of(headers: Headers) -> int | None:
    """Return the schema version that a change says it has; None where it says none that we know to read."""
    said = next((value for name, value in headers if name == HEADER_SCHEMA_VERSION), None)
    return int(said) if said is not None and said.isdigit() and len(said) <= _DIGITS_MAX else None


def last_of_stretches(run: Run) -> list[int]:
    """Return the index of each record of a run behind which offsets are missing, and of the last; by halving."""
    last = len(run) - 1
    return [*_before_gaps(run, 0, last), last]


def _before_gaps(run: Run, low: int, high: int) -> list[int]:
    """Return those from `low` up to, without, `high`."""
    if run.offset(high) - run.offset(low) == high - low:
        return []
    if high - low == 1:
        return [low]
    middle = (low + high) // 2
    return [*_before_gaps(run, low, middle), *_before_gaps(run, middle, high)]
