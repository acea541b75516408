"""Memory given back: what a backlog needed is not kept for ever.

Measured on LAKE with a backlog of a million events: 566 MB resident with the defaults of glibc and Arrow, about half of
it free memory that neither gave back.
"""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # malloc.h of glibc
_ARENAS = 2
_DECAY_MILLISECONDS = 500  # at 0 LAKE spends a third of its time on pages given back and taken again


def give_memory_back() -> None:
    """Keep malloc to a few arenas, where the C library is one that has arenas; for a process at its start."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_columns_back() -> None:
    """Let Arrow return soon what it freed; for the stages that work on columns."""
    import pyarrow as pa  # noqa: PLC0415 - the other stages do not load it

    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(_DECAY_MILLISECONDS)
    else:
        pa.set_memory_pool(pa.system_memory_pool())
