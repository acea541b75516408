"""The client of schema registries against a real server: what it has, what it denies, and when it is away."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.formats.avro import AvroDecoder
from connectors.formats.reasons import Rejection
from connectors.registry import Registry, registry_of
from connectors.registry.known import read_schemas
from connectors.wire import Framing, IdKind, Registered, SchemaId
from schemas.config import LimitsConfig, RegistryConfig, read_config
from schemas.errors import ConfigurationError, ErrorKind, RegistryUnavailable
from tests.services.certificates import Authority
from tests.services.registry import SchemaRegistry
from tests.services.waiting import free_port, wait_until

INNER = {"type": "record", "name": "a.Inner", "fields": [{"name": "n", "type": "int"}]}
OUTER = {"type": "record", "name": "b.Outer", "fields": [{"name": "inner", "type": "a.Inner"}]}
TEXT = json.dumps({"type": "record", "name": "R", "fields": []})
PATIENT_SECONDS = 15.0  # the most that may be set: no machine stands still for so long, and asks again


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    """A registry with one schema, of number 7."""
    with SchemaRegistry() as running:
        running.register("t-value", TEXT, number=7)
        yield running


def client(server: SchemaRegistry, path: str = "", **changes: Any) -> Registry:
    """A client of a server."""
    return Registry(RegistryConfig(**{"urls": [server.url + path], "timeout_seconds": PATIENT_SECONDS, **changes}))


def number(value: int, kind: IdKind = IdKind.NUMBER) -> SchemaId:
    """The id of a number."""
    return SchemaId(kind, value)


def with_references(server: SchemaRegistry) -> int:
    """Register a schema that refers to another; return its number."""
    server.register("a/Inner value", json.dumps(INNER))
    reference = {"name": "a.Inner", "subject": "a/Inner value", "version": 1}
    return server.register("outer", json.dumps(OUTER), references=(reference,)).number


def test_an_id_is_asked_for_once(server: SchemaRegistry) -> None:
    """For ever: also when the registry is gone."""
    registry = client(server)

    assert Registered("AVRO", TEXT) == registry.schema(number(7))
    server.kill()
    assert Registered("AVRO", TEXT) == registry.schema(number(7))
    assert ["/schemas/ids/7"] == [asked.path for asked in server.asked]


@pytest.mark.parametrize("path", ["", "/apis/registry/v2", "/apis/registry/v3"])
def test_references_are_followed(server: SchemaRegistry, path: str) -> None:
    """What a schema refers to comes with it, in an order in which it can be read."""
    outer = with_references(server)

    found = client(server, path, api="apicurio" if path else "confluent").schema(number(outer))
    value = AvroDecoder(found.text, found.references, limits=LimitsConfig()).decode(b"\x06")

    assert (json.dumps(INNER),) == found.references
    assert {"inner": {"n": 3}} == value


def test_references_may_go_round(server: SchemaRegistry) -> None:
    """Two schemas that name each other end; whether that can be read is said by who reads it."""
    server.register("one", TEXT, references=({"name": "x", "subject": "two", "version": 1},))
    server.register("two", TEXT, references=({"name": "y", "subject": "one", "version": 1},), number=9)

    assert 2 == len(client(server).schema(number(9)).references)


def test_a_guid_is_looked_up_as_such(server: SchemaRegistry) -> None:
    """Confluent's second form."""
    guid = server.entries[0].guid

    assert TEXT == client(server).schema(SchemaId(IdKind.GUID, guid)).text


@pytest.mark.parametrize(
    ("ids", "kind", "path"),
    [
        ("global", IdKind.NUMBER, "/ids/globalIds/7"),
        ("content", IdKind.NUMBER, "/ids/contentIds/7"),
        ("global", IdKind.CONTENT, "/ids/contentIds/7"),
        ("content", IdKind.GLOBAL, "/ids/globalIds/7"),
    ],
)
def test_apicurio_has_two_numbers(server: SchemaRegistry, ids: str, kind: IdKind, path: str) -> None:
    """A number in a payload is what the setting says, one in a header is what the header says."""
    found = client(server, "/apis/registry/v3", api="apicurio", ids=ids).schema(number(7, kind))

    assert Registered("AVRO", TEXT) == found
    assert f"/apis/registry/v3{path}" == server.asked[0].path


@pytest.mark.parametrize("path", ["/apis/registry/v2", "/apis/registry/v3"])
def test_a_schema_that_comes_without_its_kind_is_known_by_itself(path: str) -> None:
    """As Apicurio's come; where it names the kind, that holds."""
    json_schema = json.dumps({"type": "object", "properties": {"id": {"type": "integer"}}})
    with SchemaRegistry(like="apicurio 2") as server:
        server.register("t-value", TEXT)
        server.register("j-value", json_schema, kind="JSON")
        found = [client(server, path, api="apicurio").schema(number(n)) for n in (1, 2)]

    assert [Registered("AVRO", TEXT), Registered("JSON", json_schema)] == found


@pytest.mark.parametrize(
    ("path", "api"), [("", "confluent"), ("/apis/registry/v2", "apicurio"), ("/apis/registry/v3", "apicurio")]
)
def test_an_id_that_the_registry_denies_is_a_rejection(server: SchemaRegistry, path: str, api: str) -> None:
    """It is asked for anew after half a minute: by then a copy of the registry may know it."""
    now = [0.0]
    config = RegistryConfig(urls=[server.url + path], api=api)  # type: ignore[arg-type]
    registry = Registry(config, clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(Rejection, match="unknown_schema"):
            registry.schema(number(8))
    asked = len(server.asked)
    server.register("t-value", TEXT + " ", number=8)
    now[0] = 31.0

    assert 1 == asked
    assert TEXT + " " == registry.schema(number(8)).text


@pytest.mark.parametrize("kind", [IdKind.GLUE, IdKind.CONTENT, IdKind.GLOBAL])
def test_an_id_of_another_registry_is_a_rejection(server: SchemaRegistry, kind: IdKind) -> None:
    """Nothing is asked for it."""
    with pytest.raises(Rejection, match="unknown_schema"):
        client(server).schema(number(7, kind))

    assert [] == server.asked


@pytest.mark.parametrize(("manner", "times"), [("error", 3), ("busy", 3), ("slow", 3), ("html", 1)])
def test_a_registry_with_trouble_is_no_fault_of_the_record(server: SchemaRegistry, manner: Any, times: int) -> None:
    """It is tried a few times, then the stage waits; when the trouble is over, the record is read."""
    registry = client(server, timeout_seconds=0.3 if manner == "slow" else PATIENT_SECONDS)
    registry._client._attempts_seconds = 60.0  # noqa: SLF001 - three time-outs, which a busy machine makes longer
    server.manner = manner

    with pytest.raises(RegistryUnavailable) as caught:
        registry.schema(number(7))
    wait_until(lambda: len(server.asked) >= times, "the server has seen all that was asked")
    asked = len(server.asked)
    server.manner = "right"

    assert ErrorKind.UNAVAILABLE is caught.value.kind
    assert server.url in caught.value.message
    assert caught.value.hint
    assert times == asked
    assert TEXT == registry.schema(number(7)).text


def test_a_registry_that_is_away_comes_back_on_its_port(server: SchemaRegistry) -> None:
    """As after a restart: the same client goes on."""
    registry = client(server)
    server.kill()
    with pytest.raises(RegistryUnavailable):
        registry.schema(number(7))
    server.start()

    assert TEXT == registry.schema(number(7)).text


@pytest.mark.parametrize("path", ["/nowhere", "/apis/registry/v9/nowhere"])
def test_a_wrong_address_quarantines_nothing(server: SchemaRegistry, path: str) -> None:
    """A 404 that no registry gives for an id: the whole topic would be refused by mistake."""
    for api in ("confluent", "apicurio"):
        with pytest.raises(RegistryUnavailable, match=r"is registry\.urls"):
            client(server, path, api=api).schema(number(7))


def test_the_second_address_answers_where_the_first_is_away(server: SchemaRegistry) -> None:
    """And is asked first from then on."""
    urls = [f"http://127.0.0.1:{free_port()}", server.url]
    registry = client(server, urls=urls)

    assert TEXT == registry.schema(number(7)).text
    with pytest.raises(Rejection, match="unknown_schema"):
        registry.schema(number(8))
    assert server.url == registry._client.urls[0]  # noqa: SLF001 - what it learned cannot be seen otherwise


@pytest.mark.parametrize(
    ("credentials", "authorization"),
    [
        ({"username": "ada", "password": "s:1"}, "Basic " + base64.b64encode(b"ada:s:1").decode()),
        ({"token": "abc"}, "Bearer abc"),
    ],
)
def test_who_asks_is_said(server: SchemaRegistry, credentials: Any, authorization: str) -> None:
    """By name and password or by a token; turned away, the stage waits, and no secret is said."""
    server.authorization = authorization

    assert TEXT == client(server, **credentials).schema(number(7)).text
    server.authorization = "another"
    server.asked.clear()
    with pytest.raises(RegistryUnavailable, match="does not know who asks") as caught:
        client(server, **credentials).schema(number(8))
    assert 1 == len(server.asked), "the same again would only lock somebody out"
    assert "s:1" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_tls_by_an_authority_of_ones_own_and_a_certificate(tmp_path: Path) -> None:
    """The server proves itself, and so does the client; without, there is a hint."""
    authority = Authority(tmp_path)
    server_side, mine = authority.sign("server", addresses="IP:127.0.0.1"), authority.sign("me", password="quiet")
    tls = {"ca_file": str(authority.ca_file)}
    own = {"certificate_file": str(mine.certificate), "key_file": str(mine.key), "key_password": "quiet"}
    with SchemaRegistry(tls=server_side, clients=authority) as server:
        server.register("t-value", TEXT, number=7)

        assert TEXT == client(server, tls={**tls, **own}).schema(number(7)).text
        with pytest.raises(RegistryUnavailable, match=r"registry\.tls"):
            client(server).schema(number(7))
    with pytest.raises(ConfigurationError, match=r"registry\.tls"):
        client(server, tls={**tls, **own, "key_password": "loud"})
    with pytest.raises(ConfigurationError, match=r"registry\.tls"):
        client(server, tls={"ca_file": str(tmp_path / "nothing.pem")})


def test_the_configuration_is_read_and_checked() -> None:
    """What cannot be meant is refused with the line; a secret is not shown."""
    text = "registry:\n  urls: [https://r:8081]\n  username: ada\n  password: quiet1\n  id_size: 8\n  ids_in: either\n"
    config = read_config(text, name="c.yaml")

    assert config.registry is not None
    assert "quiet1" not in repr(config)
    assert Framing(8, "either", 4 * 2**20) == Registry(config.registry).framing
    assert read_config("", name="c.yaml").registry is None
    for wrong in (
        "urls: []",
        "urls: [r:8081]",
        "urls: ['https://ada:secret@r']",
        "urls: [https://r]\n  username: ada",
        "urls: [https://r]\n  username: a\n  password: b\n  token: c",
        "urls: [https://r]\n  tls: {certificate_file: a.pem}",
        "urls: [https://r]\n  id_size: 5",
    ):
        with pytest.raises(ConfigurationError, match=r"c\.yaml:") as caught:
            read_config(f"registry:\n  {wrong}\n", name="c.yaml")
        assert "secret" not in str(caught.value)


def test_an_installation_may_have_no_registry() -> None:
    """Formats that need one say so; see test_debezium_avro.py."""
    assert registry_of(None) is None


def test_a_file_of_schemas_says_of_what_kind_each_is() -> None:
    """Avro as object or text, JSON Schema, and what a registry answers; a GUID in any case."""
    avro, json_schema = {"type": "record", "name": "R", "fields": []}, {"type": "object", "properties": {}}
    file = {"1": avro, "2": json.dumps(avro), "3": json_schema, "4": {"schemaType": "JSON", "schema": "true"}}
    file |= {"5": {"schema": TEXT}, "6": "string", "7": "{", "ABCDEF00-0000-0000-0000-000000000000": avro}
    known = read_schemas(json.dumps(file), name="schemas.json")

    assert ["AVRO", "AVRO", "JSON", "JSON", "AVRO", "AVRO", "AVRO"] == [
        known.schema(number(value)).kind for value in range(1, 8)
    ]
    assert TEXT == known.schema(number(5)).text
    assert avro == json.loads(known.schema(SchemaId(IdKind.GUID, "abcdef00-0000-0000-0000-000000000000")).text)
    assert frozenset(range(1, 8)) == known.framing.numbers
    with pytest.raises(Rejection, match="the file has no schema number 8"):
        known.schema(number(8))
