"""The settings of a Kafka Connect sink that keeps a database's table equal to a latest topic. Pure.

For Debezium's JDBC sink (`io.debezium:debezium-connector-jdbc`), which makes the table, writes rows over those of their
key, and deletes where a tombstone comes.
"""

from __future__ import annotations

from schemas.errors import ConfigurationError
from schemas.table import TableSpec

JDBC_SINK = "io.debezium.connector.jdbc.JdbcSinkConnector"
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
# What people replace; a password stands in a file that the Connect worker reads, not in the connector's settings.
URL = "jdbc:postgresql://HOST:5432/DATABASE"
USERNAME = "USER"
PASSWORD = "${file:/etc/connect/secrets.properties:password}"  # noqa: S105 - a place, and no password


def jdbc_sink_settings(
    spec: TableSpec,
    *,
    topic: str,
    url: str = URL,
    username: str = USERNAME,
    password: str = PASSWORD,
    table: str | None = None,
    tasks_max: int = 1,
) -> dict[str, str]:
    """Return the settings of a sink that reads `topic`, the table's latest topic, in the form of Connect's REST API.

    `table` is the name in the database; unless told otherwise that of the spec, with an underscore for each dot. A
    topic has eight partitions, or as many as fewer divide the buckets: more tasks than that have nothing to do.

    Raises:
        ConfigurationError: the table has no latest topic, or one without the schema block that the sink needs.
    """
    if not spec.output.latest_schema:
        raise ConfigurationError(
            f"{spec.table} has no latest topic that a sink of Kafka Connect reads",
            hint="write `output: {latest: true, latest_schema: true}` into its spec, and apply it",
        )
    return {
        "connector.class": JDBC_SINK,
        "tasks.max": str(tasks_max),
        "topics": topic,
        "connection.url": url,
        "connection.username": username,
        "connection.password": password,
        # The sink takes what stands before a dot for a schema: a tenant's table has one behind the tenant.
        "collection.name.format": table or spec.table.replace(".", "_"),
        "quote.identifiers": "true",
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "primary.key.fields": ",".join(spec.key),
        "schema.evolution": "basic",
        "key.converter": JSON_CONVERTER,
        "key.converter.schemas.enable": "true",
        "value.converter": JSON_CONVERTER,
        "value.converter.schemas.enable": "true",
        # Rows are written in transactions: what was aborted was never accepted.
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "earliest",
    }
