"""Redis: one server without persistence, so that a restart loses everything, unless a dump was made."""

from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.container import Container, image
from tests.services.runner import NativeProcess, Runner
from tests.services.service import Service
from tests.services.system import require_program
from tests.services.waiting import free_port


class RedisServer(Service):
    """One Redis. What `save()` has written, and only that, is there after a kill or restart."""

    name = "redis"
    ready_seconds = 20.0
    grace_seconds = 5.0

    def __init__(self, host: str, port: int, runner: Runner | None, *, database: int = 0) -> None:
        super().__init__(runner)
        self.host = host
        self.port = port
        self.database = database

    @classmethod
    def native(cls, folder: Path, settings: Mapping[str, str] | None = None) -> "RedisServer":
        """The system's redis-server, with its dumps below `folder`. Not started yet."""
        port = free_port()
        data = folder / "data"
        data.mkdir(parents=True)
        own = redis_settings(port, settings or {})
        command = [require_program("redis-server"), *own, "--bind", "127.0.0.1", "--dir", str(data)]
        return cls("127.0.0.1", port, NativeProcess("redis", command, log_path=folder / "redis.log", data=data))

    @classmethod
    def container(cls, settings: Mapping[str, str] | None = None) -> "RedisServer":
        """A Redis in a container. Not started yet."""
        port = free_port()
        command = ["redis-server", *redis_settings(port, settings or {})]
        return cls("127.0.0.1", port, Container("redis", image("redis"), command=command))

    @property
    def address(self) -> str:
        """`redis://host:port/database`."""
        return f"redis://{self.host}:{self.port}/{self.database}"

    def client(self) -> "redis.Redis":
        """A new synchronous client, for oracles; the caller closes it."""
        return self._client(timeout_seconds=10)

    def answers(self) -> bool:
        """Whether it answers PING (while it loads a dump it does not)."""
        with self._client(timeout_seconds=2) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError):
                return False

    def is_loading(self) -> bool:
        """Whether it runs, and answers that it still loads its dump."""
        with self._client(timeout_seconds=2) as client:
            try:
                client.ping()
            except redis.exceptions.BusyLoadingError:
                return True
            except (redis.ConnectionError, redis.TimeoutError):
                return False
        return False

    def _client(self, *, timeout_seconds: float) -> "redis.Redis":
        never = Retry(NoBackoff(), 0)  # the library's own retries would hide that the server is away
        return redis.Redis(
            host=self.host, port=self.port, db=self.database, socket_timeout=timeout_seconds, retry=never
        )

    def in_database(self, number: int) -> "RedisServer":
        """Another database of the same server, which then belongs to whoever named it."""
        return RedisServer(self.host, self.port, None, database=number)

    def flush(self) -> None:
        """Remove every key of its database."""
        with self.client() as client:
            client.flushdb()

    def save(self) -> None:
        """Write a dump: what it holds now is what the next start begins with."""
        with self.client() as client:
            client.save()


def redis_settings(port: int, settings: Mapping[str, str]) -> list[str]:
    """Nothing on disk unless asked, and SIGTERM does not ask: a loss in a fault test is a real one."""
    given = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ["--port", str(port), "--save", "", "--appendonly", "no", *given]
