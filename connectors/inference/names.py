"""Names of tables as Headgate has them, made of what a source calls them."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # proposals are made of what names tables
    from connectors.inference.proposal import Proposal

Place = tuple[str, str | None]

NAME_CHARACTERS_MAX = 128
_OTHER = re.compile(r"[^a-z0-9_.-]")


def table_name(source: str, taken: Container[str] = ()) -> str:
    """Return the name of a source's table, in lower case and of allowed characters, with a number if it is taken."""
    name = _OTHER.sub("_", source.lower())
    if not name[:1].isascii() or not name[:1].isalpha():
        name = f"t_{name}"
    name = name[:NAME_CHARACTERS_MAX]
    number, found = 1, name
    while found in taken:
        number += 1
        ending = f"_{number}"
        found = name[: NAME_CHARACTERS_MAX - len(ending)] + ending
    return found


def named(
    proposals: Sequence[Proposal], taken: Container[str] = (), *, told: Mapping[Place, str], without: str = ""
) -> list[Proposal]:
    """Return proposals, by topic, with the names that tables keep: unique, and the same whatever else is proposed.

    A table that has its topic alone is called as the topic, `without` what that begins with; one of several of a topic,
    or of several topics, as its source calls it, and with the topic before it where that is taken. `told` has names by
    place, a topic and the source's table where the spec says it: they are used as they are.
    """
    found: list[Proposal] = []
    used = set(told.values())
    for each in sorted(proposals, key=lambda each: (each.spec.topics[0], each.source)):
        name = next((told[place] for place in places_of(each) if place in told), None)
        if name is None:
            name = _new_name(each, _Both(used, taken), without)
            used.add(name)
        found.append(replace(each, spec=each.spec.model_copy(update={"table": name})))
    return found


def places_of(proposal: Proposal) -> list[Place]:
    """Return what people know a table by: its topics, each with what the source calls it, and alone if it is alone."""
    spec = proposal.spec
    alone = [(topic, None) for topic in spec.topics if spec.source_table is None]
    return [*((topic, proposal.source) for topic in spec.topics), *alone]


def _new_name(proposal: Proposal, taken: Container[str], without: str) -> str:
    spec = proposal.spec
    if len(spec.topics) == 1 and spec.source_table is None:
        short = spec.topics[0].removeprefix(without)
        return table_name(short or spec.topics[0], taken)
    name = table_name(proposal.source)
    return name if name not in taken else table_name(f"{spec.topics[0]}.{proposal.source}", taken)


@dataclass(frozen=True, slots=True)
class _Both:
    """Names that are taken here or there."""

    one: Container[str]
    other: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.one or name in self.other
