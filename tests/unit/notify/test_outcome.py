"""What becomes of an alert, by a clock of the tests' own: when it is due, where it waits, when it is given up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.transport.chunk import Assignment, Run
from connectors.transport.producer import Outbox
from schemas.rule import ALERT_ENVELOPE_BYTES, Alert
from schemas.topics import RETRY_DELAYS_SECONDS, TopicNames
from sinks.webhook import Attempt, Verdict, judge
from streams.outcome import Fate, Judge, Outcome
from streams.portion import Item
from streams.retry import Waiting, delay_of, read_dead_letter, read_waiting
from tests.unit.fakes import Message
from tests.unit.notify.receiver import alert, destination

NAMES = TopicNames("hg")
START = 1_795_203_957.0
REFUSED = Attempt(Verdict.RETRY, "status_503", status=503)
SILENT = Attempt(Verdict.RETRY, "timeout")
RESTING = Attempt(Verdict.RETRY, "resting")
SHORTEST = RETRY_DELAYS_SECONDS[0]


class Clock:
    """A judge, and the time by which it goes."""

    def __init__(self, *, message_bytes_max: int = 2**20, **settings: Any) -> None:
        self.now = START
        policy = destination("https://example.org/x", **settings)
        self.judge = Judge("ops", policy, NAMES, message_bytes_max, lambda: self.now)

    def outcome(self, item: Item, attempt: Attempt, made: int = 1, *, rests_until: float = 0.0) -> Outcome:
        """Return what becomes of an item now."""
        return self.judge.outcome(item, attempt, made, rests_until=rests_until)


def item_of(of: Alert, waiting: Waiting | None = None, *, key: bytes | None = b"k") -> Item:
    """Return an alert as it was read, fresh or after it waited."""
    run = Run(Assignment("x", NAMES.alerts, 0), [Message(0, key, b"")])
    return Item(run, 0, key, of, waiting)


def read_again(outcome: Outcome) -> Item:
    """Return what waits as it is read when it is due."""
    assert outcome.record is not None
    waiting = read_waiting(outcome.record.value)
    return item_of(waiting.alert, waiting, key=outcome.record.key)


def test_each_round_waits_longer_and_the_last_delay_stays() -> None:
    """An alert goes from topic to topic, and is due when the topic's delay is over."""
    clock, topics, waits = Clock(), [], []
    item = item_of(alert(1))
    for _ in range(len(RETRY_DELAYS_SECONDS) + 1):
        outcome = clock.outcome(item, REFUSED)
        assert outcome.record is not None
        item = read_again(outcome)
        due = clock.judge.due(item, rests_until=0.0)
        topics.append(outcome.record.topic)
        waits.append(round(due - clock.now))
        clock.now = due

    last = RETRY_DELAYS_SECONDS[-1]
    assert [*RETRY_DELAYS_SECONDS, last] == waits
    assert [*NAMES.all_alerts_retry("ops"), NAMES.alerts_retry("ops", last)] == topics


steps = st.lists(
    st.tuples(
        st.floats(0, 40),  # seconds since the one before
        st.integers(0, 7),  # rounds that it was tried
        st.floats(1, 4_000),  # how long it has left
    ),
    min_size=2,
    max_size=60,
)


@given(steps)
def test_no_alert_waits_much_longer_because_of_one_ahead_of_it(history: list[tuple[float, int, float]]) -> None:
    """In each topic the due times rise; one whose time is nearly over waits at most the shortest delay longer."""
    clock, latest = Clock(retry_for_seconds=4_000), dict[str, float]()
    for number, (pause, rounds, left) in enumerate(history):
        clock.now += pause
        first = int((clock.now - 4_000 + left) * 1000)
        before = Waiting("ops", int(clock.now * 1000), rounds, first, "status_503", alert(number), rounds=rounds)

        outcome = clock.outcome(item_of(before.alert, before), REFUSED)

        assert outcome.record is not None
        due = read_waiting(outcome.record.value).due / 1000
        waits_until = max(due, latest.get(outcome.record.topic, 0.0))
        assert SHORTEST >= waits_until - due
        assert clock.now + min(left, SHORTEST) - 0.01 <= due <= clock.now + min(left, RETRY_DELAYS_SECONDS[-1])
        latest[outcome.record.topic] = waits_until


def test_an_alert_that_waits_behind_one_of_the_same_round_is_not_late_at_all() -> None:
    """They were put there in the order in which they are due."""
    clock, dues = Clock(), []
    for number in range(20):
        clock.now += 0.7
        dues.append(read_again(clock.outcome(item_of(alert(number)), REFUSED)).waiting)

    assert sorted(each.due for each in dues if each) == [each.due for each in dues if each]


@pytest.mark.parametrize(
    ("seconds", "delay"), [(0, 5), (4.9, 5), (5, 5), (14, 5), (15, 15), (299, 120), (300, 300), (3_600, 300)]
)
def test_a_topic_holds_nothing_up_longer_than_its_delay(seconds: float, delay: int) -> None:
    """The longest delay that is over in time."""
    assert delay == delay_of(seconds)


def test_what_the_receiver_asks_for_outlives_the_worker() -> None:
    """It stands with the alert that waits, not in memory alone."""
    clock = Clock()
    asked = judge(429, "200", now=START)

    item = read_again(clock.outcome(item_of(alert(1)), asked, rests_until=START + 200))

    assert START + 200 == clock.judge.due(item, rests_until=0.0)


def test_while_the_receiver_rests_what_waits_stays_and_what_is_fresh_moves() -> None:
    """So that nothing fresh is read in vain, and nothing moves from topic to topic untried."""
    clock = Clock()
    waiting = read_again(clock.outcome(item_of(alert(1)), REFUSED))

    stays = clock.outcome(waiting, RESTING, 0, rests_until=START + 30)
    moves = clock.outcome(item_of(alert(2)), RESTING, 0, rests_until=START + 30)

    assert (Fate.STAYS, Fate.LATER) == (stays.fate, moves.fate)
    assert START + 30 == clock.judge.due(read_again(moves), rests_until=0.0)
    assert (0, 0) == (read_again(moves).waiting.attempts, read_again(moves).waiting.rounds)  # type: ignore[union-attr]


def test_an_alert_whose_time_is_over_does_not_wait_for_a_receiver_that_rests() -> None:
    """It would outlive the topic in which it waits: it goes to the dead letters, with the last answer there was."""
    clock = Clock(retry_for_seconds=600)
    item = read_again(clock.outcome(item_of(alert(1)), REFUSED))
    rests_until = START + 10_000

    assert START + 600 == clock.judge.due(item, rests_until=rests_until)
    clock.now = START + 600
    outcome = clock.outcome(item, RESTING, 0, rests_until=rests_until)

    assert (Fate.DEAD, "expired: status_503") == (outcome.fate, outcome.reason)
    assert outcome.record is not None
    letter = read_dead_letter(outcome.record.value)
    assert ("expired: status_503", 503, 1) == (letter.reason, letter.status, letter.attempts)


def test_an_alert_is_given_up_after_so_many_attempts() -> None:
    """However young it is; the last status stays, though a later attempt had no answer."""
    clock = Clock(attempts_max=4)
    item = read_again(clock.outcome(item_of(alert(1)), REFUSED, 3))
    outcome = clock.outcome(item, SILENT)

    assert (Fate.DEAD, "attempts: timeout") == (outcome.fate, outcome.reason)
    assert outcome.record is not None
    letter = read_dead_letter(outcome.record.value)
    assert (4, 503, alert(1).id) == (letter.attempts, letter.status, letter.alert.id)


def large(kilobytes: int) -> Alert:
    """Return an alert with a value of this size."""
    return alert(1, values={"note": "x" * kilobytes * 1024})


def written(outcome: Outcome, *, bytes_max: int) -> list[tuple[Any, ...]]:
    """Return what the transport takes of an outcome; it raises where that is too large."""
    records: list[tuple[Any, ...]] = []
    assert outcome.record is not None
    outbox = Outbox(lambda *record: records.append(record), bytes_max)
    outbox.produce(outcome.record.topic, None, outcome.record.key, outcome.record.value, outcome.record.headers)
    return records


def test_an_alert_as_large_as_they_are_written_fits_in_its_envelope() -> None:
    """ALERTS leaves room for it."""
    key = b"k" * 1_000
    most = 64 * 1024 - len(key) - ALERT_ENVELOPE_BYTES
    of = alert(1, values={"note": "x" * (most - len(msgspec.json.encode(alert(1, values={"note": ""}))))})
    assert most == len(msgspec.json.encode(of))
    clock = Clock(message_bytes_max=64 * 1024)

    later = clock.outcome(item_of(of, key=key), REFUSED)
    dead = clock.outcome(item_of(of, key=key), Attempt(Verdict.PERMANENT, "status_400", status=400))

    assert [False, False] == [later.left_out, dead.left_out]
    assert written(later, bytes_max=64 * 1024)
    assert written(dead, bytes_max=64 * 1024)


def test_a_larger_one_waits_without_its_values() -> None:
    """Known by its id, rule, table and key."""
    clock = Clock(message_bytes_max=64 * 1024)

    outcome = clock.outcome(item_of(large(64)), REFUSED)

    item = read_again(outcome)
    assert (True, Fate.LATER) == (outcome.left_out, outcome.fate)
    assert ({}, large(64).id, {"id": "1"}) == (item.alert.values, item.alert.id, item.alert.key)
    assert written(outcome, bytes_max=64 * 1024)


def test_one_with_a_key_that_is_too_large_is_a_dead_letter_without_it() -> None:
    """Known by its id, rule, table and position: it holds up nothing."""
    clock = Clock(message_bytes_max=64 * 1024)
    of = alert(1, key={"id": "y" * 70_000})

    outcome = clock.outcome(item_of(of, key=b"y" * 70_000), REFUSED)

    assert (True, Fate.DEAD, "too_large: status_503") == (outcome.left_out, outcome.fate, outcome.reason)
    assert written(outcome, bytes_max=64 * 1024)
    assert outcome.record is not None
    letter = read_dead_letter(outcome.record.value)
    assert (of.id, of.position, None) == (letter.alert.id, letter.alert.position, letter.alert.key)
