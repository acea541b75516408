"""TLS and SASL settings."""

import pytest
from confluent_kafka import Consumer, Producer

from connectors.security import SecuritySettings
from connectors.transport.settings import ConsumerSettings, ProducerSettings
from schemas.errors import ConfigurationError


def test_without_security_nothing_is_set() -> None:
    """The client's default is plain text."""
    assert {} == SecuritySettings().librdkafka()
    assert "SecuritySettings()" == repr(SecuritySettings())


def test_secrets_do_not_show() -> None:
    """Not in a repr, so not in a log or a traceback."""
    settings = SecuritySettings(
        tls=True,
        key_password="k3y",
        mechanism="PLAIN",
        username="ann",
        password="s3cret",
        certificate_file="c",
        key_file="k",
    )

    assert "s3cret" not in repr(settings)
    assert "k3y" not in repr(settings)
    assert "password=***" in repr(settings)
    assert "username='ann'" in repr(settings)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_are_sent_by_each_mechanism(mechanism: str) -> None:
    """Over TLS or not."""
    plain = SecuritySettings(mechanism=mechanism, username="ann", password="pw")  # type: ignore[arg-type]
    over_tls = SecuritySettings(mechanism=mechanism, username="ann", password="pw", tls=True, ca_file="ca.pem")  # type: ignore[arg-type]

    expected = {"sasl.mechanism": mechanism, "sasl.username": "ann", "sasl.password": "pw"}
    assert {"security.protocol": "SASL_PLAINTEXT", **expected} == plain.librdkafka()
    tls = {"ssl.ca.location": "ca.pem", "ssl.endpoint.identification.algorithm": "https"}
    assert {"security.protocol": "SASL_SSL", **expected, **tls} == over_tls.librdkafka()


def test_oauthbearer_asks_an_endpoint_or_a_function() -> None:
    """OIDC by the client itself, or a token of one's own."""
    oidc = SecuritySettings(
        mechanism="OAUTHBEARER", token_endpoint_url="https://id/token", client_id="c", client_secret="s", scope="kafka"
    )
    own = SecuritySettings(mechanism="OAUTHBEARER", token=lambda text: (text, 0.0))

    assert "oidc" == oidc.librdkafka()["sasl.oauthbearer.method"]
    assert "kafka" == oidc.librdkafka()["sasl.oauthbearer.scope"]
    assert own.token is own.librdkafka()["oauth_cb"]


@pytest.mark.parametrize(
    "half",
    [
        {"mechanism": "PLAIN", "username": "ann"},
        {"mechanism": "OAUTHBEARER", "client_id": "c"},
        {"certificate_file": "c", "tls": True},
        {"ca_file": "ca"},
    ],
)
def test_a_half_is_refused(half: dict[str, object]) -> None:
    """With what is missing."""
    with pytest.raises(ConfigurationError):
        SecuritySettings(**half)  # type: ignore[arg-type]


def test_settings_are_ones_that_librdkafka_knows() -> None:
    """Building a client checks every name and value."""
    security = SecuritySettings(
        tls=True, mechanism="SCRAM-SHA-512", username="ann", password="pw", verify_hostname=False
    )
    for protocol in ("classic", "consumer"):
        settings = ConsumerSettings(bootstrap="127.0.0.1:1", group="g", security=security, group_protocol=protocol)
        Consumer(settings.librdkafka()).close()
    for transactional_id in (None, "slot"):
        Producer(
            ProducerSettings(bootstrap="127.0.0.1:1", security=security, transactional_id=transactional_id).librdkafka()
        )
