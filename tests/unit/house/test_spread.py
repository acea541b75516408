"""The suite spread over processes: what must stay together, and what must never meet."""

import re
from pathlib import Path

import pytest

from tests.services import RedisServer
from tests.services.waiting import PORTS, PROCESSES_MAX, free_port, own_ports
from tests.spread import OF_THE_SOURCE_DATABASE, scope_of

ROOT = Path(__file__).parents[3]
ASKED_FOR = re.compile(r"\b(postgres|connect): (Postgres|Connect)\b")


def test_what_asks_for_connect_or_postgres_stays_together() -> None:
    """Elsewhere, they would be started once more."""
    files = (path for path in (ROOT / "tests").rglob("test_*.py") if ASKED_FOR.search(path.read_text()))

    assert OF_THE_SOURCE_DATABASE == {str(path.relative_to(ROOT)) for path in files}
    assert 1 == len({scope_of(f"{file}::test_something[a::b]") for file in OF_THE_SOURCE_DATABASE})


def test_another_file_is_a_whole_of_its_own() -> None:
    """Its fixtures are made once, and its tests keep their order."""
    assert scope_of("tests/unit/test_a.py::test_one[x::y]") == scope_of("tests/unit/test_a.py::test_two")
    assert scope_of("tests/unit/test_a.py::test_one") != scope_of("tests/unit/test_b.py::test_one")


def test_the_ports_of_processes_never_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down for a moment finds its port free again."""
    shares = []
    for number in range(PROCESSES_MAX):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        shares.append(set(own_ports()))
        assert free_port() in shares[number]
    monkeypatch.delenv("PYTEST_XDIST_WORKER")

    assert PORTS == own_ports()
    assert set(PORTS) == set().union(*shares)
    assert len(PORTS) == sum(map(len, shares))


def test_a_redis_that_others_run_is_shared_by_databases() -> None:
    """One process empties its own only."""
    given = RedisServer("cache", 6379, None, database=3)

    assert ["redis://cache:6379/3", "redis://cache:6379/4"] == [given.address, given.in_database(4).address]
