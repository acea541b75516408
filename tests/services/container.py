"""A service as a container, where a Docker daemon answers.

Containers use the host's network: an address is then the same for the tests, for the other containers and for the
processes under test. (Docker Desktop has this as a setting; elsewhere it is always there.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from testcontainers.core.container import DockerContainer

from tests.services.runner import LOG_TAIL_LINES

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def image(service: str) -> str:
    """The image that docker-compose.yml runs for a service: tests and people use the same."""
    name = yaml.safe_load(COMPOSE.read_text())["services"][service]["image"]
    assert isinstance(name, str), f"{service} has an image in docker-compose.yml"
    return name


class Container:
    """A service in a container that is kept, with its data, from one start to the next."""

    def __init__(
        self,
        name: str,
        image_name: str,
        *,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self._name = name
        container = DockerContainer(image_name).with_kwargs(network_mode="host")
        for variable, value in (environment or {}).items():
            container = container.with_env(variable, value)
        if command is not None:
            container = container.with_command(list(command))
        self._container = container
        self._created = False

    def start(self) -> None:
        """Create the container at first, start it again afterwards."""
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True

    def stop(self, *, grace_seconds: float) -> None:
        """SIGTERM to its first process, SIGKILL after `grace_seconds`."""
        if self._created:
            self._container.get_wrapped_container().stop(timeout=int(grace_seconds))

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        """Freeze all its processes."""
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        """Let them go on."""
        self._container.get_wrapped_container().unpause()

    def runs(self) -> bool:
        """Whether Docker says that it runs or is paused."""
        if not self._created:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped.status in {"created", "running", "paused", "restarting"}

    def log_tail(self) -> str:
        """The last lines that Docker kept of it."""
        if not self._created:
            return f"{self._name} was not created"
        return bytes(self._container.get_wrapped_container().logs(tail=LOG_TAIL_LINES)).decode(errors="replace")

    def close(self) -> None:
        """Remove the container with its data."""
        if self._created:
            self._container.stop()
            self._created = False
