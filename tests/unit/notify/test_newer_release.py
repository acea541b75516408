"""What a newer release put aside for later: NOTIFY does not lose it."""

from __future__ import annotations

import pytest

from connectors.transport.chunk import Assignment, Run
from schemas.errors import VersionRefused
from tests.unit.fakes import Message
from tests.unit.notify.bench import NAMES, Bench


async def test_what_a_newer_release_put_aside_ends_the_worker_and_stays() -> None:
    """In quarantine, or done, the alert would be lost; the release that knows it will send it."""
    run = Run(Assignment("y", NAMES.alerts_retry("ops", 5), 0), [Message(0, b"k", b'{"v": 2, "destination": "ops"}')])
    async with Bench("http://127.0.0.1:9/hook") as bench:
        with pytest.raises(VersionRefused, match="upgrade this one"):
            await bench.step(run)

    assert not run.answered
    assert [] == bench.writer.records
