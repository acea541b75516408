"""Runs cases, one plan after another, and says of each what came of it: one line, with the seed to do it again.

A run = services + installation + load + faults + drain + oracles. Of a run that failed the history is kept in a folder.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.history import keep
from tests.chaos.look import Look
from tests.chaos.plan import Case, Plan, Scale
from tests.chaos.stand import Stand
from tests.chaos.wire import Wire
from tests.oracles.verdict import DIFFERENCES_SHOWN, Verdict
from tests.services import S3, Kafka, Listener, RedisServer, Services
from tests.services.waiting import free_port

SESSION_SECONDS = 6.0
BROKER_SETTINGS = {
    # So that a worker that is frozen or killed is missed within seconds, by either protocol.
    "group.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
}


@dataclass(slots=True)
class Result:
    """What came of one plan."""

    case: int
    plan: str
    seed: int
    holds: bool
    changes: int
    faults: int
    seconds: float
    back_median: float | None = None
    back_worst: float | None = None
    backs: dict[str, list[float]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    total: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    kept: str = ""

    def line(self) -> str:
        """Return the verdict line, and below it the first differences."""
        state = "HOLDS" if self.holds else "FAILS"
        back = (
            "" if self.back_worst is None else f", back after {self.back_median:.1f} s, {self.back_worst:.1f} at worst"
        )
        name = f"case {self.case}" + (f" {self.plan}" if self.plan else "")
        did = f"{self.changes:,} changes, {self.faults} faults, {self.seconds:.0f} s"
        said = f"{name}: {state}, seed {self.seed}, {did}{back}"
        by_stage = [f"    {stage}: back after {_list(times)} s" for stage, times in sorted(self.backs.items())]
        wrong = [f"    {text}" for text in self.differences[:DIFFERENCES_SHOWN]]
        more = [f"    {self.total:,} differences; its history is in {self.kept}"] if not self.holds else []
        return "\n".join([said, *by_stage, *wrong, *more])

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        verdicts = {verdict.name: {**asdict(verdict), "holds": verdict.holds} for verdict in self.verdicts}
        own = {name: getattr(self, name) for name in self.__slots__ if name != "verdicts"}
        return {**own, "verdicts": verdicts}


def _list(times: list[float]) -> str:
    return ", ".join(f"{seconds:.1f}" for seconds in sorted(times))


@dataclass(slots=True)
class Frame:
    """Services for all cases of one call, below `folder`; `kept` is where histories of failures go."""

    folder: Path
    kept: Path
    say: Callable[[str], None]
    kafka_given: Kafka | None = None  # by a test, which has no fault for it
    redis_given: RedisServer | None = None
    services: Services = field(init=False)
    listener: Listener = field(init=False)
    _kafka: Kafka | None = None
    _redis: RedisServer | None = None
    _s3: S3 | None = None

    def __post_init__(self) -> None:
        self.services = Services(self.folder / "services")
        self.listener = Listener("PROXIED", "PLAINTEXT", advertised=f"127.0.0.1:{free_port()}")

    @property
    def kafka(self) -> Kafka:
        """A broker that may be killed, with the settings that faults need."""
        if self.kafka_given is not None:
            return self.kafka_given
        if self._kafka is None:
            self._kafka = self.services.kafka(BROKER_SETTINGS, private=True, listeners=[self.listener])
        return self._kafka

    @property
    def redis(self) -> RedisServer:
        """A Redis that may be killed."""
        if self.redis_given is not None:
            return self.redis_given
        if self._redis is None:
            self._redis = self.services.redis(private=True)
        return self._redis

    def wire(self, seed: int) -> Wire:
        """Return what stands between workers and services; nothing of it listens yet."""
        assert self.kafka_given is None, "a broker of our own has a listener for those who come through the wire"
        if self._s3 is None:
            self._s3 = self.services.s3(private=True)
        return Wire(self.kafka, self.listener, self.redis, self._s3, seed, self.services)

    @contextmanager
    def open(self) -> Iterator[Frame]:
        """Leave no service behind."""
        try:
            yield self
        finally:
            self.services.close()

    def run(self, case: Case, scale: Scale, seed: int) -> Iterator[Result]:
        """Run the plans of a case."""
        for plan in case.plans(scale):
            yield self.run_plan(case, plan, seed)

    def run_plan(self, case: Case, plan: Plan, seed: int) -> Result:
        """Run one plan and return what came of it; whatever goes wrong is part of that."""
        name = f"case{case.number}" + (f"-{plan.name.replace(' ', '-')}" if plan.name else "")
        began, folder = time.monotonic(), self.folder / f"{name}-{seed}"
        stand = Stand(plan, seed, folder, self.kafka, self.redis, lambda text: self.say(f"{name}: {text}"))
        if plan.wired:
            stand.wire = self.wire(seed)
        verdicts: list[Verdict] = []
        try:
            if plan.whole is not None:
                verdicts = plan.whole(self.kafka, self.redis, folder, seed)
                stand.faults = plan.faults
            else:
                with stand.running():
                    plan.plant(stand)
                    stand.feeder.release()
                self.say(f"{name}: drained and stopped, asking the oracles")
                verdicts = Look(stand).verdicts()
        except Exception as error:  # noqa: BLE001  decided here: a run that broke off is a run that failed
            verdicts.append(_broken_off(error))
        result = self._result(case, plan, stand, verdicts, time.monotonic() - began)
        if result.holds:
            shutil.rmtree(folder, ignore_errors=True)
            if self._redis is not None:
                self._redis.flush()
        else:
            result.kept = str(keep(stand, self.kept / f"{name}-{seed}", result.document()))
        return result

    def _result(self, case: Case, plan: Plan, stand: Stand, verdicts: list[Verdict], seconds: float) -> Result:
        backs: dict[str, list[float]] = {}
        for kill in stand.kills:
            if (back := stand.back(kill)) is not None:
                backs.setdefault(kill.stage, []).append(back)
        times = sorted(back for of_stage in backs.values() for back in of_stage)
        wrong = [verdict for verdict in verdicts if not verdict.holds]
        return Result(
            case.number, plan.name, stand.seed, not wrong, stand.made,
            stand.faults, seconds, times[len(times) // 2] if times else None, times[-1] if times else None, backs,
            [f"{verdict.name}: {text}" for verdict in wrong for text in verdict.differences],
            sum(verdict.total for verdict in wrong), verdicts,
        )  # fmt: skip


def _broken_off(error: Exception) -> Verdict:
    verdict = Verdict("the run")
    verdict.differ(f"broke off: {type(error).__name__}: {error}")
    verdict.differ("".join(traceback.format_exception(error)[-6:]))
    return verdict


def worst_is(stand: Stand, seconds: float) -> Verdict:
    """Check that each stage that was taken away was back at 90% of its speed within so many seconds."""
    verdict = Verdict("back at 90% of its speed", {"kills": len(stand.kills)})
    for kill in stand.kills:
        back = stand.back(kill)
        if back is None or back > seconds:
            verdict.differ(f"{kill.stage}: {'not at all' if back is None else f'{back:.1f} s'}, at most {seconds:g} s")
    return verdict


Cases = Mapping[int, Case]
