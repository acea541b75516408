"""A process that outlives the tests by a moment, to end what they started.

Teardown of fixtures stops services when pytest ends by itself or on Ctrl-C. When pytest is killed, no teardown runs.
So one small process per test process holds the read end of a pipe: when the other end closes, for whatever reason, it
kills the processes that are still on its list and removes their folders.

Lines on the pipe: `+ PID STARTED_AT`, `- PID`, `folder PATH`. The start time keeps it from killing a stranger that got
the id.
"""

import atexit
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

_reaper: subprocess.Popen[str] | None = None


def watch(pid: int) -> None:
    """From here on the process ends when this one does, at the latest."""
    _tell(f"+ {pid} {psutil.Process(pid).create_time()}")


def forget(pid: int) -> None:
    """The process has ended."""
    _tell(f"- {pid}")


def watch_folder(path: Path) -> None:
    """From here on the folder is removed when this process ends, at the latest."""
    _tell(f"folder {path}")


def _tell(line: str) -> None:
    global _reaper  # noqa: PLW0603  one per test process, started by the first service
    if _reaper is None:
        _reaper = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        atexit.register(_dismiss, _reaper)
    assert _reaper.stdin is not None, "the reaper was started with a pipe"
    _reaper.stdin.write(line + "\n")
    _reaper.stdin.flush()


def _dismiss(reaper: subprocess.Popen[str]) -> None:
    assert reaper.stdin is not None, "the reaper was started with a pipe"
    reaper.stdin.close()
    reaper.wait(timeout=30)


def _kill(pid: int, started_at: float) -> None:
    try:
        process = psutil.Process(pid)
        if process.create_time() != started_at:
            return
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at and any(map(_runs, family)):
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        # A dead child of a test process that is itself just ending stays a zombie until that has ended.
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Read lines until the other end closes; then leave nothing behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes: dict[int, float] = {}
    folders: list[Path] = []
    for line in sys.stdin:
        match line.split():
            case ["+", pid, started_at]:
                processes[int(pid)] = float(started_at)
            case ["-", pid]:
                processes.pop(int(pid), None)
            case ["folder", *_]:
                folders.append(Path(line.removeprefix("folder ").rstrip("\n")))
    for pid, started in processes.items():
        _kill(pid, started)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
