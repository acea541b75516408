"""Memory given back: what a backlog needed is not kept for ever, and no more of it is taken than is needed.

Measured on LAKE with a backlog of a million events, resident: 566 MB with the defaults of glibc and Arrow, half of it
free memory that neither gave back; 400 MB with three allocators side by side (malloc and one for each half of Arrow);
300 MB with one for all of them, trimmed every second; 280 MB where its large pieces are mapped apart.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

TRIM_SECONDS = 1.0
COLLECT_SECONDS = 60.0
_WHOLE_EVERY = 60

_ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"  # read when Arrow is loaded; `set_memory_pool` would reach only Python's half
_M_ARENA_MAX, _ARENAS = -8, 2  # malloc.h of glibc
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 512 * 1024


def share_one_allocator() -> None:
    """Let Arrow use malloc, and malloc few arenas; for a process at its start, before anything imports Arrow.

    Arrow looks for its allocator once, while it is loaded; what is said later is not heard.
    """
    os.environ.setdefault(_ARROW_POOL, "system")
    _malloc_option(_M_ARENA_MAX, _ARENAS)


def map_large_pieces() -> None:
    """Let malloc map each large piece by itself, so that it goes back when it is freed; costs its pages each time."""
    _malloc_option(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Return free memory to the system, where the C library can; takes milliseconds, in which other threads go on."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def collect(number: int) -> None:
    """Free cycles among what was made since the last call, and each hour, by the number of the call, all there are.

    The collector counts objects, and to 50,000 of them a calm worker never comes: what clients and libraries leave in
    cycles (LAKE's, two for each commit and more) is memory that rises meanwhile. Of those that were in use at a call,
    a few in a minute, only the hourly one knows. Each takes milliseconds: what a worker began with is not looked at.
    """
    gc.collect(2 if number % _WHOLE_EVERY == 0 else 1)


def _malloc_option(name: int, value: int) -> None:
    option = _of_libc("mallopt")
    if option is not None:
        option(name, value)


@cache
def _of_libc(name: str) -> Callable[..., Any] | None:
    """Return a function of glibc, None elsewhere: musl has none of these, and needs none.

    Once for each name: a `CDLL` makes a class of its own for its functions, which only the garbage collector frees.
    """
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
