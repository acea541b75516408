"""The configuration of one installation: where its Kafka, Redis, lake and destinations are, and its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from schemas.document import Strict, read_document
from schemas.mask import KeyName
from schemas.web_address import is_web_address

KIB = 1024
MIB = 1024 * KIB

Bytes = Annotated[int, Field(ge=KIB, le=16 * 1024 * MIB)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class TlsConfig(Strict):
    """Transport encryption to the broker; paths of PEM files."""

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: SecretStr | None = None
    verify_hostname: bool = True


class SaslConfig(Strict):
    """Authentication to the broker."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    username: str | None = None
    password: SecretStr | None = None
    token_endpoint_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    scope: str | None = None


class KafkaConfig(Strict):
    """The broker. `embedded` is the demo's; `at_least_once` is for brokers without transactions."""

    bootstrap: str = "127.0.0.1:9092"
    broker: Literal["kafka", "embedded"] = "kafka"
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    group_protocol: Literal["classic", "consumer"] = "classic"
    group_prefix: str = "headgate"
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "headgate"
    replication_factor: Annotated[int, Field(ge=1, le=10)] = 1
    session_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = 10.0
    static_membership: bool = False
    message_bytes_max: Bytes = 1 * MIB
    changes_retention_hours: Annotated[int, Field(ge=1)] = 7 * 24
    quarantine_retention_hours: Annotated[int, Field(ge=1)] = 30 * 24
    tls: TlsConfig | None = None
    sasl: SaslConfig | None = None

    @field_validator("tls", "sasl", mode="before")
    @classmethod
    def _said_or_left_out(cls, value: Any) -> Any:
        """Refuse a key without anything behind it: `tls:` alone would mean plain text to us, and TLS to its writer."""
        if value is None:
            raise ValueError("nothing stands behind it; write {} for what is the default, or leave it out")
        return value


class RedisConfig(Strict):
    """The online feature store."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")] = "hg"
    buckets: Annotated[int, Field(ge=1, le=256)] = 64
    timeout_seconds: Seconds = 5.0
    row_bytes_max: Bytes = 64 * KIB
    outbox_bytes_max: Bytes = 64 * MIB  # feature updates that wait for the relay, over all buckets

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        if not _is_redis(value.get_secret_value()):
            raise ValueError("no address of a Redis; write redis://host:6379/0, and / ? # [ ] of a password as %2F …")
        return value


def _is_redis(url: str) -> bool:
    try:
        scheme, _ = (parts := urlsplit(url)).scheme, parts.port
    except ValueError:  # its text may repeat the password
        return False
    return scheme in {"redis", "rediss", "unix"}


class LakeConfig(Strict):
    """The lake. `warehouse` is a folder or an `s3://` address; `s3://` needs a shared catalogue."""

    warehouse: str = "lake"
    catalog: Literal["sql", "rest", "glue"] = "sql"
    catalog_uri: SecretStr | None = None
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")] = "headgate"
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    commit_rows_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    commit_bytes_max: Bytes = 24 * MIB
    commit_age_seconds: Seconds = 60.0
    buffer_bytes_max: Bytes = 48 * MIB
    snapshots_kept: Annotated[int, Field(ge=2, le=1_000)] = 20
    sweep_grace_seconds: Annotated[float, Field(ge=0)] = 3_600.0


class Destination(Strict):
    """A webhook that takes alerts, signed by the Standard Webhooks rules (`secret` begins with `whsec_`)."""

    url: str
    secret: SecretStr
    allow_private_addresses: bool = False
    timeout_seconds: Seconds = 10.0
    quick_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    retry_for_seconds: Seconds = 24 * 3600.0
    attempts_max: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    start: Literal["latest", "earliest"] = "latest"  # where a destination begins that was never there
    severities: list[Literal["info", "warning", "critical"]] = ["info", "warning", "critical"]


class WebConfig(Strict):
    """Where each stage serves `/healthz`, `/readyz`, `/metrics` and `/status`; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    state_folder: str = ".headgate"  # where running stages leave their addresses and locks


class LimitsConfig(Strict):
    """What one worker holds at most."""

    lane_bytes_max: Bytes = 32 * MIB
    chunk_records_max: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    group_records_max: Annotated[int, Field(ge=1, le=1_000_000)] = 16_000
    record_depth_max: Annotated[int, Field(ge=4, le=900)] = 100
    record_bytes_max: Bytes = 4 * MIB
    record_values_max: Annotated[int, Field(ge=1_000, le=100_000_000)] = 250_000  # of one record of Avro
    drain_seconds: Seconds = 8.0
    tenant_bytes_per_second: Bytes | None = None  # that one worker reads of a tenant beside others; more waits for them
    redrive_max_age_hours: Annotated[int, Field(ge=1)] = 7 * 24  # older changes of a row are not sent again
    parked_bytes_max: Bytes = 1024 * MIB  # of a paused table, in each partition of a topic that it shares
    rebuild_bytes_max: Bytes = 256 * MIB  # what DuckDB holds while Redis is filled from the lake


class RegistryConfig(Strict):
    """The schema registry, for formats whose records name their schema by an id.

    `urls` are addresses of one registry with the path of its API, the first that answers is asked: of Confluent's API
    `https://host:8081` (of Apicurio's own copy of it `https://host/apis/ccompat/v7`), of Apicurio's
    `https://host/apis/registry/v3` or `/v2`. `ids` says which of Apicurio's two numbers records carry, `id_size` how
    long they are (8: Apicurio's legacy form), `ids_in` where they stand.
    """

    urls: Annotated[list[str], Field(min_length=1)]
    api: Literal["confluent", "apicurio"] = "confluent"
    ids: Literal["global", "content"] = "global"
    id_size: Literal[4, 8] = 4
    ids_in: Literal["payload", "headers", "either"] = "payload"
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    tls: TlsConfig = TlsConfig()
    timeout_seconds: Annotated[float, Field(gt=0, le=15)] = 5.0  # a transaction may be open meanwhile
    inflated_bytes_max: Bytes = 4 * MIB

    @field_validator("urls")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        if not all(is_web_address(url) for url in value):
            raise ValueError("each is an address such as https://host:8081; a user and password are keys of their own")
        return value

    @model_validator(mode="after")
    def _halves(self) -> RegistryConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and self.token is not None:
            raise ValueError("a registry takes a username and password, or a token, not both")
        if (self.tls.certificate_file is None) != (self.tls.key_file is None):
            raise ValueError("tls: certificate_file and key_file go together")
        return self


Reference = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+)$", max_length=2_000)]


class MaskKey(Strict):
    """A key of masks, by where its secret is: `env:NAME`, `file:PATH` or `command:WHAT IS RUN`.

    `secret` makes hashes and tokens, and never changes. Of `encrypt` the first encrypts and all decrypt; left out, that
    is `secret` as well.
    """

    secret: Reference
    encrypt: Annotated[list[Reference], Field(max_length=100)] = []


def _read_mask_key(value: Any) -> Any:
    return {"secret": value} if isinstance(value, str) else value


class MasksConfig(Strict):
    """The keys that tables name in their masks; a table that names none takes `default`."""

    keys: Annotated[dict[KeyName, Annotated[MaskKey, BeforeValidator(_read_mask_key)]], Field(max_length=10_000)] = {}
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 10.0  # of a command: a transaction may be open meanwhile


class Config(Strict):
    """All of it; every key has a default, so an empty document is a local installation."""

    kafka: KafkaConfig = KafkaConfig()
    redis: RedisConfig = RedisConfig()
    lake: LakeConfig = LakeConfig()
    registry: RegistryConfig | None = None
    notify: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], Destination] = {}
    web: WebConfig = WebConfig()
    limits: LimitsConfig = LimitsConfig()
    masks: MasksConfig = MasksConfig()
    unregistered: Literal["ignore", "quarantine"] = "ignore"


def read_config(text: str, *, name: str) -> Config:
    """Return the configuration that a YAML text describes.

    Raises:
        ConfigurationError: it names file, line, key, and the nearest right one.
    """
    return read_document(text, Config, name=name)
