"""When an alert is tried again: the plan as data, the envelope in which it waits, and the dead letter.

An alert that could not be delivered waits in a topic of its destination's, one for each delay. All that lies in one of
them waits equally long, so that it falls due in the order in which it lies there, and none waits for the one before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from schemas import versions
from schemas.rule import Alert
from schemas.topics import RETRY_DELAYS_SECONDS
from sinks.webhook import Attempt

HEADER_DESTINATION = "headgate.destination"
HEADER_DUE = "headgate.due"  # milliseconds since 1970

QUICK_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)  # between the attempts made in place
TROUBLED_AFTER = 5  # so many alerts refused one after another, and the receiver itself is in trouble
REST_SECONDS_MAX = 30

_ENCODER = msgspec.json.Encoder()


class Waiting(msgspec.Struct):
    """An alert that waits for its next attempt; times are milliseconds since 1970."""

    destination: str
    due: int
    attempts: int  # made so far
    first_failed_at: int
    reason: str
    alert: Alert
    rounds: int = 0  # how often it was tried and then put off
    status: int | None = None  # of the last answer that had one
    redriven: tuple[str, int, int] | None = None  # the dead letter that it was: id of the topic, partition, offset
    v: int = versions.WAITING.writes

    def encoded(self) -> bytes:
        """Return the value of a record of a topic of waiting alerts, or of `headgate.notify.redrive`."""
        return _ENCODER.encode(self)


class DeadLetter(msgspec.Struct):
    """An alert that could not be delivered, and why; times are milliseconds since 1970."""

    destination: str
    reason: str
    attempts: int
    first_failed_at: int
    dead_at: int
    alert: Alert
    status: int | None = None  # of the last answer that had one
    v: int = versions.DEAD_LETTER.writes

    def encoded(self) -> bytes:
        """Return the value of a record of `headgate.notify.dead`."""
        return _ENCODER.encode(self)


_WAITING = msgspec.json.Decoder(Waiting)
_DEAD_LETTER = msgspec.json.Decoder(DeadLetter)
ALERT_DECODER = msgspec.json.Decoder(Alert)


def read_waiting(value: bytes) -> Waiting:
    """Return what a record holds of a topic of waiting alerts, or of `headgate.notify.redrive`.

    Raises:
        VersionRefused: it is of a version that this release does not read: going on would lose the alert.
        msgspec.MsgspecError: it is no alert that waits.
    """
    versions.WAITING.check_json(value, "an alert that waits for its next attempt")
    return _WAITING.decode(value)


def read_dead_letter(value: bytes) -> DeadLetter:
    """Return what a record of `headgate.notify.dead` holds.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        msgspec.MsgspecError: it is no dead letter.
    """
    versions.DEAD_LETTER.check_json(value, "a dead letter")
    return _DEAD_LETTER.decode(value)


def quick_seconds(attempt: int, attempt_result: Attempt, jitter: float) -> float | None:
    """Return how long to wait in place after attempt number `attempt`; None where that would hold up others.

    It would where the receiver wants a longer pause, and where it did not answer at all: each attempt then takes as
    long as the time-out.
    """
    pause = QUICK_SECONDS[min(attempt - 1, len(QUICK_SECONDS) - 1)]
    asked = attempt_result.retry_after_seconds
    if attempt_result.reason == "timeout" or (asked is not None and asked > QUICK_SECONDS[-1]):
        return None
    return max(pause * (0.5 + jitter), asked or 0.0)


def later_seconds(rounds: int) -> int:
    """Return how long to wait after `rounds` failed rounds, the longest for ever.

    There is no jitter: it would mix what lies in one topic.
    """
    return RETRY_DELAYS_SECONDS[min(max(rounds, 1), len(RETRY_DELAYS_SECONDS)) - 1]


def delay_of(wait_seconds: float) -> int:
    """Return the delay of the topic in which to wait for so long: the longest that is not longer, or the shortest.

    What waits longer than its topic's delay was asked to by the receiver, which then rests as a whole: it holds up
    nobody. What waits less waits at most the shortest delay.
    """
    return max((delay for delay in RETRY_DELAYS_SECONDS if delay <= wait_seconds), default=RETRY_DELAYS_SECONDS[0])


@dataclass(slots=True)
class Health:
    """What the last attempts say of the receiver: while it rests, alerts wait instead of being tried in vain."""

    clock: Callable[[], float]
    rests_until: float = 0.0
    _failures: int = 0

    def heard(self, attempt: Attempt) -> None:
        """Note what the receiver asked for with any answer: nothing is sent to it until then."""
        if attempt.retry_after_seconds is not None:
            self.rests_until = max(self.rests_until, self.clock() + attempt.retry_after_seconds)

    def failed(self) -> None:
        """Note an alert that was refused in all its quick attempts."""
        self._failures += 1
        if self._failures >= TROUBLED_AFTER:
            pause = min(later_seconds(self._failures - TROUBLED_AFTER + 1), REST_SECONDS_MAX)
            self.rests_until = max(self.rests_until, self.clock() + pause)

    def succeeded(self) -> None:
        """Note an answer: the receiver is well."""
        self._failures = 0

    @property
    def failing(self) -> bool:
        """Tell whether the last alert was refused in all its attempts."""
        return self._failures > 0

    def resting(self) -> bool:
        """Tell whether nothing should be sent now."""
        return self.clock() < self.rests_until
