"""What views leave behind that no table has any more: rows in Redis, topics of updates and of what rules remember.

A view goes with its spec, with the rule that made it for itself, or with its version. What it has kept stays, so that
a mistake costs nothing: `headgate check` names it, and `headgate features forget` clears it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from connectors.transport.answers import Administrator
from connectors.transport.groups import topics_below
from schemas.config import Config
from schemas.errors import TableStopped
from schemas.output import latest_view_name
from schemas.table import TableEntry, view_of, views_that_emit
from schemas.topics import TopicNames
from sinks.redis.views import Views
from streams.registration import open_admin
from streams.settings import client_settings, is_embedded
from streams.tables import TableDirectory


@dataclass(frozen=True, slots=True)
class LeftView:
    """What is still there of a view: ids (`<name>.<version>`) in Redis, and topics; `keys` counts what was cleared."""

    view: str
    ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    keys: int = 0


async def left_views(config: Config, tables: TableDirectory) -> list[LeftView]:
    """Return what is there of views, or of versions of them, that no table has.

    Raises:
        ConfigurationError: an entry of the tables cannot be read: its views are not known.
        SinkUnavailable: Redis does not answer.
        SourceUnavailable: Kafka does not.
    """
    for error in tables.unreadable.values():
        raise error
    async with Views(config.redis) as views:
        held = await views.topic_ids()
    output = TopicNames(config.kafka.topic_prefix).changes("")
    ours = {id_ for id_, topics in held.items() if all(topic.startswith(output) for topic, _ in topics)}
    topics = {} if is_embedded(config) else await asyncio.to_thread(_topics_left, config, tables)
    ids = _ids_left(ours, tables)
    return [
        LeftView(view, tuple(sorted(ids.get(view, ()))), tuple(sorted(topics.get(view, ()))))
        for view in sorted(ids.keys() | topics.keys())
    ]


async def forget_view(config: Config, tables: TableDirectory, view: str, *, dry_run: bool = False) -> LeftView:
    """Clear what is left of a view, or of versions of it that no table has; return what that was, or would be.

    A stop in between leaves less of the same: do it again.

    Raises:
        TableStopped: nothing is left of it.
        ConfigurationError, SinkUnavailable, SourceUnavailable: as `left_views`.
    """
    found = next((each for each in await left_views(config, tables) if each.view == view), None)
    if found is None:
        raise _nothing_left(tables, view)
    if dry_run:
        return found
    keys = 0
    if found.ids:
        async with Views(config.redis) as views:
            keys = await views.remove(found.ids)
    await asyncio.to_thread(open_admin(config).delete, found.topics)
    return LeftView(view, found.ids, found.topics, keys)


def _nothing_left(tables: Mapping[str, TableEntry], view: str) -> TableStopped:
    owner = next((table for table, entry in tables.items() if view in {v.view for v in entry.spec.features}), None)
    if owner is None:
        hint = "`headgate check` names those of which something is"
        return TableStopped("view_unknown", f"nothing is left of a view {view}", hint=hint)
    return TableStopped(
        "view_registered",
        f"{view} is a view of {owner}, and nothing is left of it beside",
        hint="take it out of the table's spec and apply first; `headgate features rebuild` fills it again",
    )


def _ids_left(held: Collection[str], tables: Mapping[str, TableEntry]) -> dict[str, set[str]]:
    registered = {view.id for entry in tables.values() for view in entry.spec.features}
    found: dict[str, set[str]] = {}
    for id_ in set(held) - registered:
        found.setdefault(id_.rpartition(".")[0], set()).add(id_)
    return found


def _topics_left(config: Config, tables: Mapping[str, TableEntry]) -> dict[str, set[str]]:
    """Return the topics that nobody writes any more, by view.

    Those of updates of views that emit no more, of what rules remember where none reads a view, of latest rows.
    """
    names, administrator = TopicNames(config.kafka.topic_prefix), Administrator(client_settings(config))
    specs = [entry.spec for entry in tables.values()]
    emitting = {view for spec in specs for view in views_that_emit(spec)}
    read = {view_of(spec, rule) for spec in specs for rule in spec.rules if rule.reads_updates}
    found: dict[str, set[str]] = {}
    for start, wanted in ((names.features(""), emitting), (names.alerts_state(""), read)):
        for topic in topics_below(administrator, start):
            if (view := topic.removeprefix(start)) not in wanted:
                found.setdefault(view, set()).add(topic)
    latest = {spec.table for spec in specs if spec.output.latest}
    for topic in topics_below(administrator, names.latest("")):
        if (table := topic.removeprefix(names.latest(""))) not in latest:
            found.setdefault(latest_view_name(table), set()).add(topic)
    return found
