"""The configuration, turned into what the transport takes."""

from __future__ import annotations

from pydantic import SecretStr

from connectors.security import SecuritySettings
from connectors.transport.settings import ClientSettings, ConsumerSettings, ProducerSettings
from schemas.config import Config


def security_settings(config: Config) -> SecuritySettings:
    """Return how clients prove themselves to the broker."""
    tls, sasl = config.kafka.tls, config.kafka.sasl
    return SecuritySettings(
        tls=tls is not None,
        ca_file=tls.ca_file if tls else None,
        certificate_file=tls.certificate_file if tls else None,
        key_file=tls.key_file if tls else None,
        key_password=_plain(tls.key_password) if tls else None,
        verify_hostname=tls.verify_hostname if tls else True,
        mechanism=sasl.mechanism if sasl else None,
        username=sasl.username if sasl else None,
        password=_plain(sasl.password) if sasl else None,
        token_endpoint_url=sasl.token_endpoint_url if sasl else None,
        client_id=sasl.client_id if sasl else None,
        client_secret=_plain(sasl.client_secret) if sasl else None,
        scope=sasl.scope if sasl else None,
    )


def client_settings(config: Config) -> ClientSettings:
    """Return what administration, readers and small writers need."""
    return ClientSettings(bootstrap=config.kafka.bootstrap, security=security_settings(config))


def group_of(config: Config, stage: str) -> str:
    """Return the consumer group of a stage."""
    return f"{config.kafka.group_prefix}-{stage}"


def consumer_settings(config: Config, stage: str, slot: str) -> ConsumerSettings:
    """Return how the worker of `slot` reads."""
    kafka = config.kafka
    return ConsumerSettings(
        bootstrap=kafka.bootstrap,
        group=group_of(config, stage),
        security=security_settings(config),
        group_protocol=kafka.group_protocol,
        session_timeout_seconds=kafka.session_timeout_seconds,
        instance_id=slot if kafka.static_membership else None,
        topic_ids=not is_embedded(config),
        chunk_records_max=config.limits.chunk_records_max,
        drain_seconds=config.limits.drain_seconds,
        client_id=f"headgate-{slot}",
    )


def producer_settings(config: Config, slot: str, *, transactional: bool) -> ProducerSettings:
    """Return how the worker of `slot` writes.

    Its transactional id is the slot's, so that its successor ends what it left open.
    """
    return ProducerSettings(
        bootstrap=config.kafka.bootstrap,
        transactional_id=f"{config.kafka.group_prefix}-{slot}" if transactional else None,
        security=security_settings(config),
        message_bytes_max=config.kafka.message_bytes_max,
        client_id=f"headgate-{slot}",
    )


def is_embedded(config: Config) -> bool:
    """Tell whether the broker is the demo's: no ids, no administration, no transactions."""
    return config.kafka.broker == "embedded"


def is_transactional(config: Config) -> bool:
    """Tell whether outputs and offsets are one Kafka transaction."""
    return config.kafka.guarantee == "exactly_once" and not is_embedded(config)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
