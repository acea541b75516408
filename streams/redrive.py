"""Dead letters sent again: each at most once, under the id that its alert always had.

The record that has it sent, on `headgate.notify.redrive`, is also what says that it was: there is no moment between
the two. Whoever sends dead letters again first fences off whoever did so before, then reads which were.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from connectors.transport.chunk import Headers
from connectors.transport.producer import RECORD_OVERHEAD_BYTES, Outbox
from connectors.transport.scan import Scanned, scan
from schemas.config import Config
from schemas.errors import ConfigurationError
from schemas.topics import TopicNames
from streams.destinations import prepare
from streams.outcome import without_values
from streams.registration import ensure_own_topics, open_admin, own_topics
from streams.retry import HEADER_DESTINATION, DeadLetter, Waiting, read_dead_letter, read_waiting
from streams.settings import client_settings
from streams.small_writer import batches, small_writer

REASON = "redriven"
BATCH_LETTERS = 200  # of one transaction

Place = tuple[str, int, int]  # id of the topic of dead letters, partition, offset


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, where it lies, and whether it was sent again."""

    place: Place
    key: bytes | None
    letter: DeadLetter
    nbytes: int
    redriven: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are meant: each of these that is given must hold."""

    destination: str | None = None
    rule: str | None = None
    since: datetime | None = None  # when it became a dead letter

    def __contains__(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant."""
        return (
            (self.destination is None or letter.destination == self.destination)
            and (self.rule is None or letter.alert.rule == self.rule)
            and (self.since is None or letter.dead_at >= self.since.timestamp() * 1000)
        )


def dead_letters(config: Config, wanted: Wanted) -> Iterator[Letter]:
    """Yield the dead letters that are meant, as of now, per partition in order; what cannot be read is passed over.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    names, admin, client = TopicNames(config.kafka.topic_prefix), open_admin(config), client_settings(config)
    done = _redriven(scan(names.alerts_redrive, client, admin))
    topic_id = admin.ids_now([names.alerts_dead]).get(names.alerts_dead, "")
    for record in scan(names.alerts_dead, client, admin):
        letter = _letter(record)
        if letter is not None and letter in wanted:
            place = (topic_id, record.partition, record.offset)
            yield Letter(place, record.key, letter, len(record.value or b""), redriven=place in done)


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many dead letters were sent again, by destination and rule, and how many not, by the reason."""

    sent: Counter[tuple[str, str]]
    passed_over: Counter[str]


def redrive(
    config: Config,
    wanted: Wanted,
    *,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Redriven:
    """Have the dead letters that are meant sent again, and return once that is durable; each of them only once, ever.

    With `kafka.guarantee: exactly_once` a stop in the middle, or somebody who does the same at the same time, sends
    none twice: a letter was sent again exactly if its record can be read. Without transactions two at the same time
    may both send a letter, under the same id.

    Raises:
        ConfigurationError: the destination that is meant is none of the configuration's.
        SourceUnavailable: the broker does not answer. Do it again: what was sent before is known.
    """
    if wanted.destination is not None and wanted.destination not in config.notify:
        raise ConfigurationError(
            f"{wanted.destination} is no destination of this configuration",
            hint=f"one of {', '.join(config.notify) or 'none'}",
        )
    done = Redriven(Counter(), Counter())
    if not dry_run:
        ensure_own_topics(config, own_topics(config))
        for destination in config.notify if wanted.destination is None else [wanted.destination]:
            prepare(config, destination)  # a new one would pass over what is written before its first start
    transaction = None if dry_run else small_writer(config, "redrive")  # from here on nobody else sends any
    letters = (each for each in dead_letters(config, wanted) if _is_to_send(each, config, done))
    for batch in batches(letters, lambda each: each.nbytes, records=BATCH_LETTERS):
        if transaction is not None:
            with transaction() as outbox:
                for each in batch:
                    _produce(outbox, config, each, now_ms=int(clock() * 1000))
        done.sent.update((each.letter.destination, each.letter.alert.rule) for each in batch)
    return done


def _is_to_send(letter: Letter, config: Config, done: Redriven) -> bool:
    if letter.redriven:
        done.passed_over["sent_before"] += 1
    elif letter.letter.destination not in config.notify:
        done.passed_over["no_destination"] += 1
    else:
        return True
    return False


def _produce(outbox: Outbox, config: Config, each: Letter, *, now_ms: int) -> None:
    """Write what has a letter sent again; its time begins anew."""
    letter, names = each.letter, TopicNames(config.kafka.topic_prefix)
    waits = Waiting(letter.destination, now_ms, 0, now_ms, REASON, letter.alert, redriven=each.place)
    headers: Headers = [(HEADER_DESTINATION, letter.destination.encode())]
    room = config.kafka.message_bytes_max - RECORD_OVERHEAD_BYTES - 256 - len(each.key or b"")
    if len(value := waits.encoded()) > room:
        value = msgspec.structs.replace(waits, alert=without_values(letter.alert)).encoded()
    outbox.produce(names.alerts_redrive, None, each.key, value, headers)


def _redriven(records: Iterator[Scanned]) -> set[Place]:
    """Return the places of the letters that were sent again: some bytes for each of the last 30 days."""
    found = set()
    for record in records:
        try:
            waits = read_waiting(record.value or b"")
        except msgspec.MsgspecError:
            continue
        if waits.redriven is not None:
            found.add(waits.redriven)
    return found


def _letter(record: Scanned) -> DeadLetter | None:
    try:
        return read_dead_letter(record.value or b"")
    except msgspec.MsgspecError:
        return None
