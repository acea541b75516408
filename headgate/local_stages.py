"""The stages that run on this machine, found by the state files they leave, and what each says of itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from headgate.slot import Slot
from schemas.errors import VersionRefused
from schemas.versions import STATE_FILE
from streams.workers import WorkerState

ANSWER_SECONDS_MAX = 2.0


async def ask_local_stages(folder: Path, *, timeout_seconds: float = ANSWER_SECONDS_MAX) -> list[WorkerState]:
    """Return every stage that has a state file in `folder`, in the order of stage and slot; asked all at once.

    One without an answer is `silent`, where it runs, or `dead`; one whose file this release cannot read, `unreadable`.
    """
    files = _state_files(folder)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_ask(session, folder, state) for state in files)))


def _state_files(folder: Path) -> list[dict[str, Any]]:
    return [found for path in sorted(folder.glob("*.json")) if (found := _read(path)) is not None]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # being written or removed at this moment
    wanted = {"pid", "url", "stage", "instance", "slot"}
    return state if isinstance(state, dict) and wanted <= state.keys() else None


async def _ask(session: aiohttp.ClientSession, folder: Path, state: dict[str, Any]) -> WorkerState:
    identity = {name: state[name] for name in ("stage", "instance", "slot", "pid", "url")}
    try:
        STATE_FILE.check(state.get("v", 1), f"the state file of {state['stage']}-{state['instance']}-{state['slot']}")
    except VersionRefused as refused:
        told = {"kind": refused.kind.value, "message": refused.message, "hint": refused.hint, "at": "its start"}
        return WorkerState(**identity, state="unreadable", status={"last_error": told})
    try:
        async with session.get(f"{state['url']}/status") as response:
            status = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        status = None
    if isinstance(status, dict) and status.get("stage") == state["stage"] and status.get("pid") == state["pid"]:
        return WorkerState(**identity, state=str(status.get("state", "unknown")), status=status)
    slot = Slot(folder, stage=state["stage"], instance=state["instance"], number=state["slot"])
    return WorkerState(**identity, state="silent" if slot.is_held() else "dead")
