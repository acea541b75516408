"""Which signals stop `headgate run`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from headgate.cli.run import _until_signal


class Boss:
    """A supervisor that hangs up on itself, then asks itself to end, and counts what it hears."""

    def __init__(self) -> None:
        self.stops = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Count it; SIGTERM comes last."""
        self.stops += 1
        self._stopped.set()

    async def run(self) -> int:
        """Return once it was asked to end."""
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        await self._stopped.wait()
        await asyncio.sleep(0)
        return 0


@pytest.fixture
def hangup_ignored() -> Iterator[None]:
    """As `nohup` leaves it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_a_closed_terminal_stops_all() -> None:
    """As SIGTERM does."""
    boss = Boss()
    await _until_signal(boss)

    assert 2 == boss.stops


@pytest.mark.usefixtures("hangup_ignored")
async def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    """Who starts it so means it."""
    boss = Boss()
    await _until_signal(boss)

    assert 1 == boss.stops
