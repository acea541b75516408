"""What one stage process tells over HTTP, on loopback: `/healthz`, `/readyz`, `/metrics`, `/status` and what is added.

While the server runs, a file in the state folder names its address, so that `headgate status` finds every local stage.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemas.config import WebConfig
from schemas.errors import ConfigurationError
from schemas.versions import STATE_FILE
from streams.metrics import stage_registry

READY_SECONDS_MAX = 3.0
_BODY_BYTES_MAX = 1024  # nobody has a reason to send us a body

Ready = Callable[[], Awaitable[str | None]]


async def _always_ready() -> None:
    """Say that nothing is missing."""


class StageServer:
    """The web server of one stage process.

    `snapshot` gives the status (docs/operate.md); `alive` tells whether the thread that polls Kafka still turns;
    `ready` returns None where partitions are assigned and sinks answer, else what is missing; `more` is served beside.
    """

    def __init__(
        self,
        config: WebConfig,
        *,
        stage: str,
        instance: str,
        slot: int,
        snapshot: Callable[[], Mapping[str, Any]],
        alive: Callable[[], bool] = lambda: True,
        ready: Ready = _always_ready,
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        """Keep what to ask; nothing listens before `start`."""
        self.state_file = Path(config.state_folder) / f"{stage}-{instance}-{slot}.json"
        self.url = ""
        self._config = config
        self._identity = {"stage": stage, "instance": instance, "slot": slot}
        self._snapshot, self._alive, self._ready = snapshot, alive, ready
        self._registry = stage_registry(snapshot)
        self._more = more
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, write the state file, and return the address.

        Raises:
            ConfigurationError: the port is taken, or the host is not one of this machine.
        """
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                *self._more,
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        except OSError as exc:
            await self.stop()
            raise ConfigurationError(
                f"web: nothing can listen on {self._config.host}:{self._config.port}: {exc.strerror}",
                hint="port 0 takes a free one; several workers of one machine need it",
            ) from exc
        self.url = _url(self._runner.addresses[0])
        write_whole(
            self.state_file, json.dumps({"v": STATE_FILE.writes, "pid": os.getpid(), "url": self.url, **self._identity})
        )
        return self.url

    async def stop(self) -> None:
        """Stop listening and remove the state file; repeatable."""
        if self.url:
            self.state_file.unlink(missing_ok=True)
            self.url = ""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, request: web.Request) -> web.Response:
        alive = self._alive()
        return web.Response(status=200 if alive else 503, text="ok\n" if alive else "the poll thread stands still\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                missing = await self._ready()
        except TimeoutError:
            missing = f"a sink did not answer within {READY_SECONDS_MAX:g} seconds"
        return web.Response(status=503 if missing else 200, text=f"{missing or 'ok'}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self.document())

    def document(self) -> dict[str, Any]:
        """Return the status with who it is."""
        return {**self._snapshot(), **self._identity, "pid": os.getpid()}


def _url(address: tuple[Any, ...]) -> str:
    host, port = address[0], address[1]
    if host in {"0.0.0.0", "::"}:  # noqa: S104  how a server that listens everywhere is reached from its own machine
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104  the same
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_whole(path: Path, text: str) -> None:
    """Write a file that a reader sees whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)
