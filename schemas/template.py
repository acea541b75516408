"""Names of the tables that a template makes: one for each topic that its patterns catch."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAME_CHARACTERS_MAX = 128
_GROUP = re.compile(r"\{(\d+)\}")
_OTHER = re.compile(r"[^a-z0-9_.-]")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,127}")


def what_is_wrong(template: str, topics: Sequence[str]) -> str | None:
    """Return why a template could not name tables of topics; None if it can."""
    groups = {int(number) for number in _GROUP.findall(template)}
    if not groups:
        return "template: it names a group of the pattern, such as visits_{1}; {0} is the whole topic"
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


def name_for(template: str, topics: Sequence[str], topic: str) -> str | None:
    """Return the name of the table of a topic, in lower case and of allowed characters.

    None where no pattern catches it, or nothing that is a name comes of it.
    """
    caught = next((found for pattern in topics if (found := re.match(pattern, topic)) is not None), None)
    if caught is None:
        return None
    name = _GROUP.sub(lambda group: caught[int(group[1])] or "", template)
    name = _OTHER.sub("_", name.lower())
    return name if _NAME.fullmatch(name) else None
