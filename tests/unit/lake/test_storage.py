"""Where the lake lies: what happens when several open a new one at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from schemas.config import LakeConfig
from sinks.lake.storage import LakeFileIO, open_catalog


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


def test_keys_that_a_catalogue_lends_come_with_their_token() -> None:
    """Without it S3 refuses them; keys of one's own have none."""
    keys = {"s3.access-key-id": "lent", "s3.secret-access-key": "secret", "s3.region": "eu-west-1"}
    lent = LakeFileIO({**keys, "s3.session-token": "of an hour"}).get_fs("s3")
    own = LakeFileIO(keys).get_fs("s3")

    assert ("lent", "of an hour") == (lent.key, lent.token)
    assert ("lent", None) == (own.key, own.token)
