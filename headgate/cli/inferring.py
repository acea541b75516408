"""Specs that no one wrote: proposed from records, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.cli.printing import say, shown
from headgate.cli.records import Records
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.inference import Proposal, Samples
    from connectors.wire import Schemas
    from schemas.table import TableSpec

AUTO = "auto"
WARNINGS_SHOWN = 20
RECOGNIZED_MAX = 100_000  # records that are looked at for a format; of each topic the first thousand


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


def recognized(records: Records, specs: Mapping[str, TableSpec]) -> dict[str, TableSpec]:
    """Return the specs with the format of their topics where they say `format: auto`, and say it on stderr.

    Raises:
        ConfigurationError: no record of such a topic says its format.
    """
    from connectors.formats.recognition import Recognizer
    from streams.tables import reads

    recognizer = Recognizer()
    for record in islice(records(), RECOGNIZED_MAX):
        recognizer.format_of(record)
    found = {}
    for table, spec in specs.items():
        formats = [known for topic, known in recognizer.formats.items() if known is not None and reads(spec, topic)]
        if spec.format != AUTO:
            found[table] = spec
            continue
        if not formats:
            raise ConfigurationError(
                f"table {table}: no record of its topics says their format", hint="name it in the spec: format: …"
            )
        say(shown(f"{table}: {formats[0]}"))
        found[table] = spec.model_copy(update={"format": formats[0]})
    return found


def schemas_of_file(file: Path) -> Schemas:
    """Return the schemas of a file of ids and schemas.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    from connectors.registry.known import read_schemas

    try:
        return read_schemas(file.read_text(), name=str(file))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{file}: cannot be read", hint="name a file of ids and Avro schemas") from exc


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
