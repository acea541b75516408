"""Names of the tables that a template makes: one for each topic that its patterns catch, and whose it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from schemas.tenant import is_tenant, under

NAME_CHARACTERS_MAX = 128
_GROUP = re.compile(r"\{(\d+)\}")
_OTHER = re.compile(r"[^a-z0-9_.-]")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")


class Named(NamedTuple):
    """A table that a template makes: its name, with that of its tenant in front, and the tenant."""

    table: str
    tenant: str | None


def what_is_wrong(template: str, topics: Sequence[str], tenant: str | None = None) -> str | None:
    """Return why a template could not name tables of topics, and their tenants; None if it can."""
    groups = {int(number) for number in _GROUP.findall(template)}
    if not groups:
        return "template: it names a group of the pattern, such as visits_{1}; {0} is the whole topic"
    groups |= {int(number) for number in _GROUP.findall(tenant or "")}
    for topic in topics:
        if not topic.startswith("^"):
            return f"template: {topic} is one topic: write a table for it, or a pattern that begins with ^"
        try:
            known = re.compile(topic).groups
        except re.error as exc:
            return f"template: {topic} is no regular expression: {exc}"
        if max(groups) > known:
            return f"template: {topic} has {known} groups, and {{{max(groups)}}} names another one"
    return None


def named_by(template: str, topics: Sequence[str], topic: str, *, tenant: str | None = None) -> Named | None:
    """Return name and tenant of the table of a topic: in lower case and of allowed characters.

    None where no pattern catches it, nothing that is a name comes of it, or what should be its tenant is none.
    """
    caught = next((found for pattern in topics if (found := re.match(pattern, topic)) is not None), None)
    if caught is None:
        return None
    whose = None if tenant is None else _GROUP.sub(lambda group: caught[int(group[1])] or "", tenant)
    if whose is not None and not is_tenant(whose):  # never made to fit: two that differ would become one
        return None
    name = _OTHER.sub("_", _GROUP.sub(lambda group: caught[int(group[1])] or "", template).lower())
    table = name if whose is None else under(whose, name)
    return Named(table, whose) if _NAME.fullmatch(table) and _NAME.fullmatch(name) else None
