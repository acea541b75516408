"""Apache Kafka in KRaft mode: one node that is broker and controller."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Listener:
    """One more listener of a private broker, beside the plain one: its name, its protocol, and settings of its own.

    The names in `settings` are those behind `listener.name.<name>.`; a value may be PEM text of several lines. What
    clients are told is `advertised`, such as the address of a proxy; its own if it is left out.
    """

    name: str
    protocol: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    advertised: str = ""

    @property
    def address(self) -> str:
        """`host:port`, where it listens."""
        return f"127.0.0.1:{self.port}"


class Kafka(Service):
    """One broker. A restart keeps its port and its data."""

    name = "kafka"

    def __init__(self, address: str, runner: Runner | None) -> None:
        super().__init__(runner)
        self._address = address

    @classmethod
    def native(
        cls,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        *,
        brief: bool = False,
    ) -> "Kafka":
        """A broker from its jars, with its data below `folder`; `settings` go over ours. Not started yet."""
        port = free_port()
        libs = jars("kafka")
        properties = folder / "server.properties"
        ours = broker_settings(port, free_port(), listeners)
        lines = {**ours, "log.dirs": str(folder / "data"), **(settings or {})}
        properties.write_text("".join(f"{name}={_one_line(value)}\n" for name, value in lines.items()))
        _format_storage(libs, properties)
        process = NativeProcess(
            "kafka",
            [*java_command(libs, heap="512m", brief=brief), "kafka.Kafka", str(properties)],
            log_path=folder / "kafka.log",
            data=folder / "data",
        )
        return cls(f"127.0.0.1:{port}", process)

    @classmethod
    def container(cls, settings: Mapping[str, str] | None = None, listeners: Sequence[Listener] = ()) -> "Kafka":
        """A broker in a container. Not started yet."""
        port = free_port()
        lines = {**broker_settings(port, free_port(), listeners), **(settings or {})}
        environment = {_variable(name): _one_line(value) for name, value in lines.items()}
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

    def wait_topic(self, topic: str, *, partitions: int = 1, deadline_seconds: float = 60.0) -> None:
        """Return once a topic is there with at least so many partitions (others create them at their own time)."""
        admin = AdminClient({"bootstrap.servers": self._address, "log_level": 0})

        def there() -> bool:
            found = admin.list_topics(timeout=10).topics.get(topic)
            return found is not None and found.error is None and len(found.partitions) >= partitions

        wait_until(there, f"topic {topic}", deadline_seconds=deadline_seconds)


def broker_settings(port: int, controller_port: int, listeners: Sequence[Listener] = ()) -> dict[str, str]:
    """The settings of one node that listens on 127.0.0.1: in plain text, and as `listeners` say."""
    more = "".join(f",{each.name}://{each.address}" for each in listeners)
    told = "".join(f",{each.name}://{each.advertised or each.address}" for each in listeners)
    protocols = "".join(f",{each.name}:{each.protocol}" for each in listeners)
    return {
        **SETTINGS,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}{told}",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        **{
            f"listener.name.{each.name.lower()}.{name}": value
            for each in listeners
            for name, value in each.settings.items()
        },
    }


def _one_line(value: str) -> str:
    r"""A value of several lines as a properties file has it: `\n` is read as the end of a line."""
    return value.strip().replace("\n", "\\n")


def _variable(name: str) -> str:
    """The variable by which the image is given a setting: `_` for a dot, `___` for a dash."""
    return "KAFKA_" + name.upper().replace("_", "__").replace("-", "___").replace(".", "_")


def _format_storage(libs: Path, properties: Path) -> None:
    command = [*java_command(libs, heap="128m", brief=True), "kafka.tools.StorageTool", "format"]
    run = subprocess.run(
        [*command, "-t", CLUSTER_ID, "-c", str(properties)], capture_output=True, text=True, timeout=60, check=False
    )
    if run.returncode:
        raise ServiceFailed(f"kafka could not format its storage:\n{run.stdout}{run.stderr}")
