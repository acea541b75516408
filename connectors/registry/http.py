"""Questions to a registry over HTTP: several addresses, TLS, who asks, time limits, a few quick attempts."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import urllib3

from schemas.config import RegistryConfig, TlsConfig
from schemas.errors import ConfigurationError, RegistryUnavailable

ANSWER_BYTES_MAX = 16 * 1024 * 1024
PAUSES_SECONDS = (0.1, 0.3, 0.0)  # behind each attempt; then the stage waits, as it does for whatever is away
OK, DENIED, CONFLICT, UNFIT, BUSY = 200, 404, 409, 422, 500
_TURNED_AWAY = (401, 403)
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json;q=0.9, */*;q=0.5"

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class _TurnedAway(RegistryUnavailable):
    """The registry answers, but not to us."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the body, and the kind of schema that a header names."""

    status: int
    body: bytes
    kind: str
    url: str

    def document(self) -> Any:
        """Return the body's JSON.

        Raises:
            RegistryUnavailable: it is none; something else answers in the registry's place.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise strange(self.url, "its answer is no JSON") from None


class Client:
    """Asks a registry at the first of its addresses that answers, beginning with the one that did last."""

    def __init__(self, config: RegistryConfig) -> None:
        """Read certificate and key; connect to nothing.

        Raises:
            ConfigurationError: one of the files cannot be read.
        """
        self.urls = [url.rstrip("/") for url in config.urls]
        self._headers = {"Accept": _ACCEPT, **_credentials(config)}
        self._attempts_seconds = config.timeout_seconds * len(PAUSES_SECONDS)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(config.timeout_seconds), retries=False, maxsize=2, **_tls(self.urls, config.tls)
        )

    def get(self, path: str) -> Answer:
        """Return the answer of 200 or 404 to a path.

        Raises:
            RegistryUnavailable: there is none after a few attempts at every address.
        """
        return self._again_and_again("GET", path, None, (OK, DENIED))

    def send(self, method: str, path: str, document: Any) -> Answer:
        """Return the answer of 200, 404, 409 or 422 to a document; one that is sent twice must do what one does.

        Raises:
            RegistryUnavailable: there is none after a few attempts at every address.
        """
        return self._again_and_again(method, path, msgspec.json.encode(document), (OK, DENIED, CONFLICT, UNFIT))

    def _again_and_again(self, method: str, path: str, body: bytes | None, known: tuple[int, ...]) -> Answer:
        begun, failure = time.monotonic(), None
        for pause in PAUSES_SECONDS:
            try:
                return self._anywhere(method, path, body, known)
            except _TurnedAway:  # the same name and password again would only lock somebody out
                raise
            except RegistryUnavailable as exc:
                failure = exc
            if time.monotonic() - begun > self._attempts_seconds:
                break
            time.sleep(pause)
        assert failure is not None, "an attempt returns or raises"
        raise failure

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _anywhere(self, method: str, path: str, body: bytes | None, known: tuple[int, ...]) -> Answer:
        failure: RegistryUnavailable | None = None
        for url in list(self.urls):
            try:
                answer = self._ask(url, method, path, body, known)
            except RegistryUnavailable as exc:
                failure = failure or exc
                continue
            self.urls.sort(key=lambda each, first=url: each != first)  # type: ignore[misc]
            return answer
        assert failure is not None, "a registry has an address"
        raise failure

    def _ask(self, url: str, method: str, path: str, sent: bytes | None, known: tuple[int, ...]) -> Answer:
        headers = self._headers if sent is None else {**self._headers, "Content-Type": _CONTENT_TYPE}
        try:
            response = self._pool.request(
                method, url + path, body=sent, headers=headers, redirect=False, preload_content=False
            )
            try:
                body = response.read(ANSWER_BYTES_MAX + 1)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise _away(url, exc) from None
        status = response.status
        if status in _TURNED_AWAY:
            raise _TurnedAway(
                f"the schema registry at {url} answers {status}: it does not know who asks",
                hint="look at registry.username and password, or registry.token",
            )
        if status not in known:
            raise strange(url, f"it answers {status}", busy=status >= BUSY)
        if len(body) > ANSWER_BYTES_MAX:
            raise strange(url, f"its answer is above {ANSWER_BYTES_MAX} bytes")
        kind = response.headers.get("X-Registry-ArtifactType", "")
        return Answer(status, body, kind, url)


def strange(url: str, what: str, *, busy: bool = False) -> RegistryUnavailable:
    """Return the error of an answer that is none of a registry; `busy`: it is one, and has trouble of its own."""
    hint = (
        "look at the registry's own log" if busy else "is registry.urls the address of its API, and registry.api right?"
    )
    return RegistryUnavailable(f"the schema registry at {url}: {what}", hint=hint)


def _away(url: str, error: Exception) -> RegistryUnavailable:
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    if isinstance(cause, urllib3.exceptions.SSLError | ssl.SSLError):
        hint = (
            "look at registry.tls: ca_file, where its authority is your own, certificate_file; and at the urls' scheme"
        )
        return RegistryUnavailable(f"no secure connection to the schema registry at {url}", hint=hint)
    return RegistryUnavailable(
        f"the schema registry at {url} does not answer ({type(cause).__name__})",
        hint="is it up, and its address right?",
    )


def _credentials(config: RegistryConfig) -> dict[str, str]:
    if config.token is not None:
        return {"Authorization": f"Bearer {config.token.get_secret_value()}"}
    if config.username is not None and config.password is not None:
        pair = f"{config.username}:{config.password.get_secret_value()}"
        return urllib3.util.make_headers(basic_auth=pair)
    return {}


def _tls(urls: list[str], tls: TlsConfig) -> dict[str, Any]:
    if not any(url.startswith("https:") for url in urls):
        return {}
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            password = tls.key_password.get_secret_value() if tls.key_password else ""  # empty, or OpenSSL would ask
            context.load_cert_chain(tls.certificate_file, tls.key_file, password)
    except OSError as exc:  # an SSLError is one
        raise ConfigurationError(
            f"registry.tls: a file cannot be read ({type(exc).__name__})",
            hint="its files are PEM files that this user may read; key_password is that of key_file",
        ) from exc
    context.check_hostname = tls.verify_hostname
    return {"ssl_context": context, "assert_hostname": None if tls.verify_hostname else False}
