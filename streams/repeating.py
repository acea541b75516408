"""Work that a stage does again and again beside its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

AGAIN_SECONDS = 1.0  # after a failure

log = structlog.get_logger(__name__)


async def again_and_again(work: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    """Do the work every so often, until this is cancelled; after a failure sooner: what else did the sink lose?

    Whatever fails is left to the next time, for the stage's own steps meet the same trouble and say so. It is logged
    once for as long as the same goes on: an outage is a line, not one for each second of it.
    """
    seconds, said = every_seconds, ""
    while True:
        await asyncio.sleep(seconds)
        error = await _failure(work)
        if error not in {"", said}:
            log.warning("not_done", work=work.__qualname__, error=error)
        seconds, said = (min(every_seconds, AGAIN_SECONDS) if error else every_seconds), error


async def _failure(work: Callable[[], Awaitable[None]]) -> str:
    try:
        await work()
    except Exception as exc:  # noqa: BLE001 - the stage's own step meets it too, and decides; here it is only said
        return type(exc).__name__
    return ""
