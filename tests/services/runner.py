"""What runs a service: a process of this machine, a container, or somebody else."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from tests.services import reaper

LOG_TAIL_LINES = 40


class ServiceFailed(Exception):
    """A service did not start, answer or stop; the message says which, and the end of its log."""


class Runner(Protocol):
    """Something that can be started and stopped more than once, keeping its data."""

    def start(self) -> None:
        """Begin; return without waiting until it answers."""

    def stop(self, *, grace_seconds: float) -> None:
        """Ask it to end, and end it by force after `grace_seconds`; nothing of it runs afterwards."""

    def kill(self) -> None:
        """End it at once, as a crash would; nothing of it runs afterwards."""

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""

    def resume(self) -> None:
        """Let it go on after `pause`."""

    def runs(self) -> bool:
        """Whether it has been started and has not ended."""

    def log_tail(self) -> str:
        """The last lines that it wrote."""

    def close(self) -> None:
        """End it and forget its data; the log stays where a person can read it."""


class NativeProcess:
    """A service as a process of this machine, with its children."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        data: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._name = name
        self._command = list(command)
        self.log_path = log_path
        self._environment = {**os.environ, **(environment or {})}
        self._user = user
        self._data = data
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, f"{self._name} was started"
        return self._process.pid

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches the tests and not the service."""
        assert not self.runs(), f"{self._name} does not run yet"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                user=self._user,
                group=_group_of(self._user) if self._user else None,
                extra_groups=[] if self._user else None,
                cwd="/",
                start_new_session=True,
            )
        reaper.watch(self._process.pid)

    def stop(self, *, grace_seconds: float) -> None:
        """Send the stop signal to the first process, and SIGKILL to whatever is left of it after `grace_seconds`."""
        if self._process is None:
            return
        family = self._family()
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended(family)

    def kill(self) -> None:
        """SIGKILL to the process and all its children."""
        if self._process is None:
            return
        family = self._family()
        self._process.kill()
        self._ended(family)

    def pause(self) -> None:
        """SIGSTOP to the process and all its children."""
        for member in self._family():
            member.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to the process and all its children."""
        for member in self._family():
            member.send_signal(signal.SIGCONT)

    def runs(self) -> bool:
        """Whether the first process has not ended."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self) -> str:
        """The last lines of its log, and where the rest is."""
        if not self.log_path.exists():
            return f"{self._name} has written no log"
        lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([*lines, f"(the whole log: {self.log_path})"])

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop(grace_seconds=10)
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)

    def _family(self) -> list[psutil.Process]:
        if not self.runs():
            return []
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def _ended(self, family: list[psutil.Process]) -> None:
        assert self._process is not None, f"{self._name} was started"
        for member in family:
            if member.pid != self._process.pid and member.is_running():
                member.kill()
        self._process.wait(10)
        psutil.wait_procs(family, timeout=10)
        reaper.forget(self._process.pid)
        self._process = None


def _group_of(user: str) -> int:
    """The number of the first group of `user`."""
    return pwd.getpwnam(user).pw_gid
