"""Real services for tests: Kafka, Kafka Connect with Debezium, PostgreSQL, MariaDB, Redis, S3 and a schema registry.

Where each comes from, in this order: an address in the environment; a container, where a Docker daemon answers; a
server started from what the machine's package managers provide. A test never skips for want of a service: it fails with
a hint.

Promise: whoever starts a service here gets it answering, on a port of its own, with empty data; and when the test
process ends, in whatever way, its services end too.
"""

from tests.services.apicurio import Apicurio
from tests.services.certificates import Authority, Certificate
from tests.services.connect import Connect
from tests.services.debezium import (
    Connector,
    MariaDBConnector,
    PostgresConnector,
    register_mariadb_connector,
    register_postgres_connector,
    register_sink,
)
from tests.services.factory import Services
from tests.services.kafka import Kafka, Listener
from tests.services.mariadb import MariaDB
from tests.services.postgres import Postgres
from tests.services.redis import RedisServer
from tests.services.runner import ServiceFailed
from tests.services.s3 import S3
from tests.services.waiting import until, wait_until

__all__ = [
    "S3",
    "Apicurio",
    "Authority",
    "Certificate",
    "Connect",
    "Connector",
    "Kafka",
    "Listener",
    "MariaDB",
    "MariaDBConnector",
    "Postgres",
    "PostgresConnector",
    "RedisServer",
    "ServiceFailed",
    "Services",
    "register_mariadb_connector",
    "register_postgres_connector",
    "register_sink",
    "until",
    "wait_until",
]
