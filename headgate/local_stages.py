"""The stages that run on this machine, found by the state files they leave, and what each says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from headgate.slot import Slot

ANSWER_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class LocalStage:
    """One stage process: what it answered, or why there is no answer (`silent`: it runs, `dead`: it does not)."""

    stage: str
    instance: str
    slot: int
    pid: int
    url: str
    state: str
    status: dict[str, Any]


async def ask_local_stages(folder: Path, *, timeout_seconds: float = ANSWER_SECONDS_MAX) -> list[LocalStage]:
    """Return every stage that has a state file in `folder`, in the order of stage and slot; asked all at once."""
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


async def _ask(session: aiohttp.ClientSession, folder: Path, state: dict[str, Any]) -> LocalStage:
    identity = {name: state[name] for name in ("stage", "instance", "slot", "pid", "url")}
    try:
        async with session.get(f"{state['url']}/status") as response:
            status = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        status = None
    if isinstance(status, dict) and status.get("stage") == state["stage"] and status.get("pid") == state["pid"]:
        return LocalStage(**identity, state=str(status.get("state", "unknown")), status=status)
    slot = Slot(folder, stage=state["stage"], instance=state["instance"], number=state["slot"])
    return LocalStage(**identity, state="silent" if slot.is_held() else "dead", status={})


def all_answer(stages: Sequence[LocalStage]) -> bool:
    """Tell whether there is a stage and each one answered."""
    return bool(stages) and all(stage.status for stage in stages)
