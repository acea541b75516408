"""PostgreSQL with logical decoding: the source database of the tests."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

from tests.services import reaper
from tests.services.container import Container, image
from tests.services.runner import NativeProcess, ServiceFailed
from tests.services.service import DATABASE, PASSWORD, USER, DatabaseServer
from tests.services.system import require_program
from tests.services.waiting import free_port

# docker-compose.yml has the first three too, and a test compares; the others make a throw-away server fast.
SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_sender_timeout": "60s",
}


class Postgres(DatabaseServer):
    """One server with one superuser. A restart keeps its port, its data and its replication slots."""

    name = "postgres"
    scheme = "postgresql"
    own_port = 5432

    @classmethod
    def native(cls, folder: Path) -> "Postgres":
        """The system's PostgreSQL, newest version, as an unprivileged user. Not started yet."""
        port = free_port()
        user = _unprivileged_user()
        # Not below pytest's folder: that is closed to other users, and the server refuses to run as root.
        home = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
        reaper.watch_folder(home)
        if user is not None:
            shutil.chown(home, user)
        data = home / "data"
        _initialize(data, user)
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        process = NativeProcess(
            "postgres",
            [
                require_program("postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                "-k",
                str(home),
                *options,
            ],
            log_path=folder / "postgres.log",
            user=user,
            data=home,
            # Fast shutdown: SIGTERM would wait for every client, Debezium's connections among them.
            stop_signal=signal.SIGINT,
        )
        return cls(cls.own_url(port), process)

    @classmethod
    def container(cls) -> "Postgres":
        """A PostgreSQL in a container. Not started yet."""
        port = free_port()
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        environment = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": DATABASE}
        command = ["postgres", "-p", str(port), "-h", "127.0.0.1", *options]
        container = Container("postgres", image("postgres"), environment=environment, command=command)
        return cls(cls.own_url(port), container)

    def answers(self) -> bool:
        """Whether it takes connections to its first database (which a native server creates on first use)."""
        try:
            self._ensure_database()
            with psycopg.connect(self.address, connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def connect(self, database: str | None = None) -> "psycopg.Connection[tuple[object, ...]]":
        """A new connection that commits each statement, for tests; the caller closes it."""
        return psycopg.connect(self.url(database or self.database), autocommit=True, connect_timeout=10)

    def create_database(self, name: str) -> str:
        """Create an empty database and return its address."""
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", name), "a name that needs no quotes"
        with self.connect() as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.url(name)

    def drop_slot(self, slot: str) -> None:
        """Drop a replication slot, if it is there and nobody reads it: a slot left behind keeps the log for ever."""
        with self.connect() as connection:
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                " where slot_name = %s and not active",
                [slot],
            )

    def _ensure_database(self) -> None:
        if not self.is_ours:
            return
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as connection:
            there = connection.execute("select 1 from pg_database where datname = %s", [self.database]).fetchone()
            if there is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(self.database)))


def _unprivileged_user() -> str | None:
    """Whom to run as: None for "as I am", which is right unless we are root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise ServiceFailed("postgres refuses to run as root, and there is no user postgres or nobody to run it as")


def _initialize(data: Path, user: str | None) -> None:
    with tempfile.NamedTemporaryFile("w", dir=data.parent, prefix="password-") as password:
        password.write(PASSWORD)
        password.flush()
        if user is not None:
            shutil.chown(password.name, user)
        command = [require_program("initdb"), "-D", str(data), "-U", USER, "--pwfile", password.name]
        run = subprocess.run(
            [*command, "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=user,
            cwd=data.parent,
        )
    if run.returncode:
        raise ServiceFailed(f"postgres could not make its data folder:\n{run.stdout}{run.stderr}")
