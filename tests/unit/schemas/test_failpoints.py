"""Failpoints are off unless asked for; each name stands in one place of the product, each action does what it says."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError, Unavailable
from schemas.failpoints import FAILPOINTS, arm, failpoint

ROOT = Path(__file__).parents[3]
ROOMS = ("schemas", "connectors", "sinks", "streams", "headgate")


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    arm("")


def called() -> Counter[str]:
    """Count the places of the product that call each failpoint."""
    found: Counter[str] = Counter()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}: a failpoint is called by its name"
                found[str(node.args[0].value)] += 1
    return found


def test_each_failpoint_stands_in_one_place_of_the_product() -> None:
    """A name without a place would be a fault that nobody can plant, a place without a name one that nobody knows."""
    assert dict.fromkeys(FAILPOINTS, 1) == called()


def test_what_is_not_armed_does_nothing() -> None:
    """Neither before anything was armed, nor at another name's turn, nor after all was turned off."""
    for name in FAILPOINTS:
        failpoint(name)
    arm("lake.after_write=raise@*")
    failpoint("lake.before_write")
    arm("")
    failpoint("lake.after_write")


def test_a_failpoint_fails_at_the_hit_that_was_asked_for_and_only_there() -> None:
    """So that a test can plant it in the middle of a run."""
    arm("notify.before_done=raise@2; lake.after_write=raise@*")
    failed = []
    for hit in (1, 2, 3):
        try:
            failpoint("notify.before_done")
        except Unavailable:
            failed.append(hit)

    assert [2] == failed
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"lake\.after_write"):
            failpoint("lake.after_write")


@pytest.mark.parametrize(
    "text",
    [
        "lake.nowhere=kill",
        "lake.after_write",
        "lake.after_write=explode",
        "lake.after_write=kill@0",
        "lake.after_write=kill@x",
        "lake.after_write=sleep:long",
        "lake.after_write=sleep:-1",
        "lake.after_write=sleep:1e9",
        "=kill",
    ],
)
def test_what_is_no_failpoint_is_refused_and_nothing_is_armed(text: str) -> None:
    """A test that thinks it plants a fault and does not would prove nothing."""
    with pytest.raises(ConfigurationError, match="HEADGATE_FAILPOINTS") as refused:
        arm(text)

    assert refused.value.hint
    failpoint("lake.after_write")


def test_a_process_is_killed_at_its_failpoint() -> None:
    """As by a crash: nothing of it runs afterwards, not even its cleaning up."""
    code = (
        "from schemas.failpoints import arm, failpoint\n"
        "arm('lake.after_write=kill@2')\n"
        "try:\n"
        "    failpoint('lake.after_write'); print('once', flush=True)\n"
        "    failpoint('lake.after_write')\n"
        "finally:\n"
        "    print('never')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    assert (-signal.SIGKILL, "once\n") == (run.returncode, run.stdout)
