"""`python -m tests.simulation`: many seeds, how many a minute, and how to replay the first that failed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from multiprocessing import get_context
from typing import Any

from tests.simulation.bugs import BUGS, run_briefly, run_planted
from tests.simulation.run import Outcome
from tests.simulation.worlds import WORLDS

_SHOWN = 5
_BLOCK = 20  # seeds handed to a process at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; 1 if a seed failed."""
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    with redirect_stdout(sys.stderr):  # what the product logs is no part of the summary
        outcomes = _many(asked) if asked.seed is None else [run_planted(asked.seed, _worlds(asked), asked.bug)]
    seconds = time.monotonic() - began
    failed = [outcome for outcome in outcomes if outcome.error]
    if asked.json:
        print(json.dumps(_summary(outcomes, failed, seconds)))
    else:
        _tell(asked, outcomes, failed, seconds)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one, with its trace")
    parser.add_argument("--world", action="append", choices=list(WORLDS), help="only this stage")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--bug", choices=[bug.name for bug in BUGS], help="plant this bug")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _worlds(asked: argparse.Namespace) -> list[str]:
    return asked.world or list(WORLDS)


def _many(asked: argparse.Namespace) -> list[Outcome]:
    seeds = range(asked.first, asked.first + asked.seeds)
    run = partial(run_briefly, worlds=_worlds(asked), name=asked.bug)
    if asked.jobs <= 1:
        return list(map(run, seeds))
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, seeds, chunksize=_BLOCK))


def _summary(outcomes: Sequence[Outcome], failed: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    return {
        "seeds": len(outcomes),
        "first": outcomes[0].seed if outcomes else None,
        "failed": [{"seed": one.seed, "world": one.world, "error": one.error} for one in failed],
        "seconds": round(seconds, 1),
        "seeds_per_minute": round(60 * len(outcomes) / seconds),
        "seeds_per_processor_minute": round(60 * len(outcomes) / sum(one.processor_seconds for one in outcomes)),
        "virtual_hours": round(sum(one.seconds for one in outcomes) / 3600, 1),
        "steps": sum(one.steps for one in outcomes),
        "faults": sum(len(one.happened) for one in outcomes),
    }


def _tell(asked: argparse.Namespace, outcomes: Sequence[Outcome], failed: Sequence[Outcome], seconds: float) -> None:
    if asked.seed is not None:
        print("\n".join(outcomes[0].trace))
    for one in failed[:_SHOWN]:
        worlds = "".join(f" --world {name}" for name in asked.world or ())
        bug = f" --bug {asked.bug!r}" if asked.bug else ""
        print(f"seed {one.seed} ({one.world}): {one.error}")
        print(f"  replay: python -m tests.simulation --seed {one.seed}{worlds}{bug}")
    said = _summary(outcomes, failed, seconds)
    print(
        f"{said['seeds']} seeds, {len(failed)} failed, {said['faults']} faults, {said['virtual_hours']} hours in "
        f"{said['seconds']} s: {said['seeds_per_minute']} seeds a minute, "
        f"{said['seeds_per_processor_minute']} a minute of one processor"
    )


if __name__ == "__main__":
    sys.exit(main())
