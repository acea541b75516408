"""TLS and SASL as one small frozen value, and its librdkafka settings. Secrets never show in its repr.

Beside it two looks at a server that turned a client away: what its certificate lacks, and whether it speaks TLS.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from schemas.errors import ConfigurationError

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_SECRETS = frozenset({"key_password", "password", "client_secret"})
_MASK = "***"
_LOOK_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SecuritySettings:
    """How a client proves itself to the broker, and the broker to it. By default: neither.

    `token` overrides the OIDC client of librdkafka for OAUTHBEARER: a function of the configured text that returns a
    token and the second since 1970 at which it ends.
    """

    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    verify_hostname: bool = True
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = None
    token_endpoint_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None
    token: Callable[[str], tuple[str, float]] | None = None

    def __post_init__(self) -> None:
        """Refuse a half of a pair.

        Raises:
            ConfigurationError: naming what is missing.
        """
        if (self.certificate_file is None) != (self.key_file is None):
            raise ConfigurationError(
                "TLS: a client certificate needs its key and the other way round", hint="name both files"
            )
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ConfigurationError("TLS: files are named, but TLS is off", hint="set tls: true")
        match self.mechanism:
            case "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512":
                self._need("username", "password")
            case "OAUTHBEARER" if self.token is None:
                self._need("token_endpoint_url", "client_id", "client_secret")
            case _:
                return

    def _need(self, *names: str) -> None:
        missing = [name for name in names if not getattr(self, name)]
        if missing:
            raise ConfigurationError(f"SASL {self.mechanism}: {', '.join(missing)} missing", hint="set what is named")

    @property
    def protocol(self) -> str:
        """Kafka's name of the security protocol."""
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")

    @property
    def identity(self) -> str:
        """Who the client says it is, for errors; no secret."""
        if self.mechanism is not None:
            return f"{self.username or self.client_id or 'the bearer of the token'} by {self.mechanism}"
        return "the client of the certificate" if self.certificate_file else "an anonymous client"

    def without_secrets(self, text: str) -> str:
        """Return a text of somebody else's with our secrets masked, should it repeat one."""
        for name in _SECRETS:
            if secret := getattr(self, name):
                text = text.replace(secret, _MASK)
        return text

    def librdkafka(self) -> dict[str, Any]:
        """Return the settings of a client; secrets are in it, so it is not to be logged."""
        if self.protocol == "PLAINTEXT":
            return {}
        return {"security.protocol": self.protocol, **self._tls(), **self._sasl()}

    def _tls(self) -> dict[str, Any]:
        if not self.tls:
            return {}
        named = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
            "ssl.key.password": self.key_password,
            "ssl.endpoint.identification.algorithm": "https" if self.verify_hostname else "none",
        }
        return {name: value for name, value in named.items() if value is not None}

    def _sasl(self) -> dict[str, Any]:
        if self.mechanism is None:
            return {}
        if self.mechanism != "OAUTHBEARER":
            return {"sasl.mechanism": self.mechanism, "sasl.username": self.username, "sasl.password": self.password}
        if self.token is not None:
            return {"sasl.mechanism": self.mechanism, "oauth_cb": self.token}
        named = {
            "sasl.mechanism": self.mechanism,
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": self.token_endpoint_url,
            "sasl.oauthbearer.client.id": self.client_id,
            "sasl.oauthbearer.client.secret": self.client_secret,
            "sasl.oauthbearer.scope": self.scope,
        }
        return {name: value for name, value in named.items() if value is not None}

    def __repr__(self) -> str:
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                shown.append(f"{each.name}={_MASK if each.name in _SECRETS else repr(value)}")
        return f"SecuritySettings({', '.join(shown)})"


def certificate_trouble(address: str, security: SecuritySettings) -> tuple[int, str] | None:
    """Return OpenSSL's number and sentence of what is wrong with the certificate of `host:port`; None if nothing is.

    None also where it cannot be looked at, within seconds.
    """
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        context.check_hostname = security.verify_hostname
        _shake_hands(context, host, int(port))
    except ssl.SSLCertVerificationError as error:
        return error.verify_code, error.verify_message
    except (OSError, ValueError):
        return None
    return None


def speaks_tls(bootstrap: str) -> str:
    """Return the first address of `bootstrap` if TLS is spoken there, else nothing; whatever its certificate is."""
    address = bootstrap.partition(",")[0].strip()
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only whether it answers
    try:
        _shake_hands(context, host, int(port))
    except (OSError, ValueError):
        return ""
    return address


def _shake_hands(context: ssl.SSLContext, host: str, port: int) -> None:
    with (
        socket.create_connection((host.strip("[]"), port), _LOOK_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host.strip("[]")),
    ):
        return
