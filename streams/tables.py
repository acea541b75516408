"""Which tables run, and with what spec: the compacted topic `headgate.tables`, followed live.

The topic is the only truth at run time. The command line writes it, every worker reads it to its end before it
subscribes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec
from pydantic import ValidationError

from schemas import versions
from schemas.errors import ConfigurationError, TableStopped
from schemas.table import TableEntry, TableSpec, views_that_emit
from schemas.topics import TopicNames

# librdkafka matches patterns by POSIX: it refuses `(?…`, and takes `\d` for a d. Nothing would come of such topics.
_NOT_POSIX = re.compile(r"\(\?|\\[A-Za-z0-9]")


def read_entry(data: bytes) -> TableEntry:
    """Return the entry that a record of `headgate.tables` holds.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        ConfigurationError: somebody else wrote it.
    """
    try:
        versions.TABLE_ENTRY.check_json(data, "an entry of the tables' topic")
        return TableEntry.model_validate_json(data)
    except msgspec.MsgspecError:
        what = "it is no JSON object"
    except ValidationError as exc:
        what = ", ".join(".".join(str(part) for part in error["loc"]) for error in exc.errors()[:5])
    raise ConfigurationError(
        f"an entry of the tables' topic cannot be read: {what}", hint="apply the table again with this version"
    )


class TableDirectory(Mapping[str, TableEntry]):
    """The registered tables by name, as of the last record read; changed only by `update`."""

    def __init__(self, entries: Mapping[str, TableEntry] | None = None) -> None:
        """Begin with `entries`."""
        self._entries: dict[str, TableEntry] = dict(entries or {})
        self._by_topic: dict[str, TableEntry | None] = {}
        self.unreadable: dict[str, ConfigurationError] = {}

    def __getitem__(self, table: str) -> TableEntry:
        """Return the entry of `table`."""
        return self._entries[table]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tables' names."""
        return iter(list(self._entries))

    def __len__(self) -> int:
        """Return how many tables are registered."""
        return len(self._entries)

    def update(self, records: Mapping[bytes, bytes | None]) -> set[str]:
        """Take up records of the topic; return the names of the tables that are not as they were.

        An entry that cannot be read is kept in `unreadable`, and the table stays as it was: one bad entry stops one
        table.
        """
        changed = set()
        entries = dict(self._entries)
        for key, data in records.items():
            table = key.decode()
            self.unreadable.pop(table, None)
            try:
                entry = None if data is None else read_entry(data)
            except ConfigurationError as error:
                self.unreadable[table] = error
                continue
            if entry != entries.get(table):
                if entry is None:
                    del entries[table]
                else:
                    entries[table] = entry
                changed.add(table)
        if changed:  # writers look on threads of their own: what they find of the old entries goes with the old cache
            self._entries, self._by_topic = entries, {}
        return changed

    def of_topic(self, topic: str) -> TableEntry | None:
        """Return the table that a source topic belongs to, None if it is not registered.

        Raises:
            TableStopped: the patterns of two tables catch it, which `check_topics` cannot see before there is a topic.
        """
        by_topic = self._by_topic
        if topic not in by_topic:
            found = [entry for entry in self._entries.values() if reads(entry.spec, topic)]
            if len(found) > 1:
                raise TableStopped(
                    "claimed_twice",
                    f"{topic} is read by {' and '.join(sorted(entry.spec.table for entry in found))}",
                    hint="one topic feeds one table; make the patterns narrower and apply",
                )
            by_topic[topic] = found[0] if found else None
        return by_topic[topic]


def reads(spec: TableSpec, topic: str) -> bool:
    """Tell whether `topic` is one of the spec's topics, by name or by regular expression."""
    return any(re.match(name, topic) if name.startswith("^") else name == topic for name in spec.topics)


def check_topics(specs: Mapping[str, TableSpec], own_prefix: str) -> None:
    """Check that no topic feeds two tables and that none is ours.

    Raises:
        ConfigurationError: it names the topic and both tables.
    """
    readers = _readers(specs)
    for table, spec in specs.items():
        for name in spec.topics:
            if name.startswith(f"{own_prefix}."):
                raise ConfigurationError(f"{table}: {name} is one of our own topics", hint="name the source's topic")
            if not name.startswith("^") and (others := [other for other in readers(name) if other != table]):
                raise ConfigurationError(
                    f"{name} would feed both {table} and {others[0]}",
                    hint="one topic feeds one table; make the pattern narrower",
                )
    names = TopicNames(own_prefix)
    waiting = names.all_alerts_retry("destination")
    own = [names.tables, names.alerts, names.quarantine, names.alerts_redrive, names.alerts_dead, names.status]
    own += [names.normalize_state, names.stage_state("alerts"), names.normalize_previous]
    own += [names.quarantine_settled, names.redrive]
    views = [view for spec in specs.values() for view in sorted(views_that_emit(spec))]
    emitted = [*map(names.features, views), *map(names.alerts_state, views)]
    for topic in [*map(names.changes, specs), *emitted, *own, *waiting]:
        if caught := readers(topic):
            raise ConfigurationError(
                f"{caught[0]}: its pattern also catches {topic}, a topic of ours",
                hint=f"leave out what begins with {own_prefix}.",
            )


def _readers(specs: Mapping[str, TableSpec]) -> Callable[[str], list[str]]:
    """Return what names the tables that read a topic: thousands of names are looked up, only patterns are tried."""
    by_name: dict[str, list[str]] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    for table, spec in specs.items():
        for name in spec.topics:
            if name.startswith("^"):
                patterns.append((_pattern(name, table), table))
            else:
                by_name.setdefault(name, []).append(table)
    return lambda topic: [*by_name.get(topic, ()), *(table for pattern, table in patterns if pattern.match(topic))]


def _pattern(text: str, table: str) -> re.Pattern[str]:
    if foreign := _NOT_POSIX.search(text):
        raise ConfigurationError(
            f"{table}: {text} holds {foreign[0]}, which Kafka's client and broker do not read as is meant",
            hint="write POSIX extended regular expressions: [0-9] for a digit, no groups that begin with ?",
        )
    try:
        return re.compile(text)
    except re.error as exc:
        raise ConfigurationError(f"{table}: {text} is no regular expression: {exc}", hint="^ begins a pattern") from exc
