"""A worker's slot: `<stage>-<instance>-<n>`, held by one process of a machine at a time through a lock on a file.

The slot gives a worker its stable `transactional.id`; two processes in one slot would fence each other for ever.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import ConfigurationError

SLOTS_MAX = 256


def default_instance() -> str:
    """Return this host's name, in the letters that an id may have."""
    return re.sub(r"[^A-Za-z0-9.]+", ".", socket.gethostname()).strip(".").lower()[:60] or "local"


class Slot:
    """A lock on one slot; held from `take` until `free` or the end of the process, whatever ends it."""

    def __init__(self, folder: Path, *, stage: str, instance: str, number: int) -> None:
        """Name the slot; nothing is locked yet."""
        assert 0 <= number < SLOTS_MAX, f"slot {number} is out of range"
        self.stage, self.instance, self.number = stage, instance, number
        self.path = folder / f"{stage}-{instance}-{number}.lock"
        self._file: int | None = None

    def __str__(self) -> str:
        """Give `<stage>-<instance>-<n>`."""
        return self.path.stem

    def try_take(self) -> bool:
        """Lock the slot; return False where another process holds it.

        Raises:
            ConfigurationError: the folder cannot be made or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise ConfigurationError(
                f"{self.path.parent} cannot be used: {exc.strerror}",
                hint="set web.state_folder to a folder of this machine that you may write",
            ) from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        self._file = file
        return True

    def take(self) -> Self:
        """Lock the slot.

        Raises:
            ConfigurationError: another process holds it; its id is named.
        """
        if not self.try_take():
            raise ConfigurationError(
                f"the slot {self} is held by process {self.holder() or 'unknown'}",
                hint="stop that process, or start this one with another --slot or --instance",
            )
        return self

    def holder(self) -> int | None:
        """Return the process that wrote itself into the lock file last; whether it still runs is another question."""
        try:
            return int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def is_held(self) -> bool:
        """Tell whether some process holds the slot now."""
        if self._file is not None:
            return True
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def free(self) -> None:
        """Let go of the slot; the file stays, since removing it would race with who locks it next."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()


def take_first_free(folder: Path, *, stage: str, instance: str) -> Slot:
    """Return the lowest slot of `stage` that nobody on this machine holds, locked.

    Raises:
        ConfigurationError: all are held.
    """
    for number in range(SLOTS_MAX):
        slot = Slot(folder, stage=stage, instance=instance, number=number)
        if slot.try_take():
            return slot
    raise ConfigurationError(
        f"all {SLOTS_MAX} slots of {stage}-{instance} are held", hint="start this one with another --instance"
    )
