"""Specs that no one wrote: proposed from records, and what is said of them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from headgate.cli.printing import say, shown
from headgate.cli.records import Records
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.inference import Proposal, Samples

AUTO = "auto"
WARNINGS_SHOWN = 20


def propose(records: Records, format_name: str, *, records_max: int | None = None) -> list[Proposal]:
    """Return what the records say of their tables, and say on stderr what was recognised, topic by topic.

    Raises:
        ConfigurationError: there is no such format, or it proposes no specs; or the records cannot be opened.
    """
    from connectors.inference import new_samples

    samples = new_samples(None if format_name == AUTO else _checked(format_name))
    try:
        for record in islice(records(), records_max):
            samples.add(record)
    except ConfigurationError:
        if not samples.records:
            raise
        # A line that is no record: what stands before it is decoded, and then the line is named.
    proposals = samples.tables()
    _tell(samples, proposals)
    return proposals


def _checked(name: str) -> str:
    from connectors.formats import format_of
    from connectors.inference import SAMPLERS

    known = format_of(name).name
    if known not in SAMPLERS:
        raise ConfigurationError(
            f"no spec can be proposed from records of {name}", hint="name the tables' specs with --spec"
        )
    return known


def _tell(samples: Samples, proposals: list[Proposal]) -> None:
    summaries = {topic: proposal for proposal in proposals for topic in proposal.spec.topics}
    for topic in dict.fromkeys((*samples.formats, *summaries)):
        proposal = summaries.get(topic)
        found = samples.formats.get(topic)
        if proposal is not None:
            say(shown(f"{topic}: {proposal.summary}"))
        elif found is not None:
            say(shown(f"{topic}: {found}; no spec can be proposed from its records: name one with --spec"))
        else:
            say(shown(f"{topic}: no change of a row"))
    warnings = [f"{proposal.spec.table}: {warning}" for proposal in proposals for warning in proposal.warnings]
    warnings += [f"{topic}: {count} records beyond the limit of samples" for topic, count in samples.overlooked.items()]
    for warning in warnings[:WARNINGS_SHOWN]:
        say(shown(f"look at {warning}"))
    if len(warnings) > WARNINGS_SHOWN:
        say(f"and {len(warnings) - WARNINGS_SHOWN} more, which --print-spec shows")
