"""When an alert is tried again: the plan as data, the envelope that waits in the retry topic, and the dead letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from schemas import versions
from schemas.rule import Alert
from sinks.webhook import Attempt

HEADER_DESTINATION = "headgate.destination"
HEADER_DUE = "headgate.due"  # milliseconds since 1970

QUICK_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)  # between the attempts made in place
LATER_SECONDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0)  # between the later ones; the last one for ever
TROUBLED_AFTER = 5  # so many alerts refused one after another, and the receiver itself is in trouble

_ENCODER = msgspec.json.Encoder()


class Waiting(msgspec.Struct):
    """An alert that waits for its next attempt; times are milliseconds since 1970."""

    destination: str
    due: int
    attempts: int
    first_failed_at: int
    reason: str
    alert: Alert
    v: int = versions.WAITING.writes

    def encoded(self) -> bytes:
        """Return the value of a record of `headgate.notify.retry`."""
        return _ENCODER.encode(self)


class DeadLetter(msgspec.Struct):
    """An alert that could not be delivered, and why; times are milliseconds since 1970."""

    destination: str
    reason: str
    attempts: int
    first_failed_at: int
    dead_at: int
    alert: Alert
    v: int = versions.DEAD_LETTER.writes

    def encoded(self) -> bytes:
        """Return the value of a record of `headgate.notify.dead`."""
        return _ENCODER.encode(self)


_WAITING = msgspec.json.Decoder(Waiting)
_DEAD_LETTER = msgspec.json.Decoder(DeadLetter)
ALERT_DECODER = msgspec.json.Decoder(Alert)


def read_waiting(value: bytes) -> Waiting:
    """Return what a record of `headgate.notify.retry` holds.

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
    """Return how long to wait in place after attempt number `attempt`; None where the receiver wants a longer pause."""
    pause = QUICK_SECONDS[min(attempt - 1, len(QUICK_SECONDS) - 1)]
    asked = attempt_result.retry_after_seconds
    if asked is not None and asked > QUICK_SECONDS[-1]:
        return None
    return max(pause * (0.5 + jitter), asked or 0.0)


def later_seconds(rounds: int, retry_after_seconds: float | None, jitter: float) -> float:
    """Return how long to wait after `rounds` failed rounds, at least what was asked for; `jitter` is 0 to 1."""
    pause = LATER_SECONDS[min(rounds - 1, len(LATER_SECONDS) - 1)]
    return max(pause * (0.75 + 0.5 * jitter), retry_after_seconds or 0.0)


@dataclass(slots=True)
class Health:
    """What the last attempts say of the receiver: while it rests, alerts wait instead of being tried in vain."""

    clock: Callable[[], float]
    rests_until: float = 0.0
    _failures: int = 0

    def failed(self, attempt: Attempt) -> None:
        """Note an alert that was refused in all its quick attempts, and what the receiver asked for."""
        self._failures += 1
        if attempt.retry_after_seconds is not None:
            self.rests_until = max(self.rests_until, self.clock() + attempt.retry_after_seconds)
        if self._failures >= TROUBLED_AFTER:
            pause = later_seconds(self._failures - TROUBLED_AFTER + 1, None, 0.5)
            self.rests_until = max(self.rests_until, self.clock() + min(pause, LATER_SECONDS[2]))

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
