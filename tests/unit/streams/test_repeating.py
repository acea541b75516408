"""Work that is done again and again beside a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from schemas.errors import SinkUnavailable
from streams import repeating


class Work:
    """Fails as told, one time after the other, and then says that all is over."""

    def __init__(self, *fails: type[Exception] | None) -> None:
        """Take what becomes of each time."""
        self._fails: Iterator[type[Exception] | None] = iter(fails)
        self.over = asyncio.Event()

    async def once(self) -> None:
        """Do it."""
        for fails in self._fails:
            if fails is not None:
                raise fails("no")
            return
        self.over.set()


async def _said(work: Work) -> list[str]:
    """Return the errors that are logged until the work is over."""
    with capture_logs() as logged:
        task = asyncio.create_task(repeating.again_and_again(work.once, 0.001))
        await asyncio.wait_for(work.over.wait(), 30)
        task.cancel()
    return [line["error"] for line in logged if line["event"] == "not_done"]


async def test_trouble_is_said_once_for_as_long_as_it_goes_on() -> None:
    """What is another trouble, or comes again after the work was done, is said again; the work goes on."""
    lost = SinkUnavailable

    assert ["SinkUnavailable", "ValueError", "SinkUnavailable"] == await _said(
        Work(None, lost, lost, lost, ValueError, ValueError, None, lost, lost, None)
    )


async def test_after_a_failure_it_is_done_again_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However rarely it is done otherwise."""
    slept, sleep = [], asyncio.sleep

    async def briefly(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr("streams.repeating.asyncio.sleep", briefly)
    work = Work(None, SinkUnavailable, None)
    task = asyncio.create_task(repeating.again_and_again(work.once, 60.0))
    await asyncio.wait_for(work.over.wait(), 30)
    task.cancel()

    assert [60.0, 60.0, repeating.AGAIN_SECONDS, 60.0] == slept[:4]
