"""The one way to write what is registered: read to the end, decide, write; nothing that others write is passed over.

Promise: all of a write stands in `headgate.tables`, or nothing. What was decided was decided from what stood there when
it was written: whoever opens the door shuts out whoever opened it before, by the transactional id that all share, so of
two people who write at once one is refused and told what the other has changed.

Weaker without transactions (`at_least_once`, the embedded broker): both write, record by record, the later one wins,
and what was read back says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from connectors.transport.scan import scan
from connectors.transport.small_writes import Overtaken
from schemas.config import Config
from schemas.errors import TableStopped
from schemas.evolution import EvolvedEntry, is_evolved
from schemas.removed import Removed
from schemas.table import TableEntry
from schemas.topics import TopicNames
from streams.registration import ensure_own_topics, load_tables, open_admin
from streams.settings import client_settings, is_transactional
from streams.small_writer import small_writer
from streams.tables import TableDirectory

SLOT = "tables"  # the transactional id is `<kafka.group_prefix>-tables`
SHOWN = 10


class Door:
    """The tables as they are, and the right to write them until somebody else opens the door."""

    def __init__(self, config: Config) -> None:
        """Shut out whoever came before, then read the tables to their end.

        Raises:
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: it does not allow the transactional id, or the topic.
        """
        self._config, self._topic = config, TopicNames(config.kafka.topic_prefix).tables
        self._admin = open_admin(config)
        ensure_own_topics(config, [self._topic])
        self._outbox = small_writer(config, SLOT)
        self._ends = self._ends_now() if not is_transactional(config) else {}
        self.tables: TableDirectory = load_tables(config)

    def check_unchanged(self, before: TableEntry) -> None:
        """Check that a table is registered as `before` says.

        Raises:
            TableStopped: somebody has changed or removed it since.
            ConfigurationError: its entry cannot be read any more.
        """
        table = before.spec.table
        if table in self.tables.unreadable:
            raise self.tables.unreadable[table]
        if self.tables.registered.get(table) != before:
            raise changed_meanwhile([said_of_change(table, before, self.tables.registered.get(table))])

    def write(
        self, entries: Iterable[TableEntry], *, removed: Iterable[Removed] = (), forget: Iterable[bytes] = ()
    ) -> None:
        """Write entries, what stays of removed tables, and deletions of keys; return once all of it is durable.

        Raises:
            TableStopped: somebody else has written meanwhile; nothing was written, or, without transactions, not
                everything of it stands.
            SourceUnavailable: Kafka does not answer. Look what stands there, and do it again.
        """
        records: dict[bytes, bytes | None] = dict.fromkeys(forget)
        records |= {each.key: each.encoded() for each in removed}
        for entry in entries:
            assert not isinstance(entry, EvolvedEntry), "what was found is nothing that people applied"
            records[entry.spec.table.encode()] = entry.model_dump_json().encode()
        if not records:
            return
        try:
            with self._outbox() as outbox:
                for key, value in records.items():
                    outbox.produce(self._topic, None, key, value)
        except Overtaken as error:
            raise self._overtaken() from error
        if not is_transactional(self._config):
            self._check_alone(records)

    def _overtaken(self) -> TableStopped:
        now = load_tables(self._config)
        return changed_meanwhile(list(differences(self.tables.registered, now.registered)))

    def _ends_now(self) -> dict[int, int]:
        found = self._admin.describe([self._topic])[self._topic]
        logs = self._admin.watermarks_now([(self._topic, number) for number in range(found.partitions)])
        return {number: high for (_, number), (_, high) in logs.items()}

    def _check_alone(self, records: Mapping[bytes, bytes | None]) -> None:
        """Look whether somebody else wrote the same keys since the tables were read."""
        others = {
            name
            for each in scan(self._topic, client_settings(self._config), self._admin)
            if each.key is not None and each.key in records and each.offset >= self._ends.get(each.partition, 0)
            if each.value != records[each.key] and not is_evolved(name := each.key.decode())
        }
        if others:
            raise TableStopped(
                "written_at_once",
                f"somebody else wrote {', '.join(sorted(others)[:SHOWN])} at the same moment: the later record stands",
                hint="`headgate tables plan DIR` shows what stands; without transactions nobody is shut out",
            )


def open_door(config: Config) -> Door:
    """Return the door, opened; see `Door`."""
    return Door(config)


def differences(before: Mapping[str, TableEntry], after: Mapping[str, TableEntry]) -> Iterator[str]:
    """Yield what became of each table that is not registered as before."""
    for table in sorted(before.keys() | after.keys()):
        if before.get(table) != after.get(table):
            yield said_of_change(table, before.get(table), after.get(table))


def said_of_change(table: str, before: TableEntry | None, after: TableEntry | None) -> str:
    """Return what became of a table, by whom and when where that is known."""
    if after is None:
        return f"{table} was removed"
    if before is None:
        what = "was added"
    elif before.spec != after.spec:
        what = "was changed"
    elif (before.paused, before.resumed) != (after.paused, after.resumed):
        return f"{table} was {'paused' if after.paused else 'resumed'}"
    else:
        return f"{table} was replayed, resynced or decided about"
    by = f" by {after.applied_by}" if after.applied_by else ""
    return f"{table} {what}{by}{f' at {after.applied_at}' if after.applied_at else ''}"


def changed_meanwhile(said: list[str]) -> TableStopped:
    """Return the error of who is refused because others wrote first; `said` is what they did, as far as it is seen."""
    shown = said[:SHOWN]
    more = f" and {len(said) - len(shown)} more" if len(said) > len(shown) else ""
    what = f"{'; '.join(shown)}{more}" if said else "somebody else is writing at this moment"
    return TableStopped(
        "changed_meanwhile",
        f"nothing was written: {what}",
        hint="look at it with `headgate tables plan DIR`, or list the tables, then do it again",
    )
