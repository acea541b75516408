"""Fixtures that every test may ask for: real services, and what a failed test tells about them."""

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.services import S3, Apicurio, Connect, Kafka, MariaDB, Postgres, RedisServer, Services
from tests.services.waiting import process_number
from tests.spread import WholeFiles, waits_longest_first

SERVICES = pytest.StashKey[Services]()
# Starting Kafka and Connect for the first test that asks for them counts as that test's time.
REAL_SERVICE_TIMEOUT_SECONDS = 300
CHAOS_TIMEOUT_SECONDS = 1800
SERVICE_FIXTURES = frozenset({"services", "private_services"})  # every other fixture of a service needs one of them

# A shell that runs this in the background has it ignore these signals, and so all that it starts: tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Limits in wall-clock time would fail on a busy machine; pytest's own timeout holds for all tests.
settings.register_profile("headgate", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headgate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests are marked by their folder and by the services they ask for; those with real services get more time."""
    for item in items:
        parts = Path(item.path).parts
        needs_services = not SERVICE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        if "chaos" in parts:
            _mark(item, "chaos", CHAOS_TIMEOUT_SECONDS)
        if "integration" in parts or needs_services:
            _mark(item, "integration", REAL_SERVICE_TIMEOUT_SECONDS)
    if process_number() is not None:
        items.sort(key=waits_longest_first)


def _mark(item: pytest.Item, name: str, timeout_seconds: int) -> None:
    item.add_marker(name)
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(timeout_seconds))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread over processes (`make test`), the suite goes by whole files."""
    return WholeFiles(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed test shows the end of the services' logs."""
    report = yield
    services = item.config.stash.get(SERVICES, None)
    if report.failed and services is not None and services.started:
        report.sections.append(("Logs of services", services.log_tails()))
    return report


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """What Faust leaves open is collected while a module ignores its warnings, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def nothing_told_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker tells of itself may be lost where its machine stands still for a second; such tests wait for it."""
    monkeypatch.setattr("streams.telling.END_SECONDS_MAX", 30.0)
    monkeypatch.setattr("connectors.transport.lossy.RECORD_SECONDS_MAX", 60)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Services]:
    """Starts services; all of them end with the session."""
    started = Services(tmp_path_factory.mktemp("services"), brief=True)
    request.config.stash[SERVICES] = started
    try:
        yield started
    finally:
        started.close()
        del request.config.stash[SERVICES]


@pytest.fixture(scope="session")
def kafka(services: Services) -> Kafka:
    """The broker that tests share: topics and groups of your own, please."""
    return services.kafka()


@pytest.fixture(scope="session")
def redis_server(services: Services) -> RedisServer:
    """The Redis that tests share: a key prefix of your own, or `empty_redis`."""
    server = services.redis()
    return server if server.is_ours else server.in_database(server.database + (process_number() or 0))


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> RedisServer:
    """The shared Redis, emptied first (a database of the environment's server too: give one for tests)."""
    redis_server.flush()
    return redis_server


@pytest.fixture(scope="session")
def postgres(services: Services) -> Postgres:
    """The PostgreSQL that tests share: `create_database` for one of your own."""
    return services.postgres()


@pytest.fixture(scope="session")
def mariadb(services: Services) -> MariaDB:
    """The MariaDB that tests share: tables of your own, please."""
    return services.mariadb()


@pytest.fixture(scope="session")
def connect(services: Services, kafka: Kafka) -> Connect:
    """The Connect worker that tests share; `register_postgres_connector` makes names that never meet."""
    return services.connect(kafka)


@pytest.fixture(scope="session")
def s3(services: Services) -> S3:
    """The S3 server that tests share: a bucket of your own, please."""
    return services.s3()


@pytest.fixture(scope="session")
def apicurio(services: Services) -> Apicurio:
    """The schema registry that tests share: subjects of your own, please."""
    return services.registry()


@pytest.fixture
def private_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services of one test alone."""
    started = Services(tmp_path_factory.mktemp("private-services"), brief=True)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def private_kafka(private_services: Services) -> Callable[..., Kafka]:
    """`private_kafka(settings)`: a broker of this test alone, to stop, kill and freeze."""

    def start(settings: dict[str, str] | None = None) -> Kafka:
        return private_services.kafka(settings, private=True)

    return start


@pytest.fixture
def private_redis(private_services: Services) -> Callable[..., RedisServer]:
    """`private_redis(settings)`: a Redis of this test alone, to stop, kill and freeze."""

    def start(settings: dict[str, str] | None = None) -> RedisServer:
        return private_services.redis(settings, private=True)

    return start
