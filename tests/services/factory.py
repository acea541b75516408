"""Which service comes from where, and who ends them all."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tests.services.apicurio import Apicurio
from tests.services.connect import Connect
from tests.services.kafka import Kafka, Listener
from tests.services.mariadb import MariaDB
from tests.services.postgres import Postgres
from tests.services.redis import RedisServer
from tests.services.s3 import S3
from tests.services.service import Service
from tests.services.system import ADDRESS_VARIABLES, docker_answers

S = TypeVar("S", bound=Service)


class Services:
    """Starts services below one folder, and ends all it has started on `close`, the last first.

    `brief` ones cost less and are slower in the long run: right for tests, wrong where speed is measured.
    """

    def __init__(self, folder: Path, *, brief: bool = False) -> None:
        self._folder = folder
        self._brief = brief
        self._stack = ExitStack()
        self._number = 0
        self.started: list[Service] = []

    def kafka(
        self, settings: Mapping[str, str] | None = None, *, private: bool = False, listeners: Sequence[Listener] = ()
    ) -> Kafka:
        """A broker that answers. A private one is never the environment's: the test may stop it, and add listeners."""
        assert private or not listeners, "the shared broker has one listener"
        if not private and (address := given_address("kafka")):
            return Kafka(address, None).start()
        if docker_answers():
            return self._start(Kafka.container(settings, listeners))
        return self._start(Kafka.native(self._new_folder("kafka"), settings, listeners, brief=self._brief))

    def redis(self, settings: Mapping[str, str] | None = None, *, private: bool = False) -> RedisServer:
        """An empty Redis that answers (the environment's is as it is); `settings` are a private one's."""
        assert private or not settings, "the shared Redis has no settings of a test's own"
        if not private and (address := given_address("redis")):
            parts = urlsplit(address if "//" in address else f"redis://{address}")
            database = int(parts.path.lstrip("/") or 0)
            return RedisServer(parts.hostname or "127.0.0.1", parts.port or 6379, None, database=database).start()
        if docker_answers():
            return self._start(RedisServer.container(settings))
        return self._start(RedisServer.native(self._new_folder("redis"), settings))

    def postgres(self, *, private: bool = False) -> Postgres:
        """A PostgreSQL with logical decoding that answers."""
        if not private and (address := given_address("postgres")):
            return Postgres(address, None).start()
        if docker_answers():
            return self._start(Postgres.container())
        return self._start(Postgres.native(self._new_folder("postgres")))

    def mariadb(self, *, private: bool = False) -> MariaDB:
        """A MariaDB with a binary log that answers."""
        if not private and (address := given_address("mariadb")):
            return MariaDB(address, None).start()
        if docker_answers():
            return self._start(MariaDB.container())
        return self._start(MariaDB.native(self._new_folder("mariadb")))

    def connect(self, kafka: Kafka, *, private: bool = False) -> Connect:
        """A Connect worker for `kafka` that answers."""
        if not private and (address := given_address("connect")):
            return Connect(address, None).start()
        if docker_answers():
            return self._start(Connect.container(kafka.address))
        return self._start(Connect.native(self._new_folder("connect"), kafka.address, brief=self._brief))

    def s3(self, *, private: bool = False) -> S3:
        """An S3 endpoint that answers."""
        if not private and (address := given_address("s3")):
            return S3(address, None).start()
        if docker_answers():
            return self._start(S3.container())
        return self._start(S3.native(self._new_folder("s3")))

    def registry(self, *, private: bool = False) -> Apicurio:
        """A schema registry that answers; the environment's may know schemas of others."""
        if not private and (address := given_address("registry")):
            return Apicurio(address, None).start()
        if docker_answers():
            return self._start(Apicurio.container())
        return self._start(Apicurio.native(self._new_folder("registry"), brief=self._brief))

    def log_tails(self) -> str:
        """The end of the log of every service that was started here."""
        return "\n\n".join(
            f"--- {service.name} {service.address}\n{service.runner.log_tail()}" for service in self.started
        )

    def close(self) -> None:
        """End every service that was started here; their logs stay."""
        self._stack.close()

    def _start(self, service: S) -> S:
        self._stack.callback(service.close)
        self.started.append(service)
        return service.start()

    def _new_folder(self, name: str) -> Path:
        self._number += 1
        folder = self._folder / f"{self._number}-{name}"
        folder.mkdir(parents=True)
        return folder


def given_address(service: str) -> str | None:
    """The address that the environment gives for a service."""
    return os.environ.get(ADDRESS_VARIABLES[service]) or None
