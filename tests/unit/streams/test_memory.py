"""Memory that a backlog needed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHARED = """
from streams.memory import share_one_allocator
share_one_allocator()
import pyarrow as pa
print(pa.default_memory_pool().backend_name)
"""

OF_A_VERB = """
from headgate.cli import main
main.run(["run", "--stage", "lake", "--config", "there-is-none.yaml"])
import streams.app
import pyarrow as pa
print(pa.default_memory_pool().backend_name)
"""

GIVEN_BACK = """
import os
from pathlib import Path
from streams.memory import give_back, map_large_pieces, share_one_allocator

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

share_one_allocator()
map_large_pieces()
kept = [bytes(1_000) for _ in range(100_000)]
wall = bytes(1_000)  # above what is freed, so that the heap cannot simply shrink
full = resident()
del kept
give_back()
print(full - resident() > 50_000_000)
"""

LEFT_BEHIND = """
import gc
from streams.memory import give_back

give_back()
gc.collect()
gc.disable()
for _ in range(10):
    give_back()
print(gc.collect())
"""

COLLECTED = """
import gc
import weakref
from streams.memory import collect

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

def dead(refs):
    return sum(ref() is None for ref in refs)

gc.disable()
collect(1)
seen = [cycle() for _ in range(10)]
used = Node()
used.itself, old = used, weakref.ref(used)
collect(2)
del used
collect(3)
before = dead([old])
collect(60)
print(dead(seen), before, dead([old]))
"""


def _printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_arrow_uses_the_allocator_of_all() -> None:
    """Two allocators keep free memory twice."""
    assert "system" == _printed(SHARED)


def test_a_worker_says_so_before_it_loads_arrow() -> None:
    """Said later it is not heard: LAKE then held twenty megabytes more, and more after half an hour."""
    assert "system" == _printed(OF_A_VERB)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no malloc_trim, and give back by themselves")
def test_free_memory_goes_back() -> None:
    """Of a hundred megabytes that are freed, most is given back at once."""
    assert "True" == _printed(GIVEN_BACK)


def test_giving_back_leaves_nothing_behind() -> None:
    """It is done every second: what it left to the garbage collector was a quarter of a megabyte a minute."""
    assert "0" == _printed(LEFT_BEHIND)


def test_cycles_are_freed_however_few_they_are() -> None:
    """A calm worker makes too few for the collector to look by itself; what was in use is freed within an hour."""
    assert "10 0 1" == _printed(COLLECTED)
