"""What becomes of an alert after an attempt: delivered, tried later, a dead letter. Pure: the clock is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from connectors.transport.chunk import Headers
from connectors.transport.producer import RECORD_OVERHEAD_BYTES
from schemas.config import Destination
from schemas.rule import Alert
from schemas.topics import TopicNames
from sinks.webhook import Attempt, Verdict
from streams.portion import Item, Record
from streams.retry import HEADER_DESTINATION, HEADER_DUE, DeadLetter, Waiting, delay_of, later_seconds

_HEADERS_BYTES = 256  # of both headers: a name of at most 63 characters, a time, and what they are called
TOO_LARGE = "too_large"


class Fate(StrEnum):
    """What becomes of an alert; also the name by which it is counted."""

    DELIVERED = "delivered"
    LATER = "retries"
    DEAD = "dead"
    STAYS = "stays"  # nothing was tried: it waits where it is


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one alert: the record that it is written as, the reason, and what of it had to be left out."""

    fate: Fate
    record: Record | None = None
    reason: str = ""
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides for one destination, by its policy."""

    destination: str
    policy: Destination
    names: TopicNames
    message_bytes_max: int
    clock: Callable[[], float] = field(repr=False)

    def outcome(self, item: Item, attempt: Attempt, made: int, *, rests_until: float) -> Outcome:
        """Return what `attempt`, the last of `made`, means for the alert; none was made where the receiver rests."""
        match attempt.verdict:
            case Verdict.DELIVERED:
                return Outcome(Fate.DELIVERED)
            case Verdict.GONE | Verdict.PERMANENT:
                return self._dead(item, attempt, made, attempt.reason)
            case Verdict.RETRY:
                return self._later(item, attempt, made, rests_until)

    def due(self, item: Item, *, rests_until: float) -> float:
        """Return when to send: at once, or when it is due and the receiver does not rest, or its time is over."""
        if item.waiting is None:
            return 0.0
        return max(item.waiting.due / 1000, min(rests_until, self._expires(item)))

    def _expires(self, item: Item) -> float:
        first = item.waiting.first_failed_at / 1000 if item.waiting else self.clock()
        return first + self.policy.retry_for_seconds

    def _later(self, item: Item, attempt: Attempt, made: int, rests_until: float) -> Outcome:
        now, expires, before = self.clock(), self._expires(item), item.waiting
        attempts = (before.attempts if before else 0) + made
        reason = attempt.reason if made or before is None else before.reason
        if now >= expires:
            return self._dead(item, attempt, made, f"expired: {reason}")
        if attempts >= self.policy.attempts_max:
            return self._dead(item, attempt, made, f"attempts: {reason}")
        if before is not None and not made:
            return Outcome(Fate.STAYS)
        rounds = (before.rounds if before else 0) + bool(made)
        wait = max(later_seconds(rounds), attempt.retry_after_seconds or 0.0, rests_until - now)
        if wait > expires - now:  # once more sooner, then at the very end: what lies behind it must not wait so long
            wait = min(delay_of(expires - now), expires - now)
        waiting = Waiting(
            destination=self.destination,
            due=_ms(now + wait),
            attempts=attempts,
            first_failed_at=before.first_failed_at if before else _ms(now),
            reason=reason,
            alert=item.alert,
            rounds=rounds,
            status=_status(item, attempt),
        )
        return self._waits(item, attempt, made, waiting, delay_of(wait))

    def _waits(self, item: Item, attempt: Attempt, made: int, waiting: Waiting, delay: int) -> Outcome:
        """Return the record that waits; an alert that does not fit in its envelope waits without its values."""
        topic = self.names.alerts_retry(self.destination, delay)
        headers: Headers = [(HEADER_DUE, b"%d" % waiting.due)]
        for left_out in (False, True):
            if left_out:
                waiting = msgspec.structs.replace(waiting, alert=without_values(item.alert))
            if self._fits(item.key, value := waiting.encoded()):
                return Outcome(Fate.LATER, self._record(topic, item.key, value, headers), waiting.reason, left_out)
        return self._dead(item, attempt, made, f"{TOO_LARGE}: {waiting.reason}")

    def _dead(self, item: Item, attempt: Attempt, made: int, reason: str) -> Outcome:
        """Return the dead letter: the alert, or without its values, or without its key too; one of them fits."""
        now, before = _ms(self.clock()), item.waiting
        letter = DeadLetter(
            destination=self.destination,
            reason=reason,
            attempts=(before.attempts if before else 0) + made,
            first_failed_at=before.first_failed_at if before else now,
            dead_at=now,
            alert=item.alert,
            status=_status(item, attempt),
        )
        smaller = without_values(item.alert)
        forms: list[tuple[bytes | None, Alert]] = [
            (item.key, item.alert),
            (item.key, smaller),
            (None, msgspec.structs.replace(smaller, key=None)),
        ]
        for number, (key, alert) in enumerate(forms):
            value = msgspec.structs.replace(letter, alert=alert).encoded()
            if self._fits(key, value) or number == len(forms) - 1:
                break
        return Outcome(Fate.DEAD, self._record(self.names.alerts_dead, key, value, []), reason, number > 0)

    def _fits(self, key: bytes | None, value: bytes) -> bool:
        return len(key or b"") + len(value) + _HEADERS_BYTES + RECORD_OVERHEAD_BYTES <= self.message_bytes_max

    def _record(self, topic: str, key: bytes | None, value: bytes, headers: Headers) -> Record:
        return Record(topic, key, value, [(HEADER_DESTINATION, self.destination.encode()), *headers])


def without_values(alert: Alert) -> Alert:
    """Return the alert as it is written where its values do not fit."""
    return msgspec.structs.replace(alert, values={})


def _status(item: Item, attempt: Attempt) -> int | None:
    """Return the status of the last answer that had one."""
    if attempt.status is not None:
        return attempt.status
    return item.waiting.status if item.waiting else None


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
