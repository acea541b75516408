"""Named places where a test can end, stop, hold or fail a process: off unless the process was told so at its start.

`HEADGATE_FAILPOINTS`, read by `headgate run`, names them: `lake.before_commit=kill@3;notify.after_delivery=sleep:0.5`.
After `=` stands what happens, after `@` at which hit (the first where nothing is said; `@*` means each one).

| action | what happens |
|---|---|
| `kill` | the process ends by SIGKILL, as in a crash |
| `stop` | the process freezes by SIGSTOP; whoever tests lets it go on |
| `raise` | `Unavailable` is raised there, once |
| `sleep:SECONDS` | the thread waits there |
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schemas.errors import ConfigurationError, Unavailable

VARIABLE = "HEADGATE_FAILPOINTS"
SLEEP_SECONDS_MAX = 600.0

# Each name stands in one place of the product, and each place has its name here: a test compares.
FAILPOINTS: Mapping[str, str] = {
    "alerts.after_decode": "rules were evaluated, nothing is written",
    "alerts.after_write": "alerts and offsets are committed, the group is not done",
    "commit.after_answer": "the broker has answered a commit of offsets",
    "commit.before_send": "offsets are about to be committed in the background",
    "commit.before_wait": "offsets are about to be committed at once: partitions leave, or begin",
    "evolutions.after_write": "what a worker found is durable, and its table not read on",
    "evolutions.before_write": "a table has stopped for what a worker found, and nobody knows of it",
    "features.after_decode": "a round is decoded, and not sent to Redis",
    "features.after_write": "Redis has answered all rows, the group is not done",
    "features.before_entities": "rows are in Redis that several share an entity with, what they tell it is not",
    "features.before_giving": "old keys have said what new ones take from them, which are not given it yet",
    "features.before_leaving": "new keys were given what is theirs, the rows of the old ones are still there",
    "features.before_write": "nothing of the group was sent to Redis",
    "lake.after_commit": "the catalogue has taken a commit, nobody knows of it yet",
    "lake.after_decode": "the group's rows are read, and not in a buffer",
    "lake.after_write": "a batch is durable, its runs are not done",
    "lake.before_commit": "the files of a batch are written, and in no snapshot",
    "lake.before_write": "a batch is taken from its buffer, and no file of it written",
    "normalize.after_decode": "changes are with the producer, the transaction is open",
    "normalize.after_write": "output and offsets are committed, the group is not done",
    "normalize.before_write": "no transaction is begun for the group",
    "notify.after_delivery": "the receiver has answered, nothing notes it",
    "notify.before_delivery": "an alert is about to be sent",
    "notify.before_done": "a portion is delivered, or written elsewhere, and not done",
    "plain.after_flush": "records are durable without a transaction, their cause is not done",
    "plain.before_flush": "records are with the producer, without a transaction",
    "rebalance.assigned": "partitions came, within the rebalance",
    "rebalance.committed": "partitions leave: their offsets are committed, they are not given back",
    "relay.after_write": "feature updates are durable in Kafka, and still in the outbox",
    "relay.before_write": "feature updates are read from the outbox, and not written",
    "replay.after_write": "output and offsets of a replay are committed, the group is not done",
    "replay.before_write": "no transaction is begun for a group of a replay",
    "resync.after_floor": "the floor of a resync is durable, and nobody has noted it",
    "resync.before_floor": "the floor of a resync is with the producer, the transaction is open",
    "transaction.after_commit": "a transaction is committed, nobody knows of it yet",
    "transaction.before_commit": "records and offsets are in a transaction that is not committed",
    "transaction.before_offsets": "records are in a transaction, offsets are not",
}


_FORM = re.compile(
    r"(?P<name>[a-z_.]+)=(?:(?P<kind>kill|stop|raise)|(?P<sleep>sleep):(?P<seconds>\d{1,3}(?:\.\d+)?))"
    r"(?:@(?P<at>\*|[1-9]\d{0,5}))?"
)


@dataclass(slots=True)
class _Armed:
    """One failpoint that is on; `at` None means each hit."""

    kind: str
    at: int | None = 1
    seconds: float = 0.0
    hits: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # `next` is atomic: threads share it


_armed: dict[str, _Armed] | None = None


def failpoint(name: str) -> None:
    """Do nothing, unless `name` was armed: then what `arm` was told."""
    if _armed is not None:
        _hit(name)


def arm(text: str) -> None:
    """Turn on what `text` names, and only that; an empty one turns all off.

    Raises:
        ConfigurationError: no such failpoint or action.
    """
    global _armed  # noqa: PLW0603  one process, one state: what makes it cost nothing when off
    found = {part.partition("=")[0].strip(): _read(part.strip()) for part in text.split(";") if part.strip()}
    _armed = found or None


def _read(text: str) -> _Armed:
    match = _FORM.fullmatch(text)
    held = float(match["seconds"] or 0) if match else 0.0
    if match is None or match["name"] not in FAILPOINTS or held > SLEEP_SECONDS_MAX:
        raise ConfigurationError(
            f"{VARIABLE}: {text!r} is no failpoint with an action",
            hint="write NAME=kill|stop|raise|sleep:SECONDS, and @N for the hit; names stand in schemas/failpoints.py",
        )
    return _Armed(match["kind"] or match["sleep"], None if match["at"] == "*" else int(match["at"] or 1), held)


def _hit(name: str) -> None:
    assert _armed is not None, "somebody was armed"
    armed = _armed.get(name)
    if armed is None or armed.at not in {None, next(armed.hits)}:
        return
    match armed.kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(armed.seconds)
        case _:
            raise Unavailable(f"the failpoint {name} was asked to fail", hint=f"unset {VARIABLE}")
