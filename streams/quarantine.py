"""The quarantine as people see it: what is in it, what became of each record, and what is dropped.

An entry is named by where it stands: the id of the quarantine's topic, partition, offset. What became of it stands on
`headgate.quarantine.settled`, which is kept as long; an entry without a word there is open.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from connectors.transport.producer import Outbox
from connectors.transport.scan import scan
from schemas import versions
from schemas.config import Config
from schemas.errors import VersionRefused
from schemas.topics import TopicNames
from sinks.quarantine import Quarantined, read_quarantined
from streams.registration import ensure_own_topics, open_admin
from streams.settings import client_settings
from streams.small_writer import batches, small_writer

SLOT = "quarantine"  # who redrives or drops fences off whoever does so at the same time
REDRIVEN, DROPPED, OPEN = "redriven", "dropped", "open"

Place = tuple[str, int, int]  # id of the quarantine's topic, partition, offset


class Settled(msgspec.Struct, frozen=True):
    """The value of a record of `headgate.quarantine.settled`; its key is the entry's place."""

    how: str
    at: str
    origin: tuple[str, int, int, int]
    v: int = versions.SETTLED.writes


def read_settled(value: bytes) -> Settled:
    """Return what a record says became of an entry.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        msgspec.MsgspecError: it is no such record.
    """
    versions.SETTLED.check_json(value, "what became of a quarantined record")
    return msgspec.json.decode(value, type=Settled)


@dataclass(frozen=True, slots=True)
class Held:
    """An entry of the quarantine, where it stands, and what became of it."""

    place: Place
    entry: Quarantined
    became: str  # open, redriven or dropped

    @property
    def kind(self) -> tuple[str, str]:
        """Its table, or a word for none, and its reason."""
        return self.entry.table or "(no table)", self.entry.reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are meant: each of these that is given must hold. `kind` is a reason, or a kind of errors."""

    table: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # and before it

    def __contains__(self, entry: Quarantined) -> bool:
        """Tell whether an entry is meant."""
        return (
            (self.table is None or entry.table == self.table)
            and (self.kind is None or self.kind in (entry.reason, entry.kind))
            and (self.since is None or _moment(entry.at) >= self.since)
            and (self.until is None or _moment(entry.at) < self.until)
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(slots=True)
class Quarantine:
    """The quarantine as of now; `refused` are entries of versions that this release does not read."""

    config: Config
    refused: list[VersionRefused] = field(default_factory=list)

    def held(self, wanted: Wanted) -> Iterator[Held]:
        """Yield the entries that are meant, in the order in which they came; what cannot be read is passed over.

        Raises:
            SourceUnavailable: the broker does not answer.
        """
        names, admin = TopicNames(self.config.kafka.topic_prefix), open_admin(self.config)
        settled = self._settled()
        topic_id = admin.ids_now([names.quarantine]).get(names.quarantine, "")
        for record in scan(names.quarantine, client_settings(self.config), admin):
            entry = self._read(record.value)
            if entry is not None and entry in wanted:
                place = (topic_id, record.partition, record.offset)
                yield Held(place, entry, settled.get(place, OPEN))

    def _read(self, value: bytes | None) -> Quarantined | None:
        try:
            return None if value is None else read_quarantined(value)
        except VersionRefused as error:
            self.refused.append(error)
        except msgspec.MsgspecError:  # somebody else wrote it
            return None
        return None

    def _settled(self) -> dict[Place, str]:
        """Return what became of entries, by place: some bytes for each of those that are kept."""
        topic = TopicNames(self.config.kafka.topic_prefix).quarantine_settled
        found: dict[Place, str] = {}
        for record in scan(topic, client_settings(self.config), open_admin(self.config)):
            try:
                found[msgspec.json.decode(record.key or b"", type=Place)] = read_settled(record.value or b"").how
            except msgspec.MsgspecError:
                continue
        return found


def settle(outbox: Outbox, config: Config, held: Held, how: str, *, at: float) -> None:
    """Write what becomes of an entry."""
    said = Settled(how, datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"), held.entry.origin)
    topic = TopicNames(config.kafka.topic_prefix).quarantine_settled
    outbox.produce(topic, 0, msgspec.json.encode(held.place), msgspec.json.encode(said))


def drop(
    config: Config, wanted: Wanted, *, dry_run: bool = False, clock: Callable[[], float] = time.time
) -> Counter[tuple[str, str]]:
    """Take it that nothing more is to be done about open entries; return how many, by table and reason.

    They stay until retention takes them, and can be shown; they are neither counted as open nor redriven.

    Raises:
        SourceUnavailable: the broker does not answer. Do it again: what was dropped before is known.
    """
    names = TopicNames(config.kafka.topic_prefix)
    if not dry_run:
        ensure_own_topics(config, [names.quarantine_settled])
    write = None if dry_run else small_writer(config, SLOT)  # before it is read what became of them
    dropped: Counter[tuple[str, str]] = Counter()
    those = (each for each in Quarantine(config).held(wanted) if each.became == OPEN)
    for batch in batches(those, lambda _: 0, records=1_000):
        if write is not None:
            with write() as outbox:
                for each in batch:
                    settle(outbox, config, each, DROPPED, at=clock())
        dropped.update(each.kind for each in batch)
    return dropped
