"""Apache Kafka in KRaft mode: one node that is broker and controller."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.services.container import Container, image
from tests.services.jars import jars
from tests.services.java import java_command
from tests.services.runner import NativeProcess, Runner, ServiceFailed
from tests.services.service import Service
from tests.services.waiting import free_port, listens, wait_until

CLUSTER_ID = "aGVhZGdhdGUtdGVzdHMtMQ"  # 22 characters, as Kafka wants its cluster ids

# The same for every way to start one; docker-compose.yml has them too, and a test compares.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A topic that nobody asked for hides a mistake: Headgate creates its own.
    "auto.create.topics.enable": "false",
}


class Kafka(Service):
    """One broker. A restart keeps its port and its data."""

    name = "kafka"

    def __init__(self, address: str, runner: Runner | None) -> None:
        super().__init__(runner)
        self._address = address

    @classmethod
    def native(cls, folder: Path, settings: Mapping[str, str] | None = None) -> "Kafka":
        """A broker from its jars, with its data below `folder`; `settings` go over ours. Not started yet."""
        port = free_port()
        libs = jars("kafka")
        properties = folder / "server.properties"
        lines = {**broker_settings(port, free_port()), "log.dirs": str(folder / "data"), **(settings or {})}
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        _format_storage(libs, properties)
        process = NativeProcess(
            "kafka",
            [*java_command(libs, heap="512m"), "kafka.Kafka", str(properties)],
            log_path=folder / "kafka.log",
            data=folder / "data",
        )
        return cls(f"127.0.0.1:{port}", process)

    @classmethod
    def container(cls, settings: Mapping[str, str] | None = None) -> "Kafka":
        """A broker in a container. Not started yet."""
        port = free_port()
        lines = {**broker_settings(port, free_port()), **(settings or {})}
        environment = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in lines.items()}
        container = Container("kafka", image("kafka"), environment={**environment, "CLUSTER_ID": CLUSTER_ID})
        return cls(f"127.0.0.1:{port}", container)

    @property
    def address(self) -> str:
        """`host:port`, as `bootstrap.servers` wants it."""
        return self._address

    def answers(self) -> bool:
        """Whether the broker lists its topics."""
        host, port = self._address.split(",")[0].rsplit(":", 1)
        if not listens(int(port), host):
            return False
        try:
            # librdkafka would print the refused connections of a start to stderr.
            admin = AdminClient({"bootstrap.servers": self._address, "log_level": 0})
            return bool(admin.list_topics(timeout=2).brokers)
        except Exception:  # noqa: BLE001  the caller decides, by its deadline: any failure means "not yet"
            return False

    def wait_topic(self, topic: str, *, partitions: int = 1, deadline_seconds: float = 30.0) -> None:
        """Return once a topic is there with at least so many partitions (others create them at their own time)."""
        admin = AdminClient({"bootstrap.servers": self._address, "log_level": 0})

        def there() -> bool:
            found = admin.list_topics(timeout=10).topics.get(topic)
            return found is not None and found.error is None and len(found.partitions) >= partitions

        wait_until(there, f"topic {topic}", deadline_seconds=deadline_seconds)


def broker_settings(port: int, controller_port: int) -> dict[str, str]:
    """The settings of one node that listens on 127.0.0.1."""
    return {
        **SETTINGS,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
    }


def _format_storage(libs: Path, properties: Path) -> None:
    command = [*java_command(libs, heap="128m"), "kafka.tools.StorageTool", "format"]
    run = subprocess.run(
        [*command, "-t", CLUSTER_ID, "-c", str(properties)], capture_output=True, text=True, timeout=60, check=False
    )
    if run.returncode:
        raise ServiceFailed(f"kafka could not format its storage:\n{run.stdout}{run.stderr}")
