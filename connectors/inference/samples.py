"""Proposals of specs from records: what samplers find is gathered per table, in bounded memory.

Promise: a spec that is proposed refuses no value that was sampled, so long as the table had no more rows than the
limit; a record is refused for other reasons only, such as a source without a position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from connectors.formats.recognition import Recognizer
from connectors.inference.base import Sample, SampledRecord, Sampler
from connectors.inference.definitions import Definitions
from connectors.inference.proposal import Proposal
from connectors.inference.table import TableSamples

TOPICS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """How much is looked at; what comes beyond is decoded, but has no say in the proposal."""

    rows_per_table_max: int = 200_000
    tables_max: int = 10_000


class Samples:
    """Gathers records of any topics; the format of each topic is recognised, unless it is given."""

    def __init__(
        self,
        samplers: Mapping[str, Sampler],
        *,
        format: str | None = None,  # noqa: A002 - what a spec calls it
        limits: SampleLimits | None = None,
        definitions: Definitions | None = None,
    ) -> None:
        """Have seen nothing; `samplers` are by format, `format` is that of all topics, None to recognise it.

        `definitions` are what schema-change topics say of tables.
        """
        self._definitions = definitions or Definitions()
        self._samplers, self._format, self._limits = samplers, format, limits or SampleLimits()
        self._recognizer = Recognizer()
        self._tables: dict[tuple[str, str, str], TableSamples] = {}
        self._by_topic: dict[tuple[str, str], TableSamples] = {}
        self.records = 0
        self.overlooked: Counter[str] = Counter()  # records above a limit, by topic

    @property
    def samplers(self) -> Collection[str]:
        """The formats of which specs can be proposed."""
        return self._samplers.keys()

    @property
    def formats(self) -> dict[str, str | None]:
        """The format of each topic, None where no record says it, such as where all are heartbeats."""
        return self._recognizer.formats

    def know(self, topic: str, format: str) -> None:  # noqa: A002 - what a spec calls it
        """Take the format of one topic as told: none is recognised there."""
        self._recognizer.formats[topic] = format

    def add(self, record: SampledRecord) -> None:
        """Look at a record; what is in it never raises."""
        self.records += 1
        known = self._recognizer.format_of(record) if self._format is None else self._format
        sampler = None if known is None else self._samplers.get(known)
        if sampler is None:
            return
        for sample in sampler.samples(record):
            table = self._table_of(sample, record.topic, sampler)
            if table is None or table.records >= self._limits.rows_per_table_max:
                self.overlooked[record.topic] += 1
            else:
                table.add(sample, record.topic, size_bytes=len(record.value or b""))

    def _table_of(self, sample: Sample, topic: str, sampler: Sampler) -> TableSamples | None:
        """Return where a sample belongs: to its topic's table where a topic holds one, else to that of its name.

        What one topic calls by one name is one table, whoever a record says it is from.
        """
        place = topic, "" if sampler.by_topic else sample.table
        if (known := self._by_topic.get(place)) is not None:
            return known
        identity = (sampler.format, sample.origin, sample.table)
        found = self._tables.get(identity)
        if found is None:
            if len(self._tables) >= self._limits.tables_max:
                return None
            definition = self._definitions.of(sample.origin, sample.table)
            found = self._tables[identity] = TableSamples(sample.table, sampler.format, definition)
        if len(self._by_topic) < TOPICS_MAX:
            self._by_topic[place] = found
        return found

    def absorb(self) -> None:
        """Take into account what was added so far, and hold no record any longer."""
        for table in self._tables.values():
            table.absorb()

    def tables(self) -> list[Proposal]:
        """Return a proposal for each table of which a column was seen, in the order in which they came."""
        proposals: list[Proposal] = []
        taken: set[str] = set()
        for samples in self._tables.values():
            if (found := samples.proposal(taken)) is not None:
                taken.add(found.spec.table)
                proposals.append(found)
        return _told_apart(proposals)


def _told_apart(proposals: list[Proposal]) -> list[Proposal]:
    """Return the proposals with the source's table in the spec, where a topic holds several."""
    holds = Counter(topic for proposal in proposals for topic in proposal.spec.topics)
    shared = [any(holds[topic] > 1 for topic in proposal.spec.topics) for proposal in proposals]
    return [
        replace(each, spec=each.spec.model_copy(update={"source_table": each.source})) if several else each
        for each, several in zip(proposals, shared, strict=True)
    ]
