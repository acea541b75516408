"""A broker that lets nobody in without TLS and a password, a token or a certificate, and who may do what there."""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import headgate
from streams.tenant_rights import KafkaRight
from tests.services import Authority, Certificate, Kafka, Listener, Services

START = [sys.executable, "-P", str(Path(headgate.__file__).with_name("__main__.py"))]
ONE_TABLE = """\
table: {table}
topics: [{topic}]
format: debezium-json
key: [id]
columns: {{id: int, name: string}}
"""
SECRETS = {
    "PLAIN_PASSWORD": "s3cret-of-plain",
    "SCRAM_PASSWORD": "s3cret-of-scram",
    "STRANGER_PASSWORD": "s3cret-of-stranger",
    "CLIENT_SECRET": "s3cret-of-token",
    "KEY_PASSWORD": "s3cret-of-key",
    "WRONG_PASSWORD": "s3cret-that-is-wrong",
}
MODULE = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    """A broker that lets in `headgate`, who may do what docs/operate.md lists, and `stranger`, who may do nothing."""

    kafka: Kafka
    sasl: Listener
    mutual: Listener
    authority: Authority
    client: Certificate
    token_url: str

    def tls(self, **more: Any) -> dict[str, Any]:
        """What trusts the broker."""
        return {"ca_file": str(self.authority.ca_file), **more}

    def way(self, name: str) -> dict[str, Any]:
        """How to come in, as the part `kafka` of a configuration."""
        if name == "certificate":
            own = {"certificate_file": str(self.client.certificate), "key_file": str(self.client.key)}
            return {"bootstrap": self.mutual.address, "tls": self.tls(**own, key_password="${KEY_PASSWORD}")}
        secret = "${PLAIN_PASSWORD}" if name == "PLAIN" else "${SCRAM_PASSWORD}"
        sasl = {"mechanism": name, "username": "headgate", "password": secret}
        if name == "OAUTHBEARER":
            client = {"client_id": "headgate", "client_secret": "${CLIENT_SECRET}"}
            sasl = {"mechanism": name, "token_endpoint_url": self.token_url, **client}
        return {"bootstrap": self.sasl.address, "tls": self.tls(), "sasl": sasl}


class TokenEndpoint(BaseHTTPRequestHandler):
    """Gives a token that Kafka takes unsigned, in its default for trials, to a client that knows the secret."""

    def do_POST(self) -> None:
        expected = base64.b64encode(f"headgate:{SECRETS['CLIENT_SECRET']}".encode()).decode()
        known = self.headers.get("Authorization") == f"Basic {expected}"
        now = int(time.time())
        claims = {"sub": "headgate", "iat": now, "exp": now + 300}
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
        token = b".".join([*parts, b""]).decode()
        said = {"access_token": token, "token_type": "bearer", "expires_in": 300} if known else {"error": "no client"}
        body = json.dumps(said).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        return


@contextmanager
def token_endpoint() -> Iterator[str]:
    """The address of a token endpoint of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenEndpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start_secured(services: Services, folder: Path, token_url: str) -> Secured:
    """A broker with a plain listener for the tests themselves beside the secured ones; its topics, users and rights."""
    authority = Authority(folder)
    tls = identity_of(authority.sign("broker", addresses="IP:127.0.0.1"), authority)
    sasl = Listener("SECURED", "SASL_SSL", {**tls, **logins()})
    rule = {"ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/"}
    mutual = Listener("MUTUAL", "SSL", {**tls, **rule, "ssl.client.auth": "required"})
    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    kafka = services.kafka(rights, private=True, listeners=[sasl, mutual])
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        login = ScramCredentialInfo(mechanism, 4096)
        password = SECRETS["SCRAM_PASSWORD"].encode()
        finish(admin.alter_user_scram_credentials([UserScramCredentialUpsertion("headgate", login, password)]))
    finish(admin.create_acls(rights_of_headgate()))
    finish(admin.create_topics([NewTopic("town.patients", 2, 1), NewTopic("closed.patients", 1, 1)]))
    client = authority.sign("headgate", password=SECRETS["KEY_PASSWORD"])
    return Secured(kafka, sasl, mutual, authority, client, token_url)


def finish(futures: Mapping[Any, Any]) -> None:
    """Wait for what an administration client was asked."""
    for future in futures.values():
        future.result(10)


def identity_of(server: Certificate, authority: Authority) -> dict[str, str]:
    """A broker's certificate, and whose clients it trusts, without files of its own."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": server.certificate.read_text(),
        "ssl.keystore.key": server.key.read_text(),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": authority.ca_file.read_text(),
    }


def logins() -> dict[str, str]:
    """How users log in: PLAIN's are in the configuration, SCRAM's in the cluster, tokens are taken unsigned."""
    users = {"headgate": SECRETS["PLAIN_PASSWORD"], "stranger": SECRETS["STRANGER_PASSWORD"]}
    plain = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    token = f'{MODULE}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    scram = f"{MODULE}.scram.ScramLoginModule required;"
    return {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "plain.sasl.jaas.config": f"{MODULE}.plain.PlainLoginModule required {plain};",
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
        "oauthbearer.sasl.jaas.config": token,
    }


def rights_of_headgate() -> list[AclBinding]:
    """No more than docs/operate.md lists; two groups of prefixes have one half of what a stage needs."""
    topics = [AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.ALTER]
    wanted = [
        *((ResourceType.TOPIC, "headgate.", operation) for operation in topics),
        (ResourceType.TOPIC, "town.", AclOperation.READ),
        (ResourceType.GROUP, "headgate-", AclOperation.READ),
        (ResourceType.TRANSACTIONAL_ID, "headgate-", AclOperation.WRITE),
        (ResourceType.TRANSACTIONAL_ID, "nogroup-", AclOperation.WRITE),
        (ResourceType.GROUP, "noid-", AclOperation.READ),
    ]
    return [
        AclBinding(kind, name, ResourcePatternType.PREFIXED, "User:headgate", "*", operation, AclPermissionType.ALLOW)
        for kind, name, operation in wanted
    ]


def let_in(secured: Secured, user: str, rights: Iterable[KafkaRight]) -> dict[str, Any]:
    """Make a user who may do this and no more; return how its clients come in."""
    admin = AdminClient({"bootstrap.servers": secured.kafka.address})
    login = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    password = SECRETS["SCRAM_PASSWORD"].encode()
    finish(admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, login, password)]))
    finish(admin.create_acls([binding for right in rights for binding in bindings(right, user)]))
    tls = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(secured.authority.ca_file), "log_level": 0}
    sasl = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": SECRETS["SCRAM_PASSWORD"]}
    return {"bootstrap.servers": secured.sasl.address, **tls, **sasl}


def bindings(right: KafkaRight, user: str) -> list[AclBinding]:
    """A right of ours as Kafka's administration takes it."""
    kind = ResourceType[right.resource.upper().replace("-", "_")]
    pattern = ResourcePatternType[right.pattern.upper()]
    return [
        AclBinding(kind, right.name, pattern, f"User:{user}", "*", AclOperation[name.upper()], AclPermissionType.ALLOW)
        for name in right.operations
    ]


@contextmanager
def not_to_be_made(secured: Secured, topic: str) -> Iterator[None]:
    """Have a topic that `headgate` may not make, as long as the context lasts."""
    what = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:headgate", "*", AclOperation.CREATE)
    admin = AdminClient({"bootstrap.servers": secured.kafka.address})
    finish(admin.create_acls([AclBinding(*what, AclPermissionType.DENY)]))
    try:
        yield
    finally:
        finish(admin.delete_acls([AclBindingFilter(*what, AclPermissionType.DENY)]))


def produce_patient(secured: Secured, key: int, topic: str = "town.patients") -> None:
    """Write one change of a patient to a source topic, as Debezium does without the schema block."""
    source = {"connector": "postgresql", "db": "town", "schema": "public", "table": "patients", "snapshot": "false"}
    source |= {"name": "town", "lsn": str(1000 + key), "txId": str(key), "version": "3.7.0.Final"}
    row = {"id": key, "name": "Ada"}
    value = {"before": None, "after": row, "op": "c", "source": {**source, "ts_ms": 1, "lsn": 1000 + key, "txId": key}}
    producer = Producer({"bootstrap.servers": secured.kafka.address})
    producer.produce(topic, key=json.dumps({"id": key}), value=json.dumps({**value, "ts_ms": 1}))
    assert producer.flush(10) == 0


def changes(secured: Secured, prefix: str, table: str = "patients") -> tuple[list[int], int]:
    """Return the ids in a table's topic of changes, as readers of committed records see them, and its ends."""
    reader = Consumer({"bootstrap.servers": secured.kafka.address, "group.id": "look", "enable.auto.commit": False,
                       "isolation.level": "read_committed", "log_level": 0})  # fmt: skip
    topic = f"{prefix}.changes.{table}"
    try:
        if topic not in reader.list_topics(timeout=10).topics:
            return [], 0
        partitions = [TopicPartition(topic, number, 0) for number in range(2)]
        ends = sum(reader.get_watermark_offsets(each, timeout=10)[1] for each in partitions)
        reader.assign(partitions)
        found = [json.loads(m.value() or b"") for m in reader.consume(100, 1.0) if m.error() is None]
        return sorted(change["after"]["id"] for change in found), ends
    except KafkaException:  # right after its creation a topic may have no leader yet; the caller looks again
        return [], 0
    finally:
        reader.close()


def no_secret_in(text: str) -> bool:
    """Whether a text is free of all our secrets."""
    return "s3cret" not in text


def first_answer(reader: Consumer) -> str:
    """Return the first value that a consumer gets, or the name of the error."""
    deadline = time.monotonic() + 60
    while (message := reader.poll(1.0)) is None:
        assert time.monotonic() < deadline, "no answer came"
    error = message.error()
    return error.name() if error is not None else (message.value() or b"").decode()


def apply_tables(folder: Path, **topics: str) -> list[str]:
    """Write a spec per table, and return the options that apply them."""
    folder.mkdir(exist_ok=True)
    for table, topic in topics.items():
        (folder / f"{table}.yaml").write_text(ONE_TABLE.format(table=table, topic=topic))
    return ["--apply", str(folder)]


class Running:
    """One `headgate run`, with what it wrote."""

    def __init__(self, config: Path, log: Path, options: tuple[str, ...]) -> None:
        self._log = log
        command = [*START, "run", *options, "--config", str(config)]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, cwd=log.parent)

    @property
    def log(self) -> str:
        """What it wrote so far, on either stream."""
        return self._log.read_text()

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
