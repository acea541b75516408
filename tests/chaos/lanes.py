"""Cases side by side: each lane is a process with services of its own, and takes the next case when it is free."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.chaos.cases import CASES
from tests.chaos.frame import Frame, Result
from tests.chaos.plan import Case, Scale

Say = Callable[[str], None]
_POLL_SECONDS = 1.0
_END_SECONDS = 60.0


@contextmanager
def opened(kept: Path, say: Say) -> Iterator[Frame]:
    """Have a frame with services of its own; what is printed meanwhile is no answer and goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="headgate-chaos-") as name, redirect_stdout(sys.stderr):
        frame = Frame(Path(name), kept, say)
        with frame.open():
            yield frame


def run_cases(cases: Sequence[Case], scale: Scale, seed: int, *, lanes: int, kept: Path, say: Say) -> Iterator[Result]:
    """Yield what came of each run, as it comes. Cases that ask how long something took run alone, before the others.

    Raises:
        RuntimeError: a lane ended though cases were left.
    """
    alone = [case for case in cases if case.alone or lanes == 1]
    beside = [case for case in cases if case not in alone]
    if alone:
        with opened(kept, say) as frame:
            for case in alone:
                yield from _run(frame, case, scale, seed)
    if beside:
        yield from _side_by_side(beside, scale, seed, lanes=min(lanes, len(beside)), kept=kept)


def _run(frame: Frame, case: Case, scale: Scale, seed: int) -> Iterator[Result]:
    frame.say(f"case {case.number}: {case.title} ({scale}, seed {seed})")
    yield from frame.run(case, scale, seed)


def _side_by_side(cases: Sequence[Case], scale: Scale, seed: int, *, lanes: int, kept: Path) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    numbers, answers = context.Queue(), context.Queue()
    for case in sorted(cases, key=lambda case: -case.minutes):  # the longest first: none of them is left for the end
        numbers.put(case.number)
    for _ in range(lanes):
        numbers.put(None)
    work = [
        context.Process(target=_lane, args=(numbers, answers, scale, seed, kept), name=f"lane {number}")
        for number in range(lanes)
    ]
    for process in work:
        process.start()
    try:
        yield from _gathered(work, answers)
    except BaseException:
        for process in work:  # Ctrl-C has reached them too, where it came from a terminal
            process.terminate()
        raise
    finally:
        for process in work:
            process.join(_END_SECONDS)


def _gathered(work: Sequence[BaseProcess], answers: Any) -> Iterator[Result]:
    left = len(work)
    while left:
        try:
            found = answers.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if gone := [process for process in work if process.exitcode]:
                raise RuntimeError(f"{gone[0].name} ended with {gone[0].exitcode}") from None
            continue
        if found is None:
            left -= 1
        else:
            yield found


def _lane(numbers: Any, answers: Any, scale: Scale, seed: int, kept: Path) -> None:
    """Run cases until there are no more; on Ctrl-C, which reaches every lane, or without a parent end all of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_follow, name="follows its parent", daemon=True).start()
    try:
        with opened(kept, _say) as frame:
            while (number := numbers.get()) is not None:
                for result in _run(frame, CASES[number], scale, seed):
                    answers.put(result)
    except KeyboardInterrupt:
        return
    answers.put(None)


def _follow() -> None:
    """End this process when its parent has ended, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a lane is a child"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    print(f"          {text}", file=sys.stderr, flush=True)
