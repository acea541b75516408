"""Where the lake lies: what happens when several open a new one at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from schemas.config import LakeConfig
from sinks.lake.storage import open_catalog


def test_a_namespace_that_another_makes_at_the_same_moment_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the write: a SQL catalogue refuses the second row with an error of the database."""
    config = LakeConfig(warehouse=str(tmp_path))
    open_catalog(config)
    looks: list[bool] = []
    asked = SqlCatalog.namespace_exists

    def too_early(self: SqlCatalog, name: str) -> bool:
        looks.append(asked(self, name))
        return looks[-1] and len(looks) > 1

    monkeypatch.setattr(SqlCatalog, "namespace_exists", too_early)

    assert open_catalog(config).namespace_exists(config.namespace)
    assert [True, True, True] == looks, "at first it was not there, then the other's"
