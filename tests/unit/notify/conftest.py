"""What the tests of NOTIFY share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.notify.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that says 204 until told otherwise."""
    async with receiving() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting step looks at the test's clock often."""
    monkeypatch.setattr("streams.notify.LOOK_SECONDS", 0.005)
