"""The simulation itself: a few seeds are well, the same seed is the same run, and planted bugs are found."""

from __future__ import annotations

import json

import pytest

from tests.simulation.__main__ import main
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.run import run_seed
from tests.simulation.worlds import WORLDS

SEEDS = 12


@pytest.mark.parametrize("world", list(WORLDS))
def test_some_seeds_of_each_world_are_well(world: str) -> None:
    """Nothing lost, nothing doubled, no offset above what is durable; `python -m tests.simulation` runs thousands."""
    outcomes = [run_seed(seed, [world]) for seed in range(SEEDS)]

    assert [] == [(one.seed, one.error) for one in outcomes if one.error]
    assert sum(len(one.happened) for one in outcomes) > 2 * SEEDS, "faults came"


@pytest.mark.parametrize("world", list(WORLDS))
def test_a_seed_is_the_same_run_each_time(world: str) -> None:
    """What failed once can be looked at as often as it takes."""
    once, again = run_seed(7, [world]), run_seed(7, [world])

    assert once.trace == again.trace
    assert once.digest == again.digest


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    """Within so many seeds as it names."""
    found = bug.hunt()

    assert found is not None, f"not within {bug.seeds} seeds"


def test_a_seed_that_fails_is_printed_with_how_to_replay_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The command that is printed shows the same failure."""
    planted = ["--world", "lake", "--bug", "LAKE says done when it has only copied"]

    assert main(["--seeds", "2", "--jobs", "1", *planted]) == 1
    said = capsys.readouterr().out
    assert "replay: python -m tests.simulation --seed 0 --world lake --bug" in said
    assert main(["--seed", "0", *planted]) == 1
    error = next(line for line in said.splitlines() if line.startswith("seed 0"))
    assert error in capsys.readouterr().out


def test_the_summary_can_be_read_by_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """How many seeds, how many failed, how fast."""
    assert main(["--seeds", "3", "--jobs", "1", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (3, []) == (said["seeds"], said["failed"])
    assert said["seeds_per_minute"] > 0
