"""MariaDB with a binary log of whole rows: the source database of the tests that speaks MySQL's protocol."""

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql

from tests.services import reaper
from tests.services.container import Container
from tests.services.runner import NativeProcess, ServiceFailed
from tests.services.service import DATABASE, PASSWORD, USER, DatabaseServer
from tests.services.system import require_program
from tests.services.waiting import free_port

IMAGE = "mariadb:10.11"
SERVER_USER = "mysql"  # the package makes it; the server refuses to run as root

SETTINGS = {
    "server-id": "1",
    "log-bin": "binlog",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "innodb-flush-log-at-trx-commit": "0",
    "character-set-server": "utf8mb4",
}


class MariaDB(DatabaseServer):
    """One server with one user, who may do all. A restart keeps its port and its data."""

    name = "mariadb"
    scheme = "mysql"
    own_port = 3306

    @classmethod
    def native(cls, folder: Path) -> "MariaDB":
        """The system's MariaDB, as an unprivileged user. Not started yet."""
        port = free_port()
        # Not below pytest's folder: that is closed to other users.
        home = Path(tempfile.mkdtemp(prefix="headgate-mariadb-"))
        reaper.watch_folder(home)
        user = SERVER_USER if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(home, user)
        _initialize(home / "data", user)
        start = home / "start.sql"
        # One statement a line; on this machine the package's anonymous user would come before any at `%`.
        hosts = ("%", "localhost", "127.0.0.1")
        grants = [f"GRANT ALL ON *.* TO '{USER}'@'{host}' IDENTIFIED BY '{PASSWORD}';" for host in hosts]
        start.write_text("\n".join([f"CREATE DATABASE IF NOT EXISTS {DATABASE};", *grants, ""]))
        command = [
            require_program("mariadbd"),
            "--no-defaults",
            f"--datadir={home / 'data'}",
            f"--socket={home / 'socket'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--init-file={start}",
            *(f"--{name}={value}" for name, value in SETTINGS.items()),
        ]
        process = NativeProcess("mariadb", command, log_path=folder / "mariadb.log", user=user, data=home)
        return cls(cls.own_url(port), process)

    @classmethod
    def container(cls) -> "MariaDB":
        """A MariaDB in a container. Not started yet."""
        port = free_port()
        environment = {"MARIADB_RANDOM_ROOT_PASSWORD": "1", "MARIADB_DATABASE": DATABASE}
        environment |= {"MARIADB_USER": USER, "MARIADB_PASSWORD": PASSWORD}
        command = [f"--port={port}", *(f"--{name}={value}" for name, value in SETTINGS.items())]
        container = Container("mariadb", IMAGE, environment=environment, command=command)
        return cls(cls.own_url(port), container)

    def answers(self) -> bool:
        """Whether it takes connections of its user."""
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def connect(self, database: str | None = None) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """A new connection that commits each statement, for tests; the caller closes it."""
        return pymysql.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, database=database or self.database,
            autocommit=True, connect_timeout=10, charset="utf8mb4",
        )  # fmt: skip

    def create_database(self, name: str) -> str:
        """Create an empty database and return its address."""
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", name), "a name that needs no quotes"
        self.run(f"create database {name}")
        return self.url(name)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; its rows."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


def _initialize(data: Path, user: str | None) -> None:
    command = [require_program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db"]
    if user is not None:
        command.append(f"--user={user}")
    run = subprocess.run(
        [*command, "--auth-root-authentication-method=normal"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=data.parent,
        user=user,
    )
    if run.returncode:
        raise ServiceFailed(f"mariadb could not make its data folder:\n{run.stdout}{run.stderr}")
