"""What somebody said of tables before they are inferred, and what specs say already: names, keys, what is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headgate.cli.topic_lists import Listed
from schemas.errors import ConfigurationError
from schemas.mistakes import nearest
from schemas.risk import shown

if TYPE_CHECKING:
    from connectors.inference import Proposal
    from connectors.inference.names import Place
    from schemas.table import TableSpec
    from streams.specs import Specs


@dataclass(slots=True)
class Given:
    """What somebody said beforehand, by topic or by table; and what specs of the folder say already."""

    formats: dict[str, str] = field(default_factory=dict)
    keys: dict[Place, tuple[tuple[str, ...], str]] = field(default_factory=dict)  # with the line that says it
    names: dict[Place, str] = field(default_factory=dict)
    lines: dict[Place, str] = field(default_factory=dict)  # where the list says anything of a table
    known: Specs | None = None


def given_of(lines: Iterable[Listed], there: Sequence[str], known: Specs | None, *, overwrite: bool) -> Given:
    """Return what the list says of topics and tables; a line of its own goes before one with a pattern."""
    from streams.proposing import choose

    given = Given(known=known)
    if known is not None and overwrite:
        given.names |= {(topic, spec.source_table): name for name, spec in known.items() for topic in spec.topics}
    for line in sorted(lines, key=lambda line: not line.is_pattern):
        for topic in choose([line.topic], there, "").topics if line.is_pattern else [line.topic]:
            place = topic, line.source_table
            if line.format is not None:
                given.formats[topic] = line.format
            if line.key:
                given.keys[place] = line.key, line.place
            if line.table is not None:
                given.names[place] = line.table
            if not line.is_pattern and (line.table or line.key or line.source_table):
                given.lines[place] = line.place
    return given


def unread(topics: Sequence[str], known: Specs | None) -> list[str]:
    """Return the topics of which a table may be that no spec has."""
    from streams.tables import reads

    whole = [spec for spec in (known or {}).values() if spec.source_table is None]
    return [topic for topic in topics if not any(reads(spec, topic) for spec in whole)]


def settled(proposals: Iterable[Proposal], given: Given, without: str) -> list[Proposal]:
    """Return the proposals with the names and keys that they keep; those that a spec has already are left out.

    Raises:
        ConfigurationError: the list is about a table that its topic does not hold.
    """
    from connectors.inference.names import named, places_of

    known: Mapping[str, TableSpec] = given.known or {}
    replaced = {name for name in given.names.values() if name in known}
    taken = known.keys() - replaced
    read = {(topic, spec.source_table) for name, spec in known.items() if name in taken for topic in spec.topics}
    found = list(proposals)
    _check_lines(found, given)
    new = [_apart(each, read) for each in found if read.isdisjoint(places_of(each))]
    return [_with_key(each, given) for each in named(new, taken, told=given.names, without=without)]


def _apart(proposal: Proposal, read: Collection[Place]) -> Proposal:
    """Return the proposal as one of several tables, where a spec reads its topic already."""
    if {topic for topic, _ in read}.isdisjoint(proposal.spec.topics):
        return proposal
    return replace(proposal, spec=proposal.spec.model_copy(update={"source_table": proposal.source}))


def _check_lines(proposals: Sequence[Proposal], given: Given) -> None:
    from connectors.inference.names import places_of

    places = {place for each in proposals for place in places_of(each)}
    for (topic, source), line in given.lines.items():
        held = sorted(name for held, name in places if held == topic and name is not None)
        if held and (topic, source) not in places:
            what = "holds several tables" if source is None else f"holds no table {source}"
            raise ConfigurationError(
                f"{line}: {topic} {what}: {shown(held)}", hint="name one of them in `source_table`"
            )


def _with_key(proposal: Proposal, given: Given) -> Proposal:
    from connectors.inference.names import places_of

    key, place = next((given.keys[each] for each in places_of(proposal) if each in given.keys), ((), ""))
    if not key:
        return proposal
    spec = proposal.spec
    for name in key:
        if name not in spec.columns:
            raise ConfigurationError(
                f"{place}: key: records of {spec.topics[0]} have no column {name}; {nearest(name, spec.columns)}",
                hint="nothing was written",
            )
    return replace(proposal, spec=spec.model_copy(update={"key": list(key)}))
