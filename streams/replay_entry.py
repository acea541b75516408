"""What the registered tables say of a replay that runs: that it was begun, and whether it still holds.

Promise: no transaction of a replay is begun once this process has seen that the table has another spec than the replay
began with, or that somebody gave it up. What is masked from now on is not written as it was by a replay of before.
"""

from __future__ import annotations

from connectors.transport.tail import Entry
from schemas.config import Config
from schemas.errors import TableStopped, TransportFatal
from schemas.evolution import EvolvedEntry
from schemas.replay import Replay
from schemas.table import TableEntry, TableSpec
from streams.door import open_door
from streams.registration import open_tables
from streams.tables import TableDirectory


class RegisteredReplay:
    """Follows the registered tables for one run of a replay."""

    def __init__(self, config: Config, entry: TableEntry, replay: Replay) -> None:
        """Read the tables to their end and follow them; `entry` is the table as it is replayed. The caller closes this.

        Raises:
            SourceUnavailable: Kafka does not answer.
        """
        self._spec, self._replay = applied(entry), replay
        self._failure: BaseException | None = None
        self._tables, self._reader = open_tables(config)
        self._reader.follow(self._take, self._fail)

    def stop(self) -> TableStopped | None:
        """Return why nothing more of the replay may be written, None as long as it may.

        Raises:
            TransportFatal: the tables are not followed any more.
            ConfigurationError: the table's entry cannot be read any more.
        """
        if self._failure is not None:
            message = f"the registered tables are not followed any more: {self._failure}"
            raise TransportFatal(message, hint="run it again to go on") from self._failure
        return why_not(self._tables, self._spec, self._replay)

    def close(self) -> None:
        """Follow no more."""
        self._reader.close()

    def _take(self, entry: Entry) -> None:
        self._tables.update({entry.key: entry.value})

    def _fail(self, error: BaseException) -> None:
        self._failure = error


def applied(entry: TableEntry) -> TableSpec:
    """Return the spec of an entry as people applied it: what workers find of its columns stops no replay.

    Their findings are of records beyond it, for it reads what NORMALIZE has read.
    """
    return entry.registered.spec if isinstance(entry, EvolvedEntry) else entry.spec


def why_not(tables: TableDirectory, spec: TableSpec, replay: Replay) -> TableStopped | None:
    """Return why a replay that runs by `spec` must not go on as tables are registered now, None if it may; pure.

    Raises:
        ConfigurationError: the table's entry cannot be read: a newer release may have written another spec.
    """
    table = spec.table
    if table in tables.unreadable:
        raise tables.unreadable[table]
    now = tables.registered.get(table)
    if now is None or now.replay is None or now.replay.generation != replay.generation:
        return TableStopped(
            "replay_given_up",
            f"{table}: this replay is not registered any more: it was given up, or somebody else has ended it",
            hint=f"`headgate tables replay {table} --from …` begins another",
        )
    if now.spec != spec:
        return TableStopped(
            "spec_changed",
            f"{table}: its spec is another than this replay goes by",
            hint=f"`headgate tables replay {table}` goes on by the new one; --cancel gives it up",
        )
    return None


def note_begun(config: Config, entry: TableEntry, replay: Replay) -> None:
    """Have the table's entry say that a replay was begun, and return once that is durable.

    Raises:
        TableStopped: `why_not`, or somebody else writes at this moment.
        ConfigurationError: the table's entry cannot be read.
        SourceUnavailable: Kafka does not answer.
    """
    door = open_door(config)
    if (stop := why_not(door.tables, applied(entry), replay)) is not None:
        raise stop
    now = door.tables.registered[entry.spec.table]
    assert now.replay is not None, "else it would have been a reason not to go on"
    door.write([now.model_copy(update={"replay": now.replay.model_copy(update={"begun": True})})])
