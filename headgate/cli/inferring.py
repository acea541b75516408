"""Specs that no one wrote: proposed from records, and what is said of them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from headgate.cli.printing import say, shown
from headgate.cli.records import Records
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.inference import Proposal, Samples
    from connectors.wire import Schemas

AUTO = "auto"
WARNINGS_SHOWN = 20


def propose(
    records: Records, format_name: str, *, records_max: int | None = None, schemas: Schemas | None = None
) -> list[Proposal]:
    """Return what the records say of their tables, and say on stderr what was recognised, topic by topic.

    Raises:
        ConfigurationError: there is no such format, or it proposes no specs; or the records cannot be opened.
    """
    from connectors.inference import new_samples

    samples = new_samples(None if format_name == AUTO else _checked(format_name, schemas), schemas=schemas)
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


def _way_out(format_name: str) -> str:
    framed = format_name == "debezium-avro"
    return "name their schemas with --schemas, or configure a registry" if framed else "name one with --spec"


def _checked(name: str, schemas: Schemas | None) -> str:
    from connectors.formats import Asking, format_of
    from connectors.inference import SAMPLERS

    found = format_of(name)
    known = found.name
    if isinstance(found, Asking) and schemas is None:
        raise ConfigurationError(
            f"records of {name} name their schemas by ids", hint="name a file of them: --schemas schemas.json"
        )
    if known not in SAMPLERS and not isinstance(found, Asking):
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
        elif found is not None and found not in samples.samplers:
            say(shown(f"{topic}: {found}; no spec can be proposed from its records: {_way_out(found)}"))
        else:
            say(shown(f"{topic}: no change of a row"))
    warnings = [f"risk of {proposal.spec.table}: {risk}" for proposal in proposals for risk in proposal.risks]
    warnings += [f"look at {proposal.spec.table}: {told}" for proposal in proposals for told in proposal.warnings]
    warnings += [
        f"look at {topic}: {count} records beyond the limit of samples" for topic, count in samples.overlooked.items()
    ]
    for warning in warnings[:WARNINGS_SHOWN]:
        say(shown(warning))
    if len(warnings) > WARNINGS_SHOWN:
        say(f"and {len(warnings) - WARNINGS_SHOWN} more, which --print-spec shows")
