"""What a client hears of its connections, and what that means: a refused password, a certificate, nobody there.

librdkafka tells a request only that it timed out. Why, it tells beside it, to `error_cb`: there the reason is kept
until somebody waits for an answer in vain.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.security import SecuritySettings, certificate_trouble, speaks_tls
from connectors.transport.settings import ClientSettings
from schemas.errors import ConfigurationError, SourceUnavailable

T = TypeVar("T")

LOG_SECONDS = 2.0
RIGHTS_HINT = "give this user the right to it: docs/operate.md lists what Headgate needs"
_ADDRESSED = re.compile(r"^(?:\w+://)?(?P<where>[^/\s]+:\d+)/\S+: (?P<why>.*?)(?: \(after [^()]*\))?$", re.DOTALL)
_CERTIFICATE_REFUSED = "certificate verify failed"
# What a broker answers to a client whose certificate or protocol it does not take. Others, such as an internal error or
# the end of a connection, pass by themselves.
_ALERT = re.compile(
    r"alert (bad certificate|certificate \w+|unknown ca|handshake failure|protocol version|access denied)"
)
_HOST_MISMATCH = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_OF_SETTING = {  # what librdkafka names when it cannot even begin, and what that is in the configuration
    "ssl.ca.location": "is kafka.tls.ca_file a PEM file that this user may read?",
    "ssl.certificate.location": "is kafka.tls.certificate_file a PEM file that this user may read?",
    "ssl.key.location": "is kafka.tls.key_file a PEM file that this user may read, and kafka.tls.key_password its own?",
}
# The client looks for the coordinator of its group though a reader without a group asks nothing of it.
OF_NO_GROUP = KafkaError.GROUP_AUTHORIZATION_FAILED
NOT_ALLOWED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    },
)


def made(make: Callable[[], T]) -> T:
    """Return a new client.

    Raises:
        ConfigurationError: its settings are not ones it can begin with: a file that cannot be read, a key's password.
    """
    try:
        return make()
    except KafkaException as error:
        said = error.args[0].str()
        hint = next((hint for name, hint in _OF_SETTING.items() if name in said), "look at kafka.tls and kafka.sasl")
        raise ConfigurationError(f"the client of Kafka cannot begin: {said}", hint=hint) from error


def not_allowed(error: KafkaError, what: str) -> ConfigurationError:
    """Return the error of a missing right."""
    return ConfigurationError(f"{what}: the broker refuses: {error.str()}", hint=RIGHTS_HINT)


class Hearing:
    """What one client heard since it was last asked; `hear` is its `error_cb`."""

    def __init__(self, client: ClientSettings) -> None:
        """Have heard nothing."""
        self._security = client.security
        self._bootstrap = client.bootstrap
        self._welcome = False
        self._all_down = False  # librdkafka tells it once, when it comes to be so
        self._looked = False
        self._last = ""
        self._refusal: KafkaError | None = None

    def asked(self) -> None:
        """Begin anew for the next question; before the first answer, what was heard since the start counts too."""
        if self._welcome:
            self._last, self._refusal = "", None

    def welcomed(self) -> None:
        """Note that a broker answered: it let this client in once, so a later refusal is one that may pass."""
        self._welcome, self._all_down = True, False

    def hear(self, error: KafkaError) -> None:
        """Take one error of the client's connections."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - confluent-kafka's public name
            self._all_down = True
            return
        self._last = error.str()
        if is_refusal(error):
            self._refusal = error

    def refusal(self) -> SourceUnavailable | ConfigurationError | None:
        """Return why no broker will answer, as soon as that is certain; None as long as one may."""
        if self._refusal is not None and (self._all_down or _of_the_token(self._refusal)):
            return self._translated(self._refusal)
        return self._tls_wanted() if self._all_down else None

    def unanswered(self, what: str, said: str) -> SourceUnavailable | ConfigurationError:
        """Return the error of a question that was not answered in time, with the reason if one was heard."""
        if self._refusal is not None:
            return self._translated(self._refusal)
        heard = self._security.without_secrets(self._last or said)
        if found := _ADDRESSED.match(heard):
            heard = f"{found['where']}: {found['why']}"
        return SourceUnavailable(f"{what}: {heard}", hint=_unanswered_hint(self._security))

    def _tls_wanted(self) -> ConfigurationError | None:
        """Look, once, whether a broker that answers nothing speaks TLS: librdkafka cannot tell."""
        if self._security.tls or self._welcome or self._looked:
            return None
        self._looked = True
        where = speaks_tls(self._bootstrap)
        hint = "set kafka.tls, with a ca_file where its authority is your own"
        return ConfigurationError(f"{where} speaks TLS, and this client does not", hint=hint) if where else None

    def _translated(self, error: KafkaError) -> SourceUnavailable | ConfigurationError:
        kind = SourceUnavailable if self._welcome or _of_the_token(error) else ConfigurationError
        message, hint = explained(error, self._security)
        return kind(message, hint=hint)


def is_refusal(error: KafkaError) -> bool:
    """Tell whether a connection was refused for what the client is or believes, which trying again does not mend."""
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - confluent-kafka's public name
        return True
    return _CERTIFICATE_REFUSED in error.str() or _ALERT.search(error.str()) is not None


def explained(error: KafkaError, security: SecuritySettings) -> tuple[str, str]:
    """Return a refusal as message and hint: what, where, why, and what to do. No secret is in them."""
    said = security.without_secrets(error.str())
    if _of_the_token(error):
        return (
            f"no token from {security.token_endpoint_url}: {said.partition(': ')[2] or said}",
            "does the endpoint answer? look at kafka.sasl: token_endpoint_url, client_id, client_secret, scope",
        )
    found = _ADDRESSED.match(said)
    where, why = (found["where"], found["why"]) if found else ("the broker", said)
    if _CERTIFICATE_REFUSED in why:
        return _certificate(where, why, security)
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - confluent-kafka's public name
        look = "the client at the token endpoint" if security.mechanism == "OAUTHBEARER" else "username and password"
        return (
            f"{where} does not let {security.identity} in: {why.removeprefix('SASL authentication error: ')}",
            f"look at kafka.sasl: the mechanism ({security.mechanism}), and {look}",
        )
    return (
        f"{where} does not take this client's certificate or protocol: {why}",
        "look at kafka.tls: certificate_file and key_file must be ones that the broker's authority signed",
    )


def _certificate(where: str, why: str, security: SecuritySettings) -> tuple[str, str]:
    """Return why a broker's certificate was not accepted: librdkafka does not say, so it is looked at once more."""
    found = certificate_trouble(where, security)
    code, told = found if found is not None else (0, why)
    if code in _HOST_MISMATCH:
        hint = (
            "write a name of the certificate in kafka.bootstrap, and have the broker advertise one; "
            "kafka.tls.verify_hostname: false would accept any"
        )
    elif code == _EXPIRED:
        hint = "the broker needs a new certificate"
    else:
        hint = f"kafka.tls.ca_file ({security.ca_file or 'the system’s'}) must hold the authority that signed it"
    return f"the certificate of {where} is not accepted: {told.rstrip('.')}", hint


def _of_the_token(error: KafkaError) -> bool:
    return "acquire SASL OAUTHBEARER token" in error.str()


def _unanswered_hint(security: SecuritySettings) -> str:
    tls = "does its listener speak TLS" if security.tls else "does its listener want kafka.tls"
    sasl = "take SASL" if security.mechanism else "want kafka.sasl"
    return f"is the broker up, and its address right? {tls}, or {sasl}?"


def log_of(consumer: Consumer, place: tuple[str, int]) -> tuple[int, int] | None:
    """Return the first and the next offset of a log, None where the broker does not say."""
    try:
        log = consumer.get_watermark_offsets(TopicPartition(*place), timeout=LOG_SECONDS)
    except KafkaException:
        return None
    return cast("tuple[int, int] | None", log)
