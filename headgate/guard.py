"""The rooms have plain names (`schemas`, `connectors`, `sinks`, `streams`): find foreign packages that shadow one.

Imports nothing but the standard library, since any other import may already meet the foreigner.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("schemas", "connectors", "sinks", "streams")


@dataclass(frozen=True, slots=True)
class Shadow:
    """A room that Python would take from `found` instead of `wanted`; `found` is None where there is none."""

    room: str
    wanted: Path
    found: Path | None

    def __str__(self) -> str:
        """Say which path shadows the room."""
        if self.found is None:
            return f"the package {self.room!r} is not there, it should lie at {self.wanted}"
        return f"the package {self.room!r} would come from {self.found}, not from {self.wanted}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.found is None:
            return "the installation is incomplete: install headgate again"
        return (
            f"start headgate from another folder, take {self.found.parent} off PYTHONPATH, "
            "uninstall the package that owns it, or give headgate a virtual environment of its own"
        )


def find_shadows(home: Path | None = None) -> list[Shadow]:
    """Return the rooms that do not lie beside this package; `home` is the folder that holds them all."""
    home = (home or Path(__file__).parents[1]).resolve()
    return [
        Shadow(room, home / room, found)
        for room in ROOMS
        if (found := _folder(room)) is None or found.resolve() != home / room
    ]


def _folder(room: str) -> Path | None:
    """Return where Python takes a package or module from, loaded or not."""
    loaded = sys.modules.get(room)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(room)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
