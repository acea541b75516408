"""Apicurio Registry: a schema registry that others have made, with its own API and Confluent's, its schemas on disk."""

import http.client
import json
from pathlib import Path
from typing import Any

from tests.services.container import Container
from tests.services.jars import jars, version
from tests.services.java import java_command
from tests.services.runner import NativeProcess
from tests.services.service import WebService
from tests.services.waiting import free_port

IMAGE = "apicurio/apicurio-registry-mem"
MAIN_CLASS = "io.quarkus.runner.GeneratedMain"
CONFLUENT, APICURIO = "/apis/ccompat/v7", "/apis/registry/v2"


class Apicurio(WebService):
    """One registry. A restart keeps its port and its schemas, and so does a kill."""

    name = "registry"
    ready_seconds = 90.0
    own_port = 8080
    call_seconds = 30.0

    @classmethod
    def native(cls, folder: Path, *, brief: bool = False) -> "Apicurio":
        """A registry from its jars, with its database below `folder`. Not started yet."""
        port = free_port()
        data = folder / "data"
        data.mkdir()
        java = java_command(jars("apicurio"), heap="256m", brief=brief)
        process = NativeProcess(
            "registry",
            [*java, MAIN_CLASS],
            log_path=folder / "registry.log",
            environment=settings(port, data),
            data=data,
        )
        return cls(f"http://127.0.0.1:{port}", process)

    @classmethod
    def container(cls) -> "Apicurio":
        """A registry in a container. Not started yet."""
        port = free_port()
        image = f"{IMAGE}:{version('apicurio')}"
        return cls(f"http://127.0.0.1:{port}", Container("registry", image, environment=settings(port, Path("/tmp"))))  # noqa: S108  the container's own

    @property
    def url(self) -> str:
        """The address of Confluent's API."""
        return self.address + CONFLUENT

    @property
    def own_url(self) -> str:
        """The address of its own API."""
        return self.address + APICURIO

    def answers(self) -> bool:
        """Whether it lists its subjects."""
        try:
            return self.ask("GET", "/subjects")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def ask(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """One call of Confluent's API, as anybody's client makes it: status and document.

        Raises:
            OSError: there was no answer.
        """
        status, content = self.call(method, CONFLUENT + path, document)
        return status, json.loads(content or b"null")


def settings(port: int, folder: Path) -> dict[str, str]:
    """What it is told: where it listens, and to keep its database in a file that has each commit after a kill, too."""
    return {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{folder}/registry;WRITE_DELAY=0",
        "QUARKUS_DATASOURCE_JDBC_INITIAL_SIZE": "2",
        "QUARKUS_DATASOURCE_JDBC_MIN_SIZE": "2",
        "QUARKUS_DATASOURCE_JDBC_MAX_SIZE": "10",
    }
