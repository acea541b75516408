"""Case 15: the disk below the local lake and the temporary files is full: LAKE says so, and goes on with room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import wait_all_go_on
from tests.chaos.stand import Stand
from tests.services import wait_until

SIZE_MB = 192
FILLER, PIECE = "filler", bytes(64 * 1024)
LEFT_BYTES = (0, 64 * 1024)  # nothing at all, or room for a part of a file
SAID_SECONDS = 60.0
FULL_SECONDS = 8.0
SAYS = "No space left on device"


def before(stand: Stand) -> None:
    """Put the lake and the temporary files on a small disk of their own.

    Raises:
        RuntimeError: this user may not mount.
    """
    folder = stand.installation.warehouse
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "chaos", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a small disk needs the right to mount one, run as root: {done.stderr.strip()}")
    stand.closing.callback(_keep, folder)
    (folder / "tmp").mkdir()
    stand.workers.environment = {"TMPDIR": str(folder / "tmp")}


def _keep(folder: Path) -> None:
    """Take the small disk away, and leave what it held where it was."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)
    folder.rmdir()
    copy.rename(folder)


def plant(stand: Stand) -> None:
    """Fill the disk, see that it is said, and make room."""
    for number in range(stand.plan.faults):
        stand.fault("the disk is full")
        _fill(stand.installation.warehouse, LEFT_BYTES[number % len(LEFT_BYTES)])
        _wait_said(stand, lambda said: SAYS in said, "status says that the disk is full")
        stand.wait(FULL_SECONDS)
        stand.troubles += [f"{worker.stage} ended by itself" for worker in stand.workers.all if worker.ended()]
        (stand.installation.warehouse / FILLER).unlink()
        wait_all_go_on(stand, "a full disk")
        _wait_said(stand, lambda said: SAYS not in said, "status no longer says that the disk is full")
        stand.sample()


def _fill(folder: Path, left_bytes: int) -> None:
    with (folder / FILLER).open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(PIECE) == len(PIECE):
                continue
        file.truncate(max(file.tell() - left_bytes, 0))


def _wait_said(stand: Stand, wanted: Callable[[str], bool], what: str) -> None:
    (worker,) = stand.workers.running("lake")

    def state() -> str:
        status = stand.workers.status(worker)
        paused = [row["paused"] for row in status.get("tables", []) if row["paused"]]
        return f"{status.get('state')} {status.get('last_error')} {paused}"

    wait_until(lambda: wanted(state()), what, deadline_seconds=SAID_SECONDS)
    stand.say(f"LAKE: {state()}")


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=4_000, small=30_000, night=200_000)
    faults = figure(scale, tiny=1, small=2, night=20)
    return [Plan("", changes, faults, plant, supervised=False, per_second=1_500.0, before=before)]


CASE = Case(15, "disk full under the local lake and the temporary files", plans)
