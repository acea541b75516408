"""Which tables templates make of the topics that are there, and of what their records show; pure.

A topic that a table reads, or one that was removed has read, is left alone, and so is one of which nothing that is a
name comes. Of several templates that catch a topic the first by name makes its table. The tenant of a template
is that of its tables; where it names a group of the pattern, each table's is what the group caught.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from connectors.captured import OneRecord
from connectors.formats import format_of
from connectors.inference import SAMPLERS, new_samples
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from schemas.template import Named, named_by
from streams.specs import SpecMistake
from streams.tables import TableDirectory, reads

if TYPE_CHECKING:
    from connectors import wire

_AVRO = "debezium-avro"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is registered at one moment, as far as templates care: themselves, what is not theirs, names that are taken.

    Topics are not theirs that are `named`, or that one of the `patterns` catches.
    """

    templates: Sequence[TableEntry]
    named: frozenset[str]
    patterns: Sequence[re.Pattern[str]]
    taken: frozenset[str]


def standing(tables: TableDirectory) -> Standing:
    """Return how tables stand now; a table that was removed keeps its name and its topics from being taken over.

    Its rows may have been masked, and somebody has ended them.
    """
    others = {name for entry in tables.values() for name in entry.spec.topics}
    others.update(name for removed in tables.removed.values() for name in removed.topics)
    return Standing(
        [entry for _, entry in sorted(tables.templates.items())],
        frozenset(others),
        [re.compile(name) for name in sorted(others) if name.startswith("^")],
        frozenset({*tables.registered, *tables.removed}),
    )


def wanted_tables(at: Standing, topics: Iterable[str], own_prefix: str) -> dict[str, tuple[TableEntry, Named]]:
    """Return the topics that templates make tables of now, each with its template and the table's name and tenant.

    Those that a table reads, or a removed one has read, are passed over, ours, and those whose name is taken.
    """
    found: dict[str, tuple[TableEntry, Named]] = {}
    taken = set(at.taken)
    for topic in sorted(topics):
        entry = next((one for one in at.templates if reads(one.spec, topic)), None)
        if entry is None or topic.startswith(f"{own_prefix}."):
            continue
        if topic in at.named or any(pattern.match(topic) for pattern in at.patterns):
            continue
        spec = entry.spec
        named = named_by(spec.template or "", spec.topics, topic, tenant=spec.tenant)
        if named is not None and named.table not in taken:
            found[topic] = entry, named
            taken.add(named.table)
    return found


def still_wanted(
    specs: Mapping[str, TableSpec], templates: Mapping[str, TableEntry], at: Standing, own_prefix: str
) -> dict[str, TableSpec]:
    """Return those specs that would be made now just so: of the same topics, by the `templates` that made them.

    Looking at records takes seconds. A template that was removed or changed meanwhile, and a topic that somebody has
    registered a table of, or removed one of, make nothing by what stood before.
    """
    wanted = wanted_tables(at, [spec.topics[0] for spec in specs.values()], own_prefix)
    now = {topic: (entry.spec, named.table) for topic, (entry, named) in wanted.items()}
    return {table: spec for table, spec in specs.items() if now.get(spec.topics[0]) == (templates[table].spec, table)}


def table_of(
    template: TableSpec, topic: str, named: Named, records: Iterable[OneRecord], registry: wire.Schemas | None
) -> TableSpec:
    """Return the spec of a topic's table: what the template says, and beside it the columns that records show.

    Raises:
        ConfigurationError: the records show no table, or several, or not the one that the template says.
    """
    samples = new_samples(template.format, schemas=registry)
    for record in records:
        samples.add(record)
    proposals = samples.tables()
    if len(proposals) != 1:
        raise ConfigurationError(
            f"{topic}: its records show {len(proposals)} tables of {template.format}", hint="write a spec for it"
        )
    shown = proposals[0].spec
    known = {*template.columns, *template.sent_as()}
    mask = template.masks.unknown_columns  # of what the template does not name, whether it comes now or later
    columns = {
        name: column if mask is None else column.model_copy(update={"mask": mask})
        for name, column in shown.columns.items()
        if name not in known
    }
    document = template.model_dump(mode="json", exclude={"template", "columns", "table", "topics", "key"})
    more = {"table": named.table, "tenant": named.tenant, "topics": [topic], "key": template.key or shown.key}
    try:
        return TableSpec.model_validate({**document, **more, "columns": {**template.columns, **columns}})
    except ValidationError as exc:
        said = "; ".join(str(error["msg"]) for error in exc.errors()[:3])
        raise ConfigurationError(f"{topic}: {said}", hint=f"mend the template {template.table}") from exc


def check_template(spec: TableSpec, registry: wire.Schemas | None) -> None:
    """Check that a spec that is a template can make tables of its format.

    Raises:
        SpecMistake: nothing can be inferred of such records.
    """
    if spec.template is None:
        return
    known = format_of(spec.format, registry).name
    if known not in SAMPLERS and not (known == _AVRO and registry is not None):
        raise SpecMistake(
            spec.table,
            ["format"],
            f"template: columns cannot be told from records of {spec.format}",
            hint="write a spec for each topic",
        )
