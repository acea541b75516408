"""How the services of the tests are chosen, and what is said when one cannot be had: no service is started here."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.services import MariaDB, Postgres, Services, system
from tests.services.service import DatabaseServer
from tests.services.waiting import PORTS, free_port, wait_until


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no program of ours, no Docker and no address in the environment."""
    monkeypatch.setattr(shutil, "which", lambda _name, path=None: path and None)
    monkeypatch.setattr(system, "postgres_program", lambda _name: None)
    monkeypatch.setattr("tests.services.factory.docker_answers", lambda: False)
    monkeypatch.setattr(system, "docker_answers", lambda: False)
    for variable in system.ADDRESS_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("bare_machine")
def test_a_bare_machine_needs_every_package() -> None:
    """What `make test` installs."""
    assert [
        "default-jre-headless",
        "mariadb-server",
        "maven",
        "openssl",
        "postgresql",
        "redis-server",
    ] == system.missing_packages()


@pytest.mark.usefixtures("bare_machine")
def test_a_service_with_an_address_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka's jars need Java, unless all that run on it are given."""
    monkeypatch.setenv("HEADGATE_TEST_KAFKA", "broker:9092")
    monkeypatch.setenv("HEADGATE_TEST_REDIS", "redis://cache:6379/0")
    still = system.missing_packages()
    monkeypatch.setenv("HEADGATE_TEST_CONNECT", "http://connect:8083")
    monkeypatch.setenv("HEADGATE_TEST_REGISTRY", "http://registry:8080")

    assert ["default-jre-headless", "mariadb-server", "maven", "postgresql"] == still
    assert ["mariadb-server", "postgresql"] == system.missing_packages()


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(("euid", "command"), [(0, "Run: apt-get install"), (1000, "Run: sudo apt-get install")])
def test_a_missing_service_is_an_error_with_the_command_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, euid: int, command: str
) -> None:
    """Never a skip."""
    monkeypatch.setattr(os, "geteuid", lambda: euid)

    with pytest.raises(system.MissingProgram, match=rf"redis-server is not installed\. {command}.* redis-server"):
        Services(tmp_path).redis()


@pytest.mark.usefixtures("bare_machine")
def test_who_is_not_root_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make test` stops before anything else, with the one command."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    code = system.main()

    assert 1 == code
    told = capsys.readouterr().err
    packages = "default-jre-headless mariadb-server maven openssl postgresql redis-server"
    assert f"sudo apt-get install -y --no-install-recommends {packages}" in told
    assert "HEADGATE_TEST_KAFKA" in told


def test_a_port_is_given_once_and_is_free() -> None:
    """Two services of one session never meet."""
    ports = [free_port() for _ in range(50)]

    assert 50 == len(set(ports))
    assert set(ports) <= set(PORTS)
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports[0]))


def test_waiting_ends_with_what_was_waited_for() -> None:
    """The answer itself is returned; a deadline says what did not come."""
    answers = iter([[], [], ["come"]])

    assert ["come"] == wait_until(lambda: next(answers), "an answer", poll_seconds=0.001)
    with pytest.raises(TimeoutError, match=r"a miracle: not within 0\.01 s; the last answer was False"):
        wait_until(lambda: False, "a miracle", deadline_seconds=0.01, poll_seconds=0.001)


@pytest.mark.parametrize(
    ("kind", "given", "address"),
    [
        (Postgres, "postgresql://db", "postgresql://headgate:headgate@db:5432/headgate"),
        (MariaDB, "mysql://a:b@db:7/c", "mysql://a:b@db:7/c"),
        (MariaDB, "mysql://a%40b:p%2Fq@db", "mysql://a%40b:p%2Fq@db:3306/headgate"),
    ],
)
def test_an_address_is_completed_by_what_ours_have(kind: type[DatabaseServer], given: str, address: str) -> None:
    """A password may hold what separates the parts of an address."""
    server = kind(given, None)

    assert address == server.address
    assert "%" not in server.user + server.password
