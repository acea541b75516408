"""How a table lies in the lake, as its spec says it."""

from __future__ import annotations

import functools
import zoneinfo
from typing import Literal

from pydantic import field_validator

from schemas.document import Strict
from schemas.mistakes import nearest


@functools.cache
def _time_zones() -> set[str]:
    return zoneinfo.available_timezones()  # opens hundreds of files, 16 ms: once for all tables


class LakePolicy(Strict):
    """How a table lies in the lake; dates are computed in `time_zone`."""

    enabled: bool = True
    time_zone: str = "UTC"
    partition_by: list[Literal["commit_date"]] = ["commit_date"]

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in _time_zones():
            near = nearest(value, sorted(_time_zones()), cutoff=0.6)
            hint = near if near.startswith("did you") else "write one such as Europe/Berlin"
            raise ValueError(f"{value!r} is no time zone; {hint}")
        return value
