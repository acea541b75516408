"""The transport on a real Kafka, in processes that join, leave, are killed and misbehave."""

import signal
import time
from collections import Counter
from functools import partial
from typing import TypeVar

import pytest

from tests.integration.transport_processes import PARTITIONS, Bench
from tests.services import wait_until

T = TypeVar("T")

PROTOCOLS: dict[str, dict[str, str]] = {
    "range": {},
    "cooperative-sticky": {"assignment_strategy": "cooperative-sticky"},
    "kip-848": {"group_protocol": "consumer"},
}


def differences(expected: Counter[T], seen: Counter[T]) -> dict[str, list[T]]:
    """The first five records that are missing, and that came more than once."""
    missing = [each for each in expected if each not in seen]
    doubled = [each for each, times in seen.items() if times > expected[each]]
    return {"missing": missing[:5], "doubled": doubled[:5]}


def everything(bench: Bench, topic: str) -> Counter[tuple[str, int, int]]:
    """Every offset of a topic, once."""
    return Counter((topic, number, offset) for number, end in bench.ends(topic).items() for offset in range(end))


def more_done(bench: Bench, name: str, than: int) -> bool:
    """Tell whether a worker has done more runs than so many."""
    return len(bench.lines(name, "done")) > than


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_worker_that_joins_and_leaves_loses_and_repeats_nothing(bench: Bench, protocol: str) -> None:
    """Begun work is finished and committed before partitions are given back, under every group protocol."""
    topic = bench.topic()
    asked = {"topics": [topic], "settings": PROTOCOLS[protocol], "record_seconds": 0.0002}
    bench.fill(topic, 10_000)
    bench.start("first", **asked)
    bench.wait_running({"first": PARTITIONS})
    bench.fill(topic, 10_000)
    bench.start("second", **asked)
    bench.wait_running({"first": 2, "second": 2})
    bench.fill(topic, 10_000)
    wait_until(lambda: bench.lines("second", "begun"), "the second worker is at work when it is told to leave")
    left = bench.stop("second")
    bench.wait_running({"first": PARTITIONS})
    bench.fill(topic, 10_000)
    bench.wait_committed(topic)
    ended = bench.stop("first")

    assert {"missing": [], "doubled": []} == differences(everything(bench, topic), bench.done(["first", "second"]))
    assert bench.done(["second"]), "the second worker did some of the work"
    assert (0, 0) == (left, ended)


def test_a_killed_worker_loses_nothing_and_repeats_a_commit_interval_at_most(bench: Bench) -> None:
    """SIGKILL without transactions: what was not committed yet is done again."""
    topic = bench.topic()
    bench.fill(topic, 20_000)
    asked = {"topics": [topic], "record_seconds": 0.0002}
    bench.start("first", **asked)
    wait_until(lambda: len(bench.done(["first"])) > 3_000, "some work is done")
    bench.kill("first")
    bench.start("second", **asked)
    bench.wait_committed(topic)
    bench.stop("second")
    seen = bench.done(["first", "second"])

    assert [] == differences(everything(bench, topic), seen)["missing"]
    assert sum(times - 1 for times in seen.values()) <= 8_000, "about a second's work"


def test_sigkill_inside_transactions_loses_and_doubles_nothing(bench: Bench) -> None:
    """Three kills inside open transactions, two workers, and read_committed sees each record once.

    There is enough to read that a worker is in the middle of it at each kill.
    """
    topic, out = bench.topic(), bench.topic("out")
    bench.fill(topic, 160_000)

    def start(name: str, hold: float) -> None:
        asked = {"out": out, "slot": f"{bench.group}-{name}", "hold_seconds": hold, "topics": [topic]}
        bench.start(name, **asked)

    for round_number, victim in enumerate(("one", "two", "one")):
        for name in ("one", "two"):
            if name not in bench.workers or bench.workers[name].poll() is not None:
                start(name, 0.3)
        before = len(bench.lines(victim, "done"))
        wait_until(
            partial(more_done, bench, victim, before + 3),
            f"kill {round_number}: {victim} writes transactions",
            deadline_seconds=60,
        )
        bench.kill(victim)
    start("one", 0.0)
    bench.wait_committed(topic, 90)
    codes = [bench.stop("one"), bench.stop("two")]
    expected = Counter[bytes | None](b"%d:%d" % key[1:] for key in everything(bench, topic))

    assert {"missing": [], "doubled": []} == differences(expected, bench.keys(out))
    assert [0, 0] == codes


def test_a_slow_lane_stops_no_other(bench: Bench) -> None:
    """Each lane has bytes of its own: the fast ones finish while the slow one stands full."""
    slow, fast = bench.topic("slow"), bench.topic("fast")
    bench.fill(fast, 8_000, value=lambda _: b"x" * 1_000)
    bench.fill(slow, 8_000, value=lambda _: b"x" * 1_000)
    bench.start("one", topics=[slow, fast], lanes=True, bytes_max=1 << 20, slow={slow: 4.0})
    wait_until(lambda: bench.committed(fast) == bench.ends(fast), "the fast lane is done")

    assert sum(bench.ends(slow).values()) > sum(offset or 0 for offset in bench.committed(slow).values())
    assert 0 == bench.stop("one")


def test_sigterm_in_the_middle_of_a_step_finishes_it_and_exits_0(bench: Bench) -> None:
    """What was begun is finished and committed; what was not is left to the next worker."""
    topic = bench.topic()
    bench.fill(topic, 10_000)
    bench.start("one", topics=[topic], delay_seconds=2.0)
    wait_until(lambda: bench.running("one") == PARTITIONS, "it reads")
    wait_until(lambda: bench.lines("one", "begun"), "a step is under way")
    began = time.monotonic()
    code = bench.stop("one")
    seconds = time.monotonic() - began
    bench.start("two", topics=[topic])
    bench.wait_committed(topic)
    bench.stop("two")

    assert {"missing": [], "doubled": []} == differences(everything(bench, topic), bench.done(["one", "two"]))
    assert bench.done(["one"]), "the step under way was finished"
    assert 0 == code
    assert seconds < 14, "it ended by itself: by force it would after 15"


def test_a_record_that_always_fails_goes_to_quarantine_alone(bench: Bench) -> None:
    """Bisection finds exactly the broken records; all others are done once."""
    topic = bench.topic()
    bench.fill(topic, 4_000, value=lambda i: b"BROKEN" if i in (1_000, 1_001, 3_333) else b"fine")
    bench.start("one", topics=[topic], poison=True)
    bench.wait_committed(topic)
    bench.stop("one")
    poisoned = Counter(
        (t, partition, first) for _, _, t, partition, first, n, _ in bench.lines("one", "poison") if n == 1
    )

    assert Counter({(topic, i % PARTITIONS, i // PARTITIONS): 1 for i in (1_000, 1_001, 3_333)}) == poisoned
    assert {"missing": [], "doubled": []} == differences(everything(bench, topic), bench.done(["one"]) + poisoned)


def test_a_step_that_always_fails_ends_the_worker_and_loses_nothing(bench: Bench) -> None:
    """Without a quarantine the exit code is not 0, and nothing is committed beyond what was done."""
    topic = bench.topic()
    bench.fill(topic, 1_000)
    worker = bench.start("one", topics=[topic], fail_always=True)
    code = worker.wait(30)

    assert 0 != code
    assert dict.fromkeys(range(PARTITIONS), 0) == bench.committed(topic), "the start is committed, nothing else"


def test_topics_that_match_a_pattern_are_taken_up_at_run_time(bench: Bench) -> None:
    """A topic made after the start flows within seconds."""
    first = bench.topic("events-1")
    bench.start("one", topics=[f"^{bench.group}-events-.*"])
    bench.wait_running({"one": PARTITIONS})
    second = bench.topic("events-2")
    bench.fill(first, 1_000)
    bench.fill(second, 1_000)
    bench.wait_committed(first)
    bench.wait_committed(second)

    assert 0 == bench.stop("one")


def test_a_topic_made_anew_is_held_and_the_others_go_on(bench: Bench) -> None:
    """Never a silent jump: the new topic is not read, and also not after a restart."""
    moved, other = bench.topic("moved"), bench.topic("other")
    bench.fill(moved, 4_000)
    bench.start("one", topics=[moved, other], settings={"quiet_seconds": 0.1})
    bench.wait_committed(moved)
    bench.admin.delete([moved])
    wait_until(lambda: not bench.admin.describe([moved]), "the topic is gone")
    bench.topic("moved")
    bench.fill(moved, 8_000)
    wait_until(lambda: bench.lines("one", "source_moved"), "the worker sees it")
    bench.fill(other, 1_000)
    bench.wait_committed(other)
    code = bench.stop("one")
    bench.start("two", topics=[moved, other])
    wait_until(lambda: bench.lines("two", "source_moved"), "the next worker sees it too")
    bench.stop("two")

    assert 4_000 == sum(offset < 1_000 for topic, _, offset in bench.done(["one"]) if topic == moved)
    assert 0 == sum(topic == moved and offset >= 1_000 for topic, _, offset in bench.done(["one", "two"]))
    assert [] == [line for line in bench.lines("two", "done") if line[2] == moved]
    assert 0 == code


def test_a_frozen_worker_loses_nothing_and_goes_on(bench: Bench) -> None:
    """SIGSTOP beyond the session: its partitions are lost, another does them, it comes back as a member."""
    topic = bench.topic()
    bench.fill(topic, 20_000)
    asked = {"topics": [topic], "record_seconds": 0.0005}
    frozen = bench.start("one", **asked)
    wait_until(lambda: len(bench.done(["one"])) > 2_000, "some work is done")
    frozen.send_signal(signal.SIGSTOP)
    bench.start("two", **asked)
    bench.wait_running({"two": PARTITIONS})
    frozen.send_signal(signal.SIGCONT)
    bench.wait_running({"one": 2, "two": 2})
    bench.wait_committed(topic)
    codes = [bench.stop("one"), bench.stop("two")]

    assert [] == differences(everything(bench, topic), bench.done(["one", "two"]))["missing"]
    assert [0, 0] == codes
