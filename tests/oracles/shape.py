"""What an oracle knows of a table: read from the same YAML that people write, by code of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Shape:
    """A table's name, its source topics, key columns, and the type of each column as the spec writes it."""

    table: str
    topics: tuple[str, ...]
    key: tuple[str, ...]
    columns: dict[str, str]
    document: dict[str, Any]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Shape:
        """Read a spec's document."""
        columns = {
            name: column if isinstance(column, str) else column["type"] for name, column in document["columns"].items()
        }
        return cls(document["table"], tuple(document["topics"]), tuple(document["key"]), columns, document)

    @classmethod
    def read(cls, path: Path) -> Shape:
        """Read a spec's file."""
        return cls.of(yaml.safe_load(path.read_text()))

    def key_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """Return the key of a row of canonical values."""
        return tuple(row[column] for column in self.key)
