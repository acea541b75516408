"""The schema registry, asked by subscribers: from the id in front of a value to the schema that it was written with.

Promise: an id is asked for once, for it never means another schema. One that the registry denies is said of the record;
a registry that is away, or that answers as none does, is `RegistryUnavailable`: whoever asks again later goes on.

The settings are those of `registry` in Headgate's configuration, but the client is another: that one lives with the
transport, and loads what a subscriber does not need.
"""

from __future__ import annotations

import http.client
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from headgate.client.values import DoesNotFit
from schemas.errors import ConfigurationError, RegistryUnavailable
from schemas.web_address import is_web_address

ANSWER_BYTES_MAX = 16 * 1024 * 1024
PAUSES_SECONDS = (0.1, 0.3, 0.0)  # behind each round of the addresses; what waits then is whoever reads
_OK, _DENIED, _TURNED_AWAY = 200, 404, (401, 403)
_DENIALS = range(40400, 40500)  # codes of what is not there; a plain 404 is a path that is not there
OF_SOURCES = ("ids", "id_size", "ids_in", "inflated_bytes_max")  # say how sources' records are framed, not ours
_HINT = 'give registry="https://host:8081", or the settings that `registry` of Headgate\'s configuration has'


class _Tls(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    verify_hostname: bool = True


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What may be said of a registry, by the names of Headgate's configuration."""

    urls: list[str]
    api: Literal["confluent"] = "confluent"  # no other takes the schemas of changes
    username: str | None = None
    password: str | None = None
    token: str | None = None
    tls: _Tls = msgspec.field(default_factory=_Tls)
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 5.0

    def __repr__(self) -> str:
        """Give the addresses, and no secret."""
        return f"registry of {', '.join(self.urls)}"


class _Away(Exception):
    """One address does not answer, or not as a registry; the text says which."""


class Registry:
    """One registry, and the schemas that it was asked for."""

    def __init__(self, said: str | Mapping[str, Any]) -> None:
        """Know its address, or its settings; nothing is asked yet.

        Raises:
            ConfigurationError: an address is none, a setting is not one, or a certificate cannot be read.
        """
        self._settings = settings_of(said)
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json", **_who(self._settings)}
        self._context = _context(self._settings)
        self._known: dict[int, str] = {}

    def schema(self, number: int) -> str:
        """Return the text of the Avro schema of an id.

        Raises:
            DoesNotFit: the registry has none.
            RegistryUnavailable: it does not answer, or not as a registry does.
        """
        found = self._known.get(number)
        if found is None:
            found = self._known[number] = self._asked(number)
        return found

    def _asked(self, number: int) -> str:
        why = ""
        for pause in PAUSES_SECONDS:
            for url in self._settings.urls:
                try:
                    return self._ask(url, number)
                except _Away as away:
                    why = why or str(away)
            time.sleep(pause)
        raise RegistryUnavailable(why, hint="nothing is lost: go on once it answers; is registry= its address?")

    def _ask(self, url: str, number: int) -> str:
        status, body = self._answer(url, f"/schemas/ids/{number}")
        if status in _TURNED_AWAY:  # the same name and password again would only lock somebody out
            raise RegistryUnavailable(
                f"the schema registry at {url} answers {status}: it does not know who asks",
                hint="name username and password, or token, in registry=",
            )
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            document = {}
        if status == _DENIED and document.get("error_code") in _DENIALS:
            raise DoesNotFit(
                f"the schema registry at {url} has no schema of its id, {number}",
                hint="is registry= the one that Headgate writes to?",
            )
        text = document.get("schema")
        if status != _OK or not isinstance(text, str):
            raise _Away(f"the schema registry at {url} answers {status}, and not as a registry does")
        if str(document.get("schemaType") or "AVRO").upper() != "AVRO":
            raise DoesNotFit(f"the schema of its id, {number}, is none of Avro")
        return text

    def _answer(self, url: str, path: str) -> tuple[int, bytes]:
        """Return what one address answers; no redirection is followed, so that nobody else is told who asks."""
        parts = urlsplit(url)
        host, timeout = str(parts.hostname), self._settings.timeout_seconds
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=self._context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=timeout)
        )
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=self._headers)
            response = connection.getresponse()
            body = response.read(ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as exc:
            raise _Away(f"the schema registry at {url} does not answer ({type(exc).__name__})") from None
        finally:
            connection.close()
        if len(body) > ANSWER_BYTES_MAX:
            raise _Away(f"the schema registry at {url} answers with more than {ANSWER_BYTES_MAX} bytes")
        return response.status, body


def settings_of(said: str | Mapping[str, Any]) -> Settings:
    """Return the settings that an address, or what stands under `registry` of a configuration, says.

    Raises:
        ConfigurationError: an address is none, or a setting is not one; no secret is repeated.
    """
    given = {"urls": [said]} if isinstance(said, str) else {k: v for k, v in said.items() if k not in OF_SOURCES}
    try:
        found = msgspec.convert(given, Settings)
    except msgspec.ValidationError as exc:  # its text names what is wrong, and no value
        raise ConfigurationError(f"registry: {exc}", hint=_HINT) from None
    if not found.urls or not all(url.isascii() and url.isprintable() and is_web_address(url) for url in found.urls):
        raise ConfigurationError("registry: an address is none, such as https://host:8081", hint=_HINT)
    if (found.username is None) != (found.password is None) or (found.username and found.token):
        raise ConfigurationError("registry: it takes a username with its password, or a token", hint=_HINT)
    if found.token is not None and not (found.token.isascii() and found.token.isprintable()):
        raise ConfigurationError("registry: the token has characters that none has", hint=_HINT)
    return found


def _who(settings: Settings) -> dict[str, str]:
    if settings.token is not None:
        return {"Authorization": f"Bearer {settings.token}"}
    if settings.username is not None:
        pair = f"{settings.username}:{settings.password}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}
    return {}


def _context(settings: Settings) -> ssl.SSLContext | None:
    tls = settings.tls
    if not any(url.startswith("https:") for url in settings.urls):
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file, tls.key_password or "")
    except OSError as exc:  # an SSLError is one
        raise ConfigurationError(
            f"registry: tls: a file cannot be read ({type(exc).__name__})",
            hint="its files are PEM files that this user may read; key_password is that of key_file",
        ) from exc
    context.check_hostname = tls.verify_hostname
    return context
