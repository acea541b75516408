"""Faults under load, and whether everything came out right: `python -m tests.chaos`, or `make chaos`.

A verdict line per run; a run that fails names its seed, the first differences, and where its history is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tests.chaos.cases import CASES
from tests.chaos.frame import Result
from tests.chaos.lanes import run_cases


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    listed = "\n".join(f"  {number:>2}  {case.title}" for number, case in sorted(CASES.items()))
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=f"{__doc__}\ncases:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--cases", default="", help="numbers with commas; all that are built if left out")
    parser.add_argument("--scale", choices=["tiny", "small", "night"], default="small")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--lanes", type=int, default=1, help="so many cases side by side, each with its own services")
    parser.add_argument("--json", action="store_true", help="a JSON document per run instead of lines")
    parser.add_argument("--verdicts", action="store_true", help="also what each oracle says")
    kept = Path(tempfile.gettempdir()) / "headgate-chaos"
    parser.add_argument("--keep", type=Path, default=kept, help="where histories of failures go (%(default)s)")
    options = parser.parse_args(given)
    try:
        options.chosen = [CASES[int(number)] for number in options.cases.split(",") if number] or list(CASES.values())
    except (KeyError, ValueError):
        parser.error(f"--cases {options.cases}: there are {', '.join(map(str, sorted(CASES)))}")
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 where all holds, 1 where something does not, 130 on Ctrl-C."""
    options, began = arguments(given), time.monotonic()
    results: list[Result] = []
    out = sys.stdout  # what proofs and installations print on the way is no answer

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as on Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has put it into the background
    try:
        for result in run_cases(
            options.chosen, options.scale, options.seed, lanes=options.lanes, kept=options.keep, say=say
        ):
            results.append(result)
            show(result, out, as_json=options.json, verdicts=options.verdicts)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is ended", file=sys.stderr)
        return 130
    failed = sum(not result.holds for result in results)
    if not options.json:
        print(f"{len(results)} runs, {failed} failed, {time.monotonic() - began:.0f} s, seed {options.seed}")
    return int(failed > 0)


def show(result: Result, out: TextIO, *, as_json: bool, verdicts: bool) -> None:
    """Print what came of one run."""
    if as_json:
        print(json.dumps(result.document(), default=str), file=out, flush=True)
        return
    print(result.line(), file=out, flush=True)
    if verdicts:
        for verdict in result.verdicts:
            print(f"  {verdict}".replace("\n", "\n  "), file=out, flush=True)


if __name__ == "__main__":
    sys.exit(main())
