"""Kafka Connect, a distributed worker of one, with Debezium's connectors for PostgreSQL and MariaDB.

Distributed, as in production and in Debezium's image: connectors and their offsets live in Kafka, so a worker that was
killed comes back with both.
"""

import http.client
import json
from pathlib import Path
from typing import Any

from tests.services.container import Container, image
from tests.services.jars import PLUGINS, jars
from tests.services.java import java_command
from tests.services.runner import NativeProcess
from tests.services.service import WebService
from tests.services.waiting import free_port

# docker-compose.yml has them too, and a test compares. Values come without the schema block, as the bench's do.
SETTINGS = {
    "group.id": "headgate-connect",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.partitions": "1",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "offset.flush.interval.ms": "1000",
    "topic.creation.enable": "true",
    # The only worker is also the next one: do not wait five minutes for another to come back.
    "scheduled.rebalance.max.delay.ms": "0",
}


class ConnectRefused(Exception):
    """Connect answered a request with an error; the message is its own."""


class Connect(WebService):
    """One worker. A restart keeps its port, its connectors and their offsets."""

    name = "connect"
    ready_seconds = 90.0
    own_port = 8083

    @classmethod
    def native(cls, folder: Path, kafka_address: str, *, brief: bool = False) -> "Connect":
        """A worker from its jars, for the broker at `kafka_address`. Not started yet."""
        port = free_port()
        plugins = folder / "plugins"
        plugins.mkdir()
        for name in PLUGINS:
            (plugins / name).symlink_to(jars(name))
        properties = folder / "worker.properties"
        lines = {
            **worker_settings(port, kafka_address),
            "plugin.path": str(plugins),
            # The default also scans every class of every jar, which takes 25 s.
            "plugin.discovery": "service_load",
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        main_class = "org.apache.kafka.connect.cli.ConnectDistributed"
        java = java_command(jars("connect"), heap="384m", brief=brief)
        process = NativeProcess(
            "connect",
            [*java, main_class, str(properties)],
            log_path=folder / "connect.log",
        )
        return cls(f"http://127.0.0.1:{port}", process)

    @classmethod
    def container(cls, kafka_address: str) -> "Connect":
        """A worker in Debezium's container. Not started yet."""
        port = free_port()
        environment = image_environment(worker_settings(port, kafka_address))
        container = Container("connect", image("connect"), environment=environment)
        return cls(f"http://127.0.0.1:{port}", container)

    def answers(self) -> bool:
        """Whether it has joined its group and lists its connectors."""
        try:
            self.request("GET", "/connectors")
        except (OSError, ConnectRefused, http.client.HTTPException):
            return False
        return True

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the REST interface; the decoded answer, None where it has no body.

        Raises:
            ConnectRefused: the answer was an error.
            OSError: there was no answer.
        """
        status, content = self.call(method, path, body)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ConnectRefused(f"{method} {path}: {status}: {content.decode(errors='replace')}")
        return json.loads(content) if content else None


def worker_settings(port: int, kafka_address: str) -> dict[str, str]:
    """The settings of a worker that shares its broker with others, but neither its group nor its topics."""
    own = ("group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic")
    return {
        **SETTINGS,
        **{name: f"{SETTINGS[name]}-{port}" for name in own},
        "bootstrap.servers": kafka_address,
        "listeners": f"http://127.0.0.1:{port}",
        "rest.advertised.host.name": "127.0.0.1",
    }


def image_environment(settings: dict[str, str]) -> dict[str, str]:
    """Worker settings as Debezium's image takes them: four by names of its own, the others as CONNECT_…."""
    own = {
        "bootstrap.servers": "BOOTSTRAP_SERVERS",
        "group.id": "GROUP_ID",
        "config.storage.topic": "CONFIG_STORAGE_TOPIC",
        "offset.storage.topic": "OFFSET_STORAGE_TOPIC",
        "status.storage.topic": "STATUS_STORAGE_TOPIC",
        "key.converter": "KEY_CONVERTER",
        "value.converter": "VALUE_CONVERTER",
    }
    return {own.get(name, "CONNECT_" + name.upper().replace(".", "_")): value for name, value in settings.items()}
