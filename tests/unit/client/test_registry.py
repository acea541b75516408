"""The registry as subscribers ask it: its settings, who asks, several addresses, and answers that are none."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.client import ConfigurationError, RegistryUnavailable, registry
from headgate.client.registry import OF_SOURCES, Registry, Settings, settings_of
from headgate.client.values import DoesNotFit
from schemas.config import RegistryConfig
from tests.services.certificates import Authority
from tests.services.registry import Manner, SchemaRegistry
from tests.services.waiting import free_port

TEXT = '{"type": "record", "name": "R", "fields": []}'
CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two rounds."""
    monkeypatch.setattr(registry, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    """A registry with one schema, of number 7."""
    with SchemaRegistry() as running:
        running.register("t-value", TEXT, number=7)
        yield running


def client(server: SchemaRegistry, **settings: Any) -> Registry:
    """Return a client of a server that waits long: it asks once where its machine stands still for a moment."""
    return Registry({"urls": [server.url], "timeout_seconds": 20.0, **settings})


def test_an_address_alone_is_enough(server: SchemaRegistry) -> None:
    """With a path, too, where the API has one, and whatever it ends with."""
    assert TEXT == Registry(server.url).schema(7)
    assert TEXT == Registry(f"{server.url}/").schema(7)
    assert {"/schemas/ids/7"} == {asked.path for asked in server.asked}
    with pytest.raises(RegistryUnavailable):
        Registry(f"{server.url}/apis/ccompat/v7/").schema(7)
    assert "/apis/ccompat/v7/schemas/ids/7" == server.asked[-1].path


def test_the_settings_are_those_of_the_configuration(server: SchemaRegistry) -> None:
    """All of them can be handed over as they are; those of sources' records mean nothing here."""
    config = RegistryConfig(urls=[server.url])

    assert TEXT == Registry(config.model_dump()).schema(7)
    assert RegistryConfig.model_fields.keys() == {*Settings.__struct_fields__, *OF_SOURCES}


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"username": "ada", "password": "secret"}, f"Basic {base64.b64encode(b'ada:secret').decode()}"),
        ({"token": "abc"}, "Bearer abc"),
    ],
)
def test_who_asks_is_said(server: SchemaRegistry, settings: dict[str, str], header: str) -> None:
    """A registry that does not know it turns one away, once: the same password again would lock somebody out."""
    server.authorization = header
    assert TEXT == client(server, **settings).schema(7)
    before = len(server.asked)

    with pytest.raises(RegistryUnavailable, match="answers 401") as caught:
        client(server, username="eve", password=CANARY).schema(7)

    assert 1 == len(server.asked) - before
    assert CANARY not in str(caught.value)


def test_the_first_address_that_answers_is_asked(server: SchemaRegistry) -> None:
    """One of them may be away."""
    away = f"http://127.0.0.1:{free_port()}"

    assert TEXT == client(server, urls=[away, server.url]).schema(7)


@pytest.mark.parametrize("manner", ["error", "busy", "html"])
def test_what_is_no_answer_of_a_registry_says_nothing_of_an_id(server: SchemaRegistry, manner: Manner) -> None:
    """Trouble of its own, or another server at its address; it is asked again."""
    server.manner = manner
    with pytest.raises(RegistryUnavailable, match="and not as a registry does"):
        client(server).schema(7)

    assert 2 == len(server.asked)


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(server: SchemaRegistry) -> None:
    """Its time is a setting."""
    server.manner, server.slow_seconds = "slow", 5.0

    with pytest.raises(RegistryUnavailable, match="TimeoutError"):
        client(server, timeout_seconds=0.1).schema(7)


def test_an_id_that_is_denied_may_come_later(server: SchemaRegistry) -> None:
    """Nothing is kept of a denial: a copy of a registry learns of an id later than records come with it."""
    asked = client(server)
    with pytest.raises(DoesNotFit, match="no schema of its id, 8"):
        asked.schema(8)
    server.register("later", TEXT, number=8)

    assert TEXT == asked.schema(8)


def test_a_registry_is_reached_by_tls(tmp_path: Path) -> None:
    """By an authority of one's own, with a certificate that it may ask for; not by anybody else's."""
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "Others")
    mine = ours.sign("subscriber", password="open")
    with SchemaRegistry(tls=ours.sign("registry", addresses="IP:127.0.0.1"), clients=ours) as server:
        server.register("t-value", TEXT, number=7)
        files = {"certificate_file": str(mine.certificate), "key_file": str(mine.key), "key_password": "open"}
        trusted = client(server, tls={"ca_file": str(ours.ca_file), **files})
        assert TEXT == trusted.schema(7)
        for tls in ({"ca_file": str(others.ca_file), **files}, {"ca_file": str(ours.ca_file)}):
            with pytest.raises(RegistryUnavailable, match="does not answer"):
                client(server, tls=tls).schema(7)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("registry:8081", "an address is none"),
        ("ftp://registry", "an address is none"),
        (f"http://ada:{CANARY}@registry", "an address is none"),
        (f"http://registry/?password={CANARY}", "an address is none"),
        ("http://registry\r\nX: y", "an address is none"),
        ({"urls": []}, "an address is none"),
        ({}, "urls"),
        ({"urls": ["http://a"], "api": "apicurio"}, "api"),
        ({"urls": ["http://a"], "user": "x"}, "user"),
        ({"urls": ["http://a"], "timeout_seconds": 0}, "timeout_seconds"),
        ({"urls": ["http://a"], "password": CANARY}, "a username with its password"),
        ({"urls": ["http://a"], "username": "a", "password": CANARY, "token": CANARY}, "or a token"),
        ({"urls": ["http://a"], "token": f"{CANARY}\r\nX: y"}, "the token has characters"),
        ({"urls": ["http://a"], "token": {CANARY: 1}}, "token"),
        ({"urls": ["https://a"], "tls": {"ca_file": "/no/such/file"}}, "a file cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_refused(said: Any, why: str) -> None:
    """Before anything is asked, with what to give instead, and without a secret."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        Registry(said)

    assert CANARY not in str(caught.value)
    assert caught.value.hint


def test_no_text_of_the_settings_has_a_secret() -> None:
    """Whoever prints them by chance."""
    made = settings_of({"urls": ["http://a"], "username": "ada", "password": CANARY})

    assert "registry of http://a" == repr(made)
