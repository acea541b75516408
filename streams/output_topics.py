"""The topics that NORMALIZE writes to: made and enlarged before a record needs them, all at once where that can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from connectors.transport.chunk import Run
from schemas.errors import TransactionAborted
from schemas.table import TableSpec
from schemas.topics import TopicNames
from streams.floors import PartitionsWanted
from streams.tables import Readers


class Output(NamedTuple):
    """What an output topic must have: as many partitions as its largest source topic, and at least so many."""

    sources: list[str]
    partitions: int = 0


EnsureOutputs = Callable[[Mapping[str, Output]], Awaitable[Mapping[str, int]]]
Parks = Callable[[Run, str], bool]  # tells whether nothing of a table, by its name, is written to its output now

log = structlog.get_logger(__name__)


class OutputTopics:
    """Outputs of tables and topics of parked records, as far as this worker has made or enlarged them."""

    def __init__(self, names: TopicNames, ensure: EnsureOutputs) -> None:
        """Know none yet; `ensure` makes or enlarges some, and returns how many partitions each has now.

        One that the broker refuses it tells as the transaction does that writes to such a topic: `TransactionAborted`
        names it.
        """
        self._names, self._ensure = names, ensure
        self._ensured: dict[str, int] = {}

    def parked(self) -> dict[str, int]:
        """Return how many partitions the topics of parked records have that are known."""
        return {topic: n for topic, n in self._ensured.items() if self._names.parked_table(topic) is not None}

    def forget(self, topic: str) -> None:
        """Know nothing of a topic any more: it may be gone, or smaller than it was."""
        self._ensured.pop(topic, None)

    async def of_specs(self, specs: Iterable[TableSpec]) -> None:
        """Make the outputs of tables whose topics are named, all at once, before their first record comes.

        One that the broker refuses is left to that record, which stops its table; the others are made.
        """
        named = {spec.table: [topic for topic in spec.topics if not topic.startswith("^")] for spec in specs}
        wanted = {self._names.changes(table): Output(topics) for table, topics in named.items() if topics}
        while wanted:
            try:
                await self.ensure(wanted)
            except TransactionAborted as error:
                log.warning("output_refused", topic=error.topic, error=error.message, hint=error.hint)
                del wanted[error.topic or ""]
            else:
                return

    async def of_runs(self, runs: Sequence[Run], readers: Mapping[str, Readers | None], parks: Parks) -> None:
        """Make or enlarge what runs need: an output has a partition for each of its origins.

        Raises:
            TransactionAborted: the broker refuses one, which the error names.
        """
        wanted: dict[str, Output] = {}
        for run in runs:
            fed = readers[run.topic]
            for table in fed.entries if fed is not None else ():
                output = self._names.changes(table)
                if self._ensured.get(output, 0) <= run.partition and not parks(run, table):
                    least = max(run.partition + 1, wanted[output].partitions if output in wanted else 0)
                    wanted[output] = Output([run.topic], least)
        await self.ensure(wanted)

    async def wanted(self, wanted: PartitionsWanted) -> Mapping[str, int]:
        """Make or enlarge what an attempt found missing, and return how many partitions it has now."""
        least = max(wanted.least, self._ensured.get(wanted.output, 0))
        return await self.ensure({wanted.output: Output([wanted.source], least)})

    async def of_floor(self, output: str, sources: Collection[str]) -> int:
        """Return how many partitions an output has now, that a floor is to stand in."""
        return (await self.ensure({output: Output(sorted(sources), self._ensured.get(output, 0))}))[output]

    async def ensure(self, wanted: Mapping[str, Output]) -> Mapping[str, int]:
        """Return how many partitions outputs have now; one whose sources may not be read is not made, and not told.

        Raises:
            TransactionAborted: the broker refuses one, which the error names.
        """
        if wanted:
            self._ensured.update(await self._ensure(wanted))
        return {output: self._ensured[output] for output in wanted if output in self._ensured}
