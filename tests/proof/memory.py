"""Memory over time: all five stages at half of their speed, and whether any of them grows by 1 % an hour or more.

First it measures what steady stream the five can take together on this machine, in an installation of its own; then a
fresh one gets half of that, or what --per-second says: a load over the same keys again and again. Of each worker
threads and open files are taken every five seconds, and the mean of its memory at ten moments within them, which chance
chooses; what comes within the warm-up does not count.

    python -m tests.proof.memory --minutes 30                                 # half of what this machine can take
    python -m tests.proof.memory --minutes 240 --per-second 1500 --seed 7     # a pace of one's own, and a seed again
    python -m tests.proof.memory --minutes 3 --warm-up 1 --json               # short: does it work; a JSON document

HOLDS needs that every stage's slope and its standard error are below 1 % an hour. Where an error is larger, the run was
too short to tell, and says so. Exit code 0 where it holds, 1 where it does not, 130 on Ctrl-C.

Of the lake's settings two are not the defaults: it commits every five seconds and sweeps after two minutes (one minute,
one hour), so that what it remembers until the sweep has come to its full size within the warm-up.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.chaos.plan import Plan
from tests.chaos.source import Source
from tests.chaos.stand import Stand
from tests.chaos.tables import Key
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.sizes import EDGE_SAMPLES, SAMPLE_SECONDS, Report, Sizes, moments
from tests.proof.slope import Growth
from tests.proof.steady import FIRST_PER_SECOND, climb
from tests.services import Kafka, RedisServer
from tests.workloads.webhook import Webhook

KEYS_MAX = 12_000  # of each table
SHARE = 0.5
SAY_SECONDS = 60.0
DRAIN_SECONDS = 300.0
LAKE = {"commit_age_seconds": 5.0, "sweep_grace_seconds": 120.0}
Say = Callable[[str], None]


class SameKeys(Source):
    """A source whose keys come back: one that is free is taken before a new one."""

    def _fresh(self, name: str) -> Key:
        gone = self._gone[name]
        if not gone:
            return super()._fresh(name)
        at = self._chance.randrange(len(gone))
        gone[at], gone[-1] = gone[-1], gone[at]
        return gone.pop()


class Forgetful(Webhook):
    """A receiver that forgets what it took: of half an hour it would be more than all stages hold."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Take one request."""
        super().answer(request)
        with self._lock:
            self._deliveries.clear()


def prove(
    kafka: Kafka, redis: RedisServer, folder: Path, say: Say, *, seconds: float, warm: float, per_second: float | None,
    seed: int,
) -> Report:  # fmt: skip
    """Run the stages for so many seconds, of which `warm` do not count, and return what was measured."""
    pace = None
    if per_second is None:
        pace = pace_of(kafka, redis, folder / "pace", say, seed)
        say(f"all five stages together take a steady {pace:,.0f} changes/s")
        redis.flush()
        per_second = pace * SHARE
    say(f"seed {seed}: {per_second:,.0f} changes/s for {seconds / 60:g} minutes")
    plan = Plan(
        "memory", round(per_second * seconds), 0, _plant_nothing, per_second=per_second, keys_max=KEYS_MAX,
        warm_seconds=0.0, drain_seconds=DRAIN_SECONDS, overrides={"lake": LAKE},
    )  # fmt: skip
    stand = Stand(plan, seed, folder / "steady", kafka, redis, say, source_type=SameKeys, webhook_type=Forgetful)
    report = Report(seed, seconds, warm, per_second, pace)
    try:
        with stand.running():
            stand.feeder.release()
            watch(stand, report, say)
    except (AssertionError, TimeoutError) as error:  # what was measured until then is shown all the same
        report.troubles.append(f"{type(error).__name__}: {error}")
    report.drained_seconds = stand.drained_after
    return report


def pace_of(kafka: Kafka, redis: RedisServer, folder: Path, say: Say, seed: int) -> float:
    """Return how many changes a second all stages take together of a steady stream."""
    plan = Plan(
        "pace", 1, 0, _plant_nothing, per_second=FIRST_PER_SECOND, slower=1.0, keys_max=KEYS_MAX, warm_seconds=5.0,
        drain_seconds=DRAIN_SECONDS, overrides={"lake": LAKE},
    )  # fmt: skip
    stand = Stand(plan, seed, folder, kafka, redis, say, source_type=SameKeys, webhook_type=Forgetful)
    with stand.running():
        pace = climb(stand, say)
    assert pace > 0, f"this machine does not take {FIRST_PER_SECOND:,.0f} changes/s: name a pace with --per-second"
    return pace


def _plant_nothing(stand: Stand) -> None:
    del stand


def watch(stand: Stand, report: Report, say: Say) -> None:
    """Take samples until the time is over."""
    began, chance = time.monotonic(), random.Random(report.seed)
    sizes = Sizes(stand.installation, stand.kafka.address, stand.groups(), began)
    said = began
    for number in range(int(report.seconds / SAMPLE_SECONDS)):
        starts = began + number * SAMPLE_SECONDS
        for moment in moments(chance):
            stand.wait(starts + moment - time.monotonic())
            sizes.weigh()
        stand.wait(starts + SAMPLE_SECONDS - time.monotonic())
        report.take(sizes.look(), made=stand.source.made)
        if time.monotonic() - said >= SAY_SECONDS:
            said += SAY_SECONDS
            say(report.now())


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.prog = "python -m tests.proof.memory"
    parser.add_argument("--minutes", type=float, default=30.0, help="how long, the warm-up with it (%(default)g)")
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes that do not count (%(default)g)")
    parser.add_argument("--per-second", type=float, help="changes a second; half of what is measured if left out")
    parser.add_argument("--json", action="store_true", help="a JSON document with every sample instead of a table")
    options = parser.parse_args(given)
    if not 0 <= options.warm_up < options.minutes - EDGE_SAMPLES * SAMPLE_SECONDS / 60:
        parser.error(
            f"--minutes {options.minutes:g}: a minute at least must be left after --warm-up {options.warm_up:g}"
        )
    if options.per_second is not None and options.per_second <= 0:
        parser.error(f"--per-second {options.per_second:g}: it must be above 0")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Start the services, prove, print; return the exit code."""
    options, began = arguments(given), time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    try:
        with redirect_stdout(sys.stderr), services_of_its_own() as (services, folder):
            report = prove(
                services.kafka(private=True), services.redis(private=True), folder, say,
                seconds=options.minutes * 60, warm=options.warm_up * 60, per_second=options.per_second,
                seed=options.seed,
            )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted; everything that was started is ended", file=sys.stderr)
        return 130
    print(json.dumps(report.document()) if options.json else "\n".join(report.lines()))
    return int(report.verdict() != Growth.HOLDS)


if __name__ == "__main__":
    sys.exit(main())
