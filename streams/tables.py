"""Which tables run, and with what spec: the compacted topic `headgate.tables`, followed live.

The topic is the only truth at run time. The command line writes it, every worker reads it to its end before it
subscribes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.formats.routing import Router, is_routed_alike
from schemas import versions
from schemas.document import read_record
from schemas.errors import ConfigurationError, TableStopped
from schemas.evolution import Evolved, in_force, is_evolved, parted, read_evolved
from schemas.masked import masked_entry
from schemas.removed import Removed, is_removed, read_removed
from schemas.removed import table_of as table_of_removed
from schemas.table import TableEntry, TableSpec, views_that_emit
from schemas.topics import TopicNames
from streams.specs import SpecMistake

TABLES_SHOWN = 5

# librdkafka matches patterns by POSIX: it refuses `(?…`, and takes `\d` for a d. Nothing would come of such topics.
_NOT_POSIX = re.compile(r"\(\?|\\[A-Za-z0-9]")


def read_entry(data: bytes) -> TableEntry:
    """Return the entry that a record of `headgate.tables` holds.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        ConfigurationError: somebody else wrote it.
    """
    what, hint = "an entry of the tables' topic", "apply the table again with this version"
    return read_record(data, TableEntry, versions.TABLE_ENTRY, what, hint=hint)


_NOTHING = re.compile("(?!)")
_SHARING = (
    "a topic feeds one table, or several of one format that each say their `source_table`; another version of a table "
    "says `beside`: docs/tables.md"
)


@dataclass(slots=True)
class Split:
    """Records told apart, as indices that rise: by table, those that name no table, and by a name that no spec has.

    What defines a table that no spec has is `nameless`: it is a record of none. Tables that stand beside each other
    have the same indices.
    """

    by_table: dict[str, list[int]] = field(default_factory=dict)
    nameless: list[int] = field(default_factory=list)
    unregistered: dict[str, list[int]] = field(default_factory=dict)


class Readers:
    """The tables that a topic feeds, by name: one that takes all of its records, or those that say `source_table`.

    Each of them may have others beside it, which take what it takes; `beside` are such ones that are not read here.
    """

    def __init__(self, entries: Sequence[TableEntry], beside: Sequence[TableEntry] = ()) -> None:
        """Prepare to tell the records of these tables apart.

        Raises:
            ConfigurationError: they cannot be told apart.
        """
        self.entries = {entry.spec.table: entry for entry in sorted(entries, key=lambda entry: entry.spec.table)}
        self.beside = tuple(beside)
        self._first = next(iter(self.entries))
        specs = [entry.spec for entry in self.entries.values()]
        if (why := _cannot_share(specs)) is not None:
            raise ConfigurationError(why, hint=_SHARING)
        self._by_source: dict[str, list[str]] = {}
        for spec in specs:
            if spec.source_table is not None:
                self._by_source.setdefault(spec.source_table, []).append(spec.table)
        self._router = Router(specs[0]) if self._by_source else None

    @property
    def shared(self) -> bool:
        """Whether records are told apart by the name of their table, or several tables read the same ones."""
        return self._router is not None or len(self.entries) > 1

    @property
    def first(self) -> TableEntry:
        """The first table by name, whose decoder says what records are that name none."""
        return self.entries[self._first]

    def split(self, values: Sequence[bytes | None]) -> Split:
        """Return which records belong to which table."""
        if self._router is None:
            every = list(range(len(values)))
            return Split(dict.fromkeys(self.entries, every))
        found: dict[str | None, list[int]] = {}
        for index, name in enumerate(self._router.names(values)):
            found.setdefault(name, []).append(index)
        split = Split(nameless=found.pop(None, []))
        for name, indices in found.items():
            assert name is not None, "what names no table was taken out"
            if tables := self._by_source.get(name):
                split.by_table.update(dict.fromkeys(tables, indices))
                continue
            define = self._router.define([values[index] for index in indices])
            split.nameless += [index for index, defines in zip(indices, define, strict=True) if defines]
            if rows := [index for index, defines in zip(indices, define, strict=True) if not defines]:
                split.unregistered[name] = rows
        split.nameless.sort()
        return split

    def table_of(self, value: bytes | None) -> str | None:
        """Return the table that one record belongs to, the first of several; None if it names none registered."""
        return next(iter(self.split([value]).by_table), None)


class TableDirectory(Mapping[str, TableEntry]):
    """The tables by name as they run, as of the last record read; changed only by `update`.

    Their specs and schema versions are those in force, with what workers found of their columns, as they are behind the
    masks; `unmasked` and `of_topic` give them as NORMALIZE decodes by them. `registered` are the entries as people
    applied them: those alone may be written again. Of them `templates` are no tables.
    """

    def __init__(self, entries: Mapping[str, TableEntry] | None = None) -> None:
        """Begin with `entries`."""
        given = dict(entries or {})
        self._entries = {table: entry for table, entry in given.items() if entry.spec.template is None}
        self.templates = {table: entry for table, entry in given.items() if entry.spec.template is not None}
        self._masked = {table: masked_entry(entry) for table, entry in self._entries.items()}
        self._evolved: dict[str, dict[str, Evolved]] = {}
        self.removed: dict[str, Removed] = {}  # what stays of tables that are registered no more
        self._by_topic: dict[str, Readers | None] = {}
        self._versions: dict[str, str] | None = None
        self._readers = self._readers_of(self._entries)
        self.registered: Mapping[str, TableEntry] = given
        self.unreadable: dict[str, ConfigurationError] = {}

    def __getitem__(self, table: str) -> TableEntry:
        """Return the entry of `table`, in force, as it is behind its masks."""
        return self._masked[table]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tables' names."""
        return iter(list(self._entries))

    def __len__(self) -> int:
        """Return how many tables are registered."""
        return len(self._entries)

    def unmasked(self, table: str) -> TableEntry:
        """Return the entry of `table`, in force, with its masks: as records are decoded."""
        return self._entries[table]

    def beside(self, table: str) -> list[TableEntry]:
        """Return the entries, with their masks, of the other tables that stand beside `table`."""
        entries = self._entries
        if self._versions is None:
            self._versions = _versions_of([entry.spec for entry in entries.values()])
        versions = self._versions
        first = versions.get(table, table)
        return [each for name, each in entries.items() if name != table and versions.get(name) == first]

    def evolved(self, table: str) -> dict[str, Evolved]:
        """Return what workers found of a table, by slot; also of one that is not registered any more."""
        return dict(self._evolved.get(table, {}))

    def update(self, records: Mapping[bytes, bytes | None]) -> set[str]:
        """Take up records of the topic; return the names of the tables that are not as they were.

        An entry that cannot be read is kept in `unreadable`, and the table stays as it was: one bad entry stops one
        table.
        """
        touched, registered = set(), dict(self.registered)
        for key, data in records.items():
            name = key.decode()
            self.unreadable.pop(name, None)
            try:
                if is_evolved(name):
                    touched.add(self._take_found(name, data))
                    continue
                if is_removed(name):
                    self._take_removed(name, data)
                    continue
                entry = None if data is None else read_entry(data)
            except ConfigurationError as error:
                self.unreadable[name] = error
                continue
            touched.add(name)
            if entry is None:
                registered.pop(name, None)
            else:
                registered[name] = entry
        self.registered = registered
        return self._put_in_force(touched)

    def _take_removed(self, key: str, data: bytes | None) -> None:
        rest = {table: one for table, one in self.removed.items() if table != table_of_removed(key)}
        self.removed = rest if data is None else {**rest, table_of_removed(key): read_removed(data)}

    def _take_found(self, key: str, data: bytes | None) -> str:
        """Take up what one slot found of a table, and return the table's name."""
        table, slot = parted(key)
        if data is None:
            self._evolved.get(table, {}).pop(slot, None)
        else:
            self._evolved.setdefault(table, {})[slot] = read_evolved(data)
        return table

    def _put_in_force(self, touched: set[str]) -> set[str]:
        """Bring the entries up to date for tables of which something was read; return those that are not as before."""
        changed, entries, masked = set(), dict(self._entries), dict(self._masked)
        templates = dict(self.templates)
        for table in touched:
            entry = self.registered.get(table)
            if entry is not None and entry.spec.template is not None:
                templates[table], entry = entry, None
            else:
                templates.pop(table, None)
            if entry is not None:
                entry = in_force(entry, self._evolved.get(table, {}).values())
            if entry == entries.get(table):
                continue
            if entry is None:
                del entries[table], masked[table]
            else:
                entries[table], masked[table] = entry, masked_entry(entry)
            changed.add(table)
        if changed:  # writers look on threads of their own: what they find of the old entries goes with the old cache
            self._masked, self._entries, self._readers = masked, entries, self._readers_of(entries)
            self._versions = None
            self._by_topic = {}  # last: what is put into the new one is found with what goes with it
        self.templates = templates
        return changed

    @staticmethod
    def _readers_of(entries: Mapping[str, TableEntry]) -> Callable[[str], list[str]]:
        return _readers({table: entry.spec for table, entry in entries.items()}, _registered_pattern)

    def of_topic(self, topic: str) -> Readers | None:
        """Return the tables that a source topic feeds, None if none is registered for it.

        Raises:
            TableStopped: patterns of tables catch it that cannot share a topic, which `check_topics` cannot see before
                there is a topic.
        """
        by_topic = self._by_topic  # first, and the others after it
        entries, readers = self._entries, self._readers
        if topic not in by_topic:
            found = [entries[table] for table in dict.fromkeys(readers(topic)) if table in entries]
            try:
                by_topic[topic] = Readers(found) if found else None
            except ConfigurationError as error:
                tables = " and ".join(sorted(entry.spec.table for entry in found)[:TABLES_SHOWN])
                message = f"{topic} is read by {tables}: {error.message}"
                raise TableStopped("claimed_twice", message, hint=f"{error.hint}; mend the specs and apply") from error
        return by_topic[topic]


def reads(spec: TableSpec, topic: str) -> bool:
    """Tell whether `topic` is one of the spec's topics, by name or by regular expression."""
    return any(re.match(name, topic) if name.startswith("^") else name == topic for name in spec.topics)


def _cannot_share(specs: Sequence[TableSpec]) -> str | None:
    """Return why one topic cannot feed all of these tables, None if it can."""
    first, *others = specs
    if not others:
        return None
    of = _versions_of(specs)
    if whole := [spec for spec in specs if spec.source_table is None]:
        if len(whole) == len(specs) and len(set(of.values())) == 1:
            return None
        return f"{whole[0].table} says no source_table, so it takes all records"
    by_source: dict[str | None, TableSpec] = {}
    for spec in specs:
        twin = by_source.setdefault(spec.source_table, spec)
        if of[twin.table] != of[spec.table]:
            return f"{twin.table} and {spec.table} both say source_table: {spec.source_table}"
    for spec in others:
        if not is_routed_alike(first, spec):
            differing = "format" if first.format != spec.format else "options.table"
            return f"{first.table} and {spec.table} have not the same {differing}"
    return None


def _versions_of(specs: Sequence[TableSpec]) -> dict[str, str]:
    """Return, by table, the table that it is a version of: the first of those that stand beside each other, or itself.

    That one may be registered no more.
    """
    beside = {spec.table: spec.beside for spec in specs}

    def first(table: str) -> str:
        passed: set[str] = set()
        while (other := beside.get(table)) is not None and table not in passed:
            passed.add(table)
            table = other
        return table

    return {table: first(table) for table in beside}


def check_topics(specs: Mapping[str, TableSpec], own_prefix: str) -> None:
    """Check that no topic feeds tables that cannot share it, and that none is ours.

    Raises:
        ConfigurationError: it names the topic and the tables.
    """
    tables = {table: spec for table, spec in specs.items() if spec.template is None}
    readers = _readers(tables)  # what a template catches too is the table's
    looked_at: set[str] = set()
    for table, spec in tables.items():
        _check_told_apart(spec)
        for at, name in enumerate(spec.topics):
            if name.startswith(f"{own_prefix}."):
                raise SpecMistake(
                    table, ["topics", at], f"{name} is one of our own topics", hint="name the source's topic"
                )
            if name.startswith("^") or name in looked_at:
                continue
            looked_at.add(name)
            both = [specs[each] for each in dict.fromkeys([table, *readers(name)])]
            if (why := _cannot_share(both)) is not None:
                told = " and ".join(each.table for each in both[:TABLES_SHOWN])
                raise SpecMistake(table, ["topics", at], f"{name} would feed both {told}: {why}", hint=_SHARING)
    readers, names = _readers(specs), TopicNames(own_prefix)
    waiting = names.all_alerts_retry("destination")
    own = [names.tables, names.alerts, names.quarantine, names.alerts_redrive, names.alerts_dead, names.status]
    own += [names.normalize_state, names.stage_state("alerts"), names.normalize_previous]
    own += [names.quarantine_settled, names.redrive]
    views = [view for spec in specs.values() for view in sorted(views_that_emit(spec))]
    emitted = [*map(names.features, views), *map(names.alerts_state, views)]
    emitted += [names.latest(table) for table, spec in tables.items() if spec.output.latest]
    for topic in [*map(names.changes, tables), *map(names.parked, tables), *emitted, *own, *waiting]:
        if caught := readers(topic):
            raise SpecMistake(
                caught[0],
                ["topics"],
                f"its pattern also catches {topic}, a topic of ours",
                hint=f"leave out what begins with {own_prefix}.",
            )


def _check_told_apart(spec: TableSpec) -> None:
    if spec.source_table is None:
        return
    try:
        Router(spec)
    except ConfigurationError as exc:
        raise SpecMistake(spec.table, ["source_table"], exc.message, hint=exc.hint) from exc


def _readers(
    specs: Mapping[str, TableSpec], compiled: Callable[[str, str, int], re.Pattern[str]] | None = None
) -> Callable[[str], list[str]]:
    """Return what names the tables that read a topic: thousands of names are looked up, only patterns are tried."""
    by_name: dict[str, list[str]] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    for table, spec in specs.items():
        for at, name in enumerate(spec.topics):
            if name.startswith("^"):
                patterns.append(((compiled or _pattern)(name, table, at), table))
            else:
                by_name.setdefault(name, []).append(table)
    return lambda topic: [*by_name.get(topic, ()), *(table for pattern, table in patterns if pattern.match(topic))]


def _registered_pattern(text: str, _table: str, _at: int) -> re.Pattern[str]:
    """Return the pattern of a table that is registered; one that is none catches nothing."""
    try:
        return re.compile(text)
    except re.error:
        return _NOTHING


def _pattern(text: str, table: str, at: int) -> re.Pattern[str]:
    if foreign := _NOT_POSIX.search(text):
        raise SpecMistake(
            table,
            ["topics", at],
            f"{text} holds {foreign[0]}, which Kafka's client and broker do not read as is meant",
            hint="write POSIX extended regular expressions: [0-9] for a digit, no groups that begin with ?",
        )
    try:
        return re.compile(text)
    except re.error as exc:
        raise SpecMistake(
            table, ["topics", at], f"{text} is no regular expression: {exc}", hint="^ begins a pattern"
        ) from exc
