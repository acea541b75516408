"""Start a program that the kernel ends when its parent ends, however that happens: `tether.py PARENT COMMAND…`.

Run as a script, so it imports nothing of ours. Elsewhere than on Linux the program simply starts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def become(parent: int, command: list[str]) -> None:
    """Turn this process into `command`."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before we asked
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
