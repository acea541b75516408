"""`headgate check` says of a destination what NOTIFY would say of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.schema import Schema

from headgate.cli.check import checks, try_one
from schemas.config import Config, LakeConfig
from sinks.lake.storage import list_tables, open_catalog
from tests.unit.notify.receiver import SECRET


def _checked(**destination: Any) -> tuple[bool, str]:
    config = Config.model_validate({"notify": {"ops": {"secret": SECRET, **destination}}})
    result = try_one(*next((what, look) for what, look in checks(config) if what == "notify.ops"))
    return result.ok, result.seen


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ({"url": "ftp://127.0.0.1/hook"}, "notify.ops.url is no http or https address"),
        ({"url": "127.0.0.1/hook"}, "notify.ops.url is no http or https address"),
        ({"url": "http://127.0.0.1/h", "secret": "whsec_?"}, "notify.ops.secret is not what Standard Webhooks wants"),
        ({"url": "http://127.0.0.1/hook"}, "the destination's address is not a public one"),
        ({"url": "http://a..b/hook"}, "its name is not known to DNS"),
        ({"url": "http://localhost/hook"}, "the destination's address is not a public one"),
    ],
)
def test_what_no_alert_could_be_sent_to_fails(destination: dict[str, Any], said: str) -> None:
    """The worker of that destination would not start, or send nothing."""
    assert (False, said) == _checked(**destination)


def _lake(folder: Path) -> tuple[bool, str]:
    config = Config.model_validate({"lake": {"warehouse": str(folder)}})
    result = try_one(*next((what, look) for what, look in checks(config) if what == "lake"))
    return result.ok, result.seen


def test_a_lake_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """Whoever checks in the wrong folder finds nothing new there."""
    folder = tmp_path / "a" / "lake"

    assert (True, f"{folder} is not there yet, and can be made") == _lake(folder)
    assert [] == list(tmp_path.iterdir())


def test_a_lake_where_none_can_be_made_fails(tmp_path: Path) -> None:
    """A file stands in its way."""
    (tmp_path / "a").touch()

    ok, seen = _lake(tmp_path / "a" / "lake")

    assert not ok
    assert "is no folder that this user may write" in seen


def test_a_lake_that_is_there_is_counted_and_left_as_it_is(tmp_path: Path) -> None:
    """One just begun has a catalogue and no table; another namespace is not made by looking."""
    config = LakeConfig(warehouse=str(tmp_path))
    open_catalog(config).create_table((config.namespace, "patients"), schema=Schema())

    assert (True, f"{tmp_path}, 1 tables") == _lake(tmp_path)
    assert [] == list_tables(config.model_copy(update={"namespace": "other"}))
    assert [(config.namespace,)] == open_catalog(config).list_namespaces()


def test_an_address_inside_is_right_where_it_is_meant() -> None:
    """Nothing is sent to find out."""
    found = _checked(url="http://127.0.0.1:9/hook", allow_private_addresses=True)

    assert (True, "resolves to 1 addresses; nothing was sent") == found


def test_a_name_that_nobody_knows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS is asked, and its answer is what is said."""

    async def unknown(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", unknown)

    assert (False, "its name is not known to DNS") == _checked(url="https://receiver.example/hook")
