"""A table removed: registered no more, by one record that every worker follows; what it left stays unless it is asked.

Promise: nothing is deleted before no worker has the table any more, so that none writes behind the deletion. Registered
again, it goes on where it stood: the source's offsets, its columns' versions and its epoch are kept. What workers had
fetched of its topic at that moment is not committed past; only what other tables read of a shared topic moves on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.config import Config
from schemas.errors import SourceUnavailable, TableStopped
from schemas.removed import removed_of
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.door import open_door
from streams.left_views import forget_view
from streams.registration import load_tables, look_at_tables, open_admin
from streams.tables import check_topics
from streams.workers import read_workers

KINDS = frozenset({"redis", "output", "lake"})
TAKEN_UP_SECONDS_MAX = 30.0
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Left:
    """What a table has: views (`<name>.<version>`) in Redis, topics that are there, and a table in the lake.

    `of_views` are topics of its views: their updates, what rules remember of them, and latest rows. `subjects` are
    those of a schema registry, which stay whatever is asked for. `versions` stand beside the table and go on.
    """

    table: str
    views: tuple[str, ...]
    of_views: tuple[str, ...]
    outputs: tuple[str, ...]  # its changes, and what was parked of it
    lake: str | None
    subjects: tuple[str, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed with a table; `keys` are those of Redis, `dropped` is whether a table of the lake was."""

    table: str
    keys: int = 0
    topics: tuple[str, ...] = ()
    dropped: bool = False


def left_of(config: Config, entry: TableEntry) -> Left:
    """Return what a table has, none of which goes by itself.

    Raises:
        SourceUnavailable: Kafka does not answer.
    """
    spec, names = entry.spec, TopicNames(config.kafka.topic_prefix)
    if spec.template is not None:
        return Left(spec.table, (), (), (), None, (), ())
    others = look_at_tables(config).registered
    outputs, of_views = _outputs(spec, names), _topics_of_views(spec, names)
    there = open_admin(config).describe([*outputs, *of_views], allowed_only=True)
    is_avro = spec.output.format == "avro"
    return Left(
        spec.table,
        tuple(sorted(view.id for view in spec.features)),
        tuple(topic for topic in of_views if topic in there),
        tuple(topic for topic in outputs if topic in there),
        f"{config.lake.namespace}.{spec.table}" if spec.lake.enabled else None,
        tuple(f"{outputs[0]}-{side}" for side in ("key", "value")) if is_avro else (),
        tuple(sorted(name for name, other in others.items() if other.spec.beside == spec.table)),
    )


def _outputs(spec: TableSpec, names: TopicNames) -> list[str]:
    """Return the topics that NORMALIZE writes of a table."""
    return [names.changes(spec.table), names.parked(spec.table)]


def _topics_of_views(spec: TableSpec, names: TopicNames) -> list[str]:
    """Return the topics that may be of a table's views, and of its latest rows."""
    views = sorted({view.view for view in spec.features})
    return [*map(names.features, views), *map(names.alerts_state, views), names.latest(spec.table)]


def remove_table(
    config: Config, table: str, *, by: str = "", taking: Collection[str] = (),
    waiting: Callable[[], None] = lambda: None,
) -> Removal:  # fmt: skip
    """Register a table no more, and return once that stands; then take away what is asked for, of `KINDS`.

    `redis` are its views' rows, and the topics of their updates and of latest rows, `output` is its output topic, and
    that of what was parked of it, `lake` its table in the lake. `waiting` is called before workers are waited for.

    Raises:
        TableStopped: it is not registered, a replay of it is not through, or somebody else has written meanwhile;
            nothing was removed.
        ConfigurationError: its entry cannot be read, or others share a topic only as long as it is there.
        SourceUnavailable, SinkUnavailable: something does not answer. It is registered no more; what it left stays.
    """
    door = open_door(config)
    if table in door.tables.unreadable:
        raise door.tables.unreadable[table]
    if table in door.tables.templates:  # its tables stay, and it left nothing
        door.write([], forget=[table.encode()])
        return Removal(table)
    entry = door.tables.get(table)
    if entry is None:
        hint = "`headgate tables list` shows which are"
        raise TableStopped("unregistered", f"no table {table!r} is registered", hint=hint)
    if entry.replay is not None:
        raise TableStopped(
            "replaying",
            f"a replay of {table} is not through",
            hint=f"let it end, or give it up: `headgate tables replay {table} --cancel`",
        )
    rest = {name: other.spec for name, other in door.tables.registered.items() if name != table}
    check_topics(rest, config.kafka.topic_prefix)
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    found = [each.key for each in door.tables.evolved(table).values()]
    door.write([], removed=[removed_of(entry, at=at, by=by)], forget=[table.encode(), *found])
    if not taking:
        return Removal(table)
    waiting()
    wait_until_gone(config, table)
    return _take_away(config, entry, taking)


def _take_away(config: Config, entry: TableEntry, taking: Collection[str]) -> Removal:
    assert KINDS.issuperset(taking), "what is asked for is there to be asked for"
    keys, topics, dropped = 0, list[str](), False
    for view in sorted({view.view for view in entry.spec.features}) if "redis" in taking else ():
        try:
            left = asyncio.run(forget_view(config, load_tables(config), view))
        except TableStopped:  # nothing is there of it: no row ever came
            continue
        keys, topics = keys + left.keys, [*topics, *left.topics]
    if "lake" in taking:
        from sinks.lake.drop import drop_table  # noqa: PLC0415 - pyiceberg costs a second, which most removals do not need

        dropped = drop_table(config.lake, entry.spec.table)
    if "output" in taking:
        admin, names = open_admin(config), TopicNames(config.kafka.topic_prefix)
        outputs = list(admin.describe(_outputs(entry.spec, names), allowed_only=True))
        admin.delete(outputs)
        topics += outputs
    return Removal(entry.spec.table, keys, tuple(topics), dropped)


def wait_until_gone(config: Config, table: str) -> None:
    """Return once no worker that lives says that it has a table.

    Raises:
        SourceUnavailable: one still does, after half a minute.
    """
    deadline = time.monotonic() + TAKEN_UP_SECONDS_MAX
    first = {each.name: each.since for each in read_workers(config)}  # may have been written before they knew
    while True:
        having = [
            each.name
            for each in read_workers(config)
            if not each.is_sick and (each.since == first.get(each.name) or table in _tables_of(each.status))
        ]
        if not having:
            return
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                f"{table} is registered no more, but {having[0]} may still have it: nothing else was removed",
                hint="`headgate status`; then `headgate features forget VIEW`, and drop topic and lake table by hand",
            )
        time.sleep(_LOOK_SECONDS)


def _tables_of(status: Mapping[str, Any]) -> set[str]:
    return {str(row.get("table")) for row in status.get("tables", ())}
