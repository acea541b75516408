"""Where an assignment begins, and what is missing of its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from connectors.transport.chunk import Assignment
from connectors.transport.history import Key
from connectors.transport.lane import LaneSettings
from connectors.transport.resolve import Committed, Resolver
from connectors.transport.settings import ConsumerSettings
from schemas.errors import SourceMoved
from tests.unit.transport.fakes import Events, assignment


class Broker:
    """Knows one topic."""

    def __init__(self, offset: int, low: int, high: int) -> None:
        self._offset, self._log = offset, (low, high)

    async def committed(self, group: str, keys: Iterable[Key]) -> Mapping[Key, Committed]:
        assert group == "g"
        return {key: Committed(self._offset, "v1 id 0") for key in keys}

    async def ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(topics, "id")

    async def watermarks(self, keys: Iterable[Key]) -> Mapping[Key, tuple[int, int]]:
        return dict.fromkeys(keys, self._log)


@pytest.mark.parametrize(
    ("transactional", "offset", "low", "high", "expected"),
    [
        (True, 100, 101, 101, 101),
        (True, 100, 101, 103, None),  # the marker may be that of a record which is gone
        (True, 100, 102, 102, None),  # a record and its marker
        (False, 100, 101, 101, None),
        (True, 100, 0, 101, 100),
    ],
)
async def test_a_quiet_topic_whose_last_marker_is_gone_lacks_nothing(
    *, transactional: bool, offset: int, low: int, high: int, expected: int | None
) -> None:
    """Retention takes the marker with the records before it, and nobody has an offset behind it."""
    found: dict[Assignment, int | SourceMoved] = {}

    async def apply(those: Mapping[Assignment, int | SourceMoved]) -> None:
        found.update(those)

    async def nothing(those: Mapping[Assignment, int | SourceMoved]) -> None:
        assert those

    settings = ConsumerSettings(bootstrap="b", group="g")
    resolver = Resolver(settings, Broker(offset, low, high), nothing, apply, Events())
    await resolver.resolve("main", LaneSettings(transactional=transactional), [mine := assignment()])

    assert expected == (None if isinstance(found[mine], SourceMoved) else found[mine])
