"""A worker whose loop stands still."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, ctypes, time
from streams.standstill import watched

async def main():
    await asyncio.sleep(6.0)
    print("goes on", flush=True)
    {then}

loop = asyncio.new_event_loop()
with watched(loop, seconds=5.0):
    loop.run_until_complete(main())
time.sleep(6.0)
print("watched no more", flush=True)
"""


@pytest.mark.parametrize(
    ("then", "code", "printed"),
    [
        ("time.sleep(60)", 1, "goes on\n"),
        ("ctypes.PyDLL(None).sleep(60)", 1, "goes on\n"),  # which holds the interpreter
        ("pass", 0, "goes on\nwatched no more\n"),
    ],
    ids=["waits", "holds", "goes_on"],
)
def test_a_process_ends_once_its_loop_stands_still_and_says_where(then: str, code: int, printed: str) -> None:
    """One whose loop goes on does not, and nothing is watched when it is through."""
    program = PROGRAM.format(then=then)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)

    assert (code, printed) == (ended.returncode, ended.stdout)
    assert bool(code) == ("Timeout (0:00:05)!" in ended.stderr)
    assert bool(code) == ("in main" in ended.stderr)
