"""How children die with their supervisor, however it ends: a pipe that only the supervisor can hold open."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping

VARIABLE = "HEADGATE_LEASH"
STOP_SECONDS = 10.0


class Leash:
    """The supervisor's side: as long as it lives and `close` was not called, children that follow it go on."""

    def __init__(self) -> None:
        """Open the pipe; its writing end is inherited by nobody."""
        self.read_end, self._write_end = os.pipe()
        os.set_inheritable(self.read_end, True)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` with what a child needs to find the leash."""
        return {**base, VARIABLE: str(self.read_end)}

    def close(self) -> None:
        """Let go: children that still run end."""
        os.close(self._write_end)
        os.close(self.read_end)


def follow(environment: Mapping[str, str], *, stop_seconds: float = STOP_SECONDS) -> bool:
    """End this process when its supervisor is gone: SIGTERM first, by force after `stop_seconds`.

    Returns whether there is a supervisor to follow.
    """
    if (number := environment.get(VARIABLE)) is None:
        return False
    descriptor = int(number)
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait, args=(descriptor, stop_seconds), name="leash", daemon=True).start()
    return True


def _wait(descriptor: int, stop_seconds: float) -> None:
    while os.read(descriptor, 1):
        pass
    sys.stderr.write("error: the supervisor is gone, stopping\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_seconds)
    os._exit(1)
