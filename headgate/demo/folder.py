"""The demo's folder: made anew on each run, and left behind with everything that the suggested commands need."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from schemas.config import Config, read_config
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.table import TableSpec

MARKER = ".headgate-demo"
_OURS = ("lake", "log", "tables", "state")


class DemoFolder:
    """Where the demo keeps its database, its lake, its configuration, the specs and the logs of its stages."""

    def __init__(self, path: Path) -> None:
        """Name it; nothing is touched before `claim`."""
        self.path = path.resolve()
        self.config_file = self.path / "headgate.yaml"
        self.database = self.path / "town.db"
        self.lake, self.log, self.tables, self.state = (self.path / name for name in _OURS)

    def claim(self) -> None:
        """Make the folder, or take one that an earlier demo made.

        Raises:
            ConfigurationError: there is something here that no demo made, or nothing can be made here.
        """
        hint = "name another folder with --folder"
        try:
            if self.path.exists() and any(self.path.iterdir()) and not (self.path / MARKER).exists():
                raise ConfigurationError(f"{self.path} is not empty, and no demo made it", hint=hint)
            self.state.mkdir(parents=True, exist_ok=True)
            (self.path / MARKER).touch()
        except OSError as exc:
            raise ConfigurationError(f"{self.path} cannot be used: {exc.strerror}", hint=hint) from exc

    def clear(self) -> None:
        """Remove what an earlier demo left, and only that."""
        for name in _OURS:
            if (self.path / name) != self.state:  # it holds the lock that we have
                shutil.rmtree(self.path / name, ignore_errors=True)
        for file in [*self.path.glob("town.db*"), *self.state.glob("*.json")]:
            file.unlink()
        for folder in (self.lake, self.log):
            folder.mkdir()

    def write_specs(self) -> list[TableSpec]:
        """Copy the example specs beside the configuration, and return them."""
        self.tables.mkdir()
        specs = []
        for name, text in example_specs().items():
            (self.tables / name).write_text(text, "utf-8")
            specs.append(read_document(text, TableSpec, name=name))
        return specs

    def write_config(self, *, bootstrap: str, redis_url: str, receiver_url: str, receiver_secret: str) -> Config:
        """Write the configuration that the stages and the suggested commands read, and return it."""
        document = demo_config(self, bootstrap, redis_url, receiver_url, receiver_secret)
        text = "# Written by `headgate demo`; its broker and Redis live as long as the demo.\n" + yaml.safe_dump(
            document, sort_keys=False
        )
        self.config_file.write_text(text, "utf-8")
        self.config_file.chmod(0o600)
        return read_config(text, name=str(self.config_file))

    @property
    def shown_config(self) -> str:
        """The configuration's path as people type it: relative where that is shorter."""
        relative = os.path.relpath(self.config_file)
        return min(relative, str(self.config_file), key=len)


def demo_config(
    folder: DemoFolder, bootstrap: str, redis_url: str, receiver_url: str, secret: str
) -> Mapping[str, Any]:
    """Return the demo's configuration; paths are absolute, so that it works from any folder."""
    return {
        "kafka": {
            "bootstrap": bootstrap,
            "broker": "embedded",
            "guarantee": "at_least_once",
            "group_protocol": "consumer",
        },
        "redis": {"url": redis_url, "key_prefix": "demo", "buckets": 8},
        "lake": {"warehouse": str(folder.lake), "commit_age_seconds": 5.0},
        "notify": {
            "receiver": {"url": receiver_url, "secret": secret, "allow_private_addresses": True, "start": "earliest"}
        },
        "web": {"state_folder": str(folder.state)},
    }


def example_specs() -> dict[str, str]:
    """Return the text of the example specs by file name."""
    folder = resources.files("headgate.demo") / "tables"
    return {
        file.name: file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
    }


def own_command() -> str:
    """Return how people start this very program: `headgate` where their PATH finds it, else its path."""
    beside = Path(sys.executable).with_name("headgate")
    found = shutil.which("headgate")
    if found is not None and beside.exists() and Path(found).samefile(beside):
        return "headgate"
    if beside.exists():
        return min(os.path.relpath(beside), str(beside), key=len)
    return f"{min(os.path.relpath(sys.executable), sys.executable, key=len)} -m headgate"
