"""`headgate check` says of a destination what NOTIFY would say of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.cli.check import checks, try_one
from schemas.config import Config
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
