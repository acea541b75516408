"""The frame of `make chaos` in small: a run with a kill holds; one that fails says so, and keeps its history."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.chaos.__main__ import arguments
from tests.chaos.cases import CASES
from tests.chaos.frame import Frame
from tests.chaos.plan import Case, Plan
from tests.chaos.stand import Stand
from tests.oracles import Verdict
from tests.services import Kafka, RedisServer


@pytest.fixture
def frame(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Frame:
    """A frame on the services that tests share."""
    return Frame(tmp_path / "run", tmp_path / "kept", print, kafka_given=kafka, redis_given=redis_server)


def test_a_killed_stage_loses_and_doubles_nothing(frame: Frame, tmp_path: Path) -> None:
    """All five stages under load, one of them killed; every oracle is asked."""
    seed = random.randrange(2**31)

    (result,) = frame.run(CASES[1], "tiny", seed)

    print(result.line())
    assert result.holds, [str(verdict) for verdict in result.verdicts if not verdict.holds]
    assert result.faults == 1
    assert not (tmp_path / "kept").exists()


def test_a_run_that_fails_says_why_and_keeps_its_history(frame: Frame) -> None:
    """Its seed, the first five differences of all, and what it left behind."""

    def wrong(*_: object) -> list[Verdict]:
        verdict = Verdict("a fault that was planted")
        for number in range(7):
            verdict.differ(f"difference {number}")
        return [verdict]

    def never(stand: Stand) -> None:
        raise AssertionError(stand)

    plan = Plan("planted", 1, 1, never, whole=wrong)

    (result,) = frame.run(Case(99, "a fault", lambda scale: [plan]), "tiny", 4711)  # noqa: ARG005

    line = result.line()
    assert line.startswith("case 99 planted: FAILS, seed 4711, 1 changes, 1 faults")
    assert [f"difference {n}" in line for n in range(7)] == [True] * 5 + [False] * 2
    assert f"7 differences; its history is in {result.kept}" in line
    assert json.loads((Path(result.kept) / "result.json").read_text())["seed"] == 4711


@pytest.mark.parametrize("scale", ["tiny", "small", "night"])
def test_every_case_has_plans_at_every_scale(scale: str) -> None:
    """A case without changes or faults would prove nothing."""
    for number, case in CASES.items():
        plans = case.plans(scale)  # type: ignore[arg-type]  # parametrized

        assert case.number == number
        assert plans
        assert all(plan.changes > 0 and plan.faults > 0 for plan in plans)


def test_cases_are_chosen_by_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """And a number that is none is refused with those that there are."""
    assert [3, 1] == [case.number for case in arguments(["--cases", "3,1"]).chosen]
    assert sorted(CASES) == sorted(case.number for case in arguments([]).chosen)

    with pytest.raises(SystemExit):
        arguments(["--cases", "999"])

    assert "there are 1, 2, 3" in capsys.readouterr().err
