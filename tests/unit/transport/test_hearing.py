"""What a client hears of its connections, and what becomes of it; the real broker's words, as heard from it."""

import pytest
from confluent_kafka import Consumer, KafkaError

from connectors.security import SecuritySettings, speaks_tls
from connectors.transport.answers import Administrator, translated
from connectors.transport.hearing import Hearing, explained, is_refusal, made
from connectors.transport.partitions import Partitions
from connectors.transport.routes import Routes
from connectors.transport.settings import ClientSettings, ConsumerSettings
from connectors.transport.watch import Watch
from schemas.errors import ConfigurationError, SourceUnavailable

SECURITY = SecuritySettings(tls=True, mechanism="PLAIN", username="ann", password="pw-of-ann")
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")  # noqa: SLF001 - confluent-kafka's public name
WRONG_PASSWORD = KafkaError(
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - the same
    "sasl_ssl://127.0.0.1:1/bootstrap: SASL authentication error: Authentication failed: Invalid username or password "
    "(after 303ms in state AUTH_REQ)",
)
NO_TOKEN = KafkaError(
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - the same
    "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 127.0.0.1:1 after 0 ms",
)
NO_CERTIFICATE = KafkaError(
    KafkaError._TRANSPORT,  # noqa: SLF001 - the same
    "ssl://127.0.0.1:1/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: "
    "SSL alert number 42 (after 0ms in state APIVERSION_QUERY)",
)
UNKNOWN_AUTHORITY = KafkaError(
    KafkaError._SSL,  # noqa: SLF001 - the same
    "sasl_ssl://127.0.0.1:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: "
    "broker certificate could not be verified (after 1ms in state SSL_HANDSHAKE)",
)
AWAY = KafkaError(
    KafkaError._TRANSPORT,  # noqa: SLF001 - the same
    "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
)


def hearing(*errors: KafkaError, security: SecuritySettings = SECURITY) -> Hearing:
    """A client that has heard of these."""
    heard = Hearing(ClientSettings(bootstrap="127.0.0.1:1", security=security))
    for error in errors:
        heard.hear(error)
    return heard


@pytest.mark.parametrize("error", [WRONG_PASSWORD, NO_TOKEN, NO_CERTIFICATE, UNKNOWN_AUTHORITY])
def test_a_refusal_is_one_that_trying_again_does_not_mend(error: KafkaError) -> None:
    """Whatever code librdkafka gives it."""
    assert is_refusal(error)
    assert not is_refusal(AWAY)


def test_a_refusal_is_certain_once_no_broker_is_left() -> None:
    """One of several brokers may be set up in another way."""
    assert hearing(WRONG_PASSWORD).refusal() is None

    error = hearing(WRONG_PASSWORD, DOWN).refusal()

    assert isinstance(error, ConfigurationError)
    expected = "127.0.0.1:1 does not let ann by PLAIN in: Authentication failed: Invalid username or password"
    assert expected == error.message


def test_a_token_that_cannot_be_had_is_waited_for() -> None:
    """Its endpoint may be away; without a token no broker is asked at all."""
    oidc = SecuritySettings(
        mechanism="OAUTHBEARER", token_endpoint_url="http://id/token", client_id="c", client_secret="cs"
    )

    error = hearing(NO_TOKEN, security=oidc).refusal()

    assert isinstance(error, SourceUnavailable)
    assert error.message.startswith("no token from http://id/token: Failed to connect")


def test_who_was_let_in_before_waits() -> None:
    """A password that is being changed must not end all workers."""
    heard = hearing()
    heard.welcomed()
    for error in (WRONG_PASSWORD, DOWN):
        heard.hear(error)

    assert isinstance(heard.refusal(), SourceUnavailable)


def test_what_was_heard_before_a_question_is_no_answer_to_it() -> None:
    """Except at the first: the client connects as soon as it is made."""
    first, later = hearing(WRONG_PASSWORD, DOWN), hearing()
    first.asked()
    later.welcomed()
    later.hear(WRONG_PASSWORD)
    later.hear(DOWN)
    later.asked()

    assert first.refusal() is not None
    assert later.refusal() is None


def test_silence_is_told_with_the_last_reason() -> None:
    """Instead of a time-out that may have any."""
    error = hearing(AWAY).unanswered("topic t", "Local: Timed out")

    assert isinstance(error, SourceUnavailable)
    assert error.message == "topic t: 127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused"
    assert "kafka.tls" in hearing(security=SecuritySettings()).unanswered("t", "Timed out").hint


def test_a_broker_that_repeats_a_secret_is_not_repeated() -> None:
    """Texts of others are shown with our secrets masked."""
    said = KafkaError(KafkaError._AUTHENTICATION, "127.0.0.1:1/1: no user with pw-of-ann")  # noqa: SLF001 - the same

    assert "pw-of-ann" not in " ".join(explained(said, SECURITY))
    assert "***" in explained(said, SECURITY)[0]


def test_a_client_that_cannot_begin_names_the_key_of_the_configuration() -> None:
    """Not a fault of ours, and not librdkafka's name alone."""
    settings = ClientSettings(bootstrap="127.0.0.1:1", security=SecuritySettings(tls=True, ca_file="/nowhere/ca.pem"))

    with pytest.raises(ConfigurationError, match=r"ssl\.ca\.location failed") as told:
        Administrator(settings)
    assert "kafka.tls.ca_file" in told.value.hint
    with pytest.raises(ConfigurationError):
        made(lambda: Consumer({**settings.librdkafka(), "group.id": "g"}))


def test_a_missing_right_is_a_mistake_of_the_configuration() -> None:
    """With where the rights are listed."""
    error = translated(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "topic t")

    assert isinstance(error, ConfigurationError)
    assert error.message.startswith("topic t: the broker refuses: ")
    assert "docs/operate.md" in error.hint


def test_no_tls_is_spoken_where_nobody_is() -> None:
    """Nor at an address that is none."""
    assert speaks_tls("127.0.0.1:1") == ""
    assert speaks_tls("nonsense") == ""


def test_a_refused_consumer_is_told_of_once_and_when_it_is_over() -> None:
    """The log says why no records come."""
    events: list[tuple[str, object]] = []
    partitions = Partitions(Routes(), incremental=False)
    settings = ConsumerSettings(bootstrap="b", group="g", security=SECURITY)
    watch = Watch(settings, lambda event, fields: events.append((event, fields["error"])))

    for error in (WRONG_PASSWORD, DOWN):
        partitions.hear_error(error)
    watch.hear(partitions)
    watch.hear(partitions)
    partitions.hear_statistics('{"brokers": {"b": {"state": "UP"}}}')
    watch.hear(partitions)

    assert [("broker_away", WRONG_PASSWORD.str()), ("broker_back", "")] == events
