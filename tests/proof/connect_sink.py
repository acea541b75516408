"""Real PostgreSQL → Debezium → Headgate → latest topics → Kafka Connect's JDBC sink → another PostgreSQL, equal to it.

The sinks have the settings that `connectors/connect_sink.py` gives, and write while the tables change and stages are
killed. In the end the tables that they made hold what the source's do, and the topics, compacted, do so, too.

python -m tests.proof.connect_sink --changes 5000 --kills 3
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from connectors.connect_sink import jdbc_sink_settings
from schemas.table import TableSpec
from tests.oracles import Shape, Verdict, require
from tests.oracles.latest import compacted
from tests.oracles.topic import read_records
from tests.oracles.values import from_python
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.end_to_end import PARTITIONS, QUIET_SECONDS, RealParts, play
from tests.services import register_postgres_connector, register_sink, wait_until
from tests.workloads.ends import wait_quiet
from tests.workloads.installation import SECRET, Installation, shapes_for
from tests.workloads.model import KEYS, Model
from tests.workloads.postgres_player import PostgresPlayer
from tests.workloads.webhook import Webhook

ROWS_BEFORE = 25
EQUAL_SECONDS = 120.0
OUTPUT = {"latest": True, "latest_schema": True}

Rows = dict[tuple[Any, ...], dict[str, Any]]


def prove(parts: RealParts, folder: Path, *, changes: int, kills: int, seed: int) -> list[Verdict]:
    """Commit `changes` changes, each stage killed `kills` times meanwhile; return what differs of each table."""
    print(f"seed {seed}, {changes:,} changes, {kills} kills of each stage")
    names = {"source": f"source_{uuid.uuid4().hex[:8]}", "target": f"target_{uuid.uuid4().hex[:8]}"}
    for name in names.values():
        parts.postgres.create_database(name)
    model, player = Model(seed), PostgresPlayer(parts.postgres, names["source"])
    player.play(model.initial(ROWS_BEFORE))
    connector = register_postgres_connector(
        parts.connect, parts.postgres, [f"public.{t}" for t in KEYS], database=names["source"], partitions=PARTITIONS
    )
    try:
        connector.wait_streaming()
        shapes = {table: _with_output(shape) for table, shape in shapes_for(connector.prefix, KEYS).items()}
        with (
            Webhook(SECRET) as webhook,
            Installation(folder, parts.kafka.address, parts.redis.address, webhook.url, shapes) as installation,
        ):
            installation.start()
            with sinks(parts, installation, names["target"]):
                play(installation, player, model, changes=changes, kills=kills, seed=seed)
                records = sum(player.ledger.records.values())
                wait_quiet(installation, records=records, deadline_seconds=QUIET_SECONDS)
                source = {table: player.rows(shape) for table, shape in shapes.items()}
                return [*in_topics(installation, source), *in_database(parts, shapes, names["target"], source)]
    finally:
        player.close()
        connector.delete()


def _with_output(shape: Shape) -> Shape:
    return Shape.of(shape.document | {"output": OUTPUT})


def topic_of(installation: Installation, table: str) -> str:
    """Return the latest topic of a table."""
    return f"{installation.topic_prefix}.latest.{table}"


@contextmanager
def sinks(parts: RealParts, installation: Installation, database: str) -> Iterator[None]:
    """Have a sink for each table, by the generated settings."""
    postgres, made = parts.postgres, []
    try:
        for table, shape in installation.shapes.items():
            settings = jdbc_sink_settings(
                TableSpec.model_validate(shape.document),
                topic=topic_of(installation, table),
                url=f"jdbc:postgresql://{postgres.host}:{postgres.port}/{database}",
                username=postgres.user,
                password=postgres.password,
            )
            made.append(register_sink(parts.connect, f"sink-{table}-{installation.tag}", settings))
        yield
        for sink in made:
            assert sink.state() == "RUNNING", f"{sink.name} still runs"
    finally:
        for sink in made:
            sink.delete()


def in_topics(installation: Installation, source: dict[str, Rows]) -> list[Verdict]:
    """Compare the keys that compaction leaves of each latest topic with those of the source."""
    verdicts = []
    for table, rows in source.items():
        records = read_records(installation.kafka, topic_of(installation, table))
        left = compacted(records)
        verdict = Verdict(f"latest topic of {table}", {"records": len(records), "rows": len(left)})
        wanted = {tuple(map(str, key)) for key in rows}
        for key in wanted ^ left.keys():
            verdict.differ(f"{key} is {'missing' if key in wanted else 'too much'}")
        verdict.at_least("rows", 1)
        verdicts.append(verdict)
    return verdicts


def in_database(parts: RealParts, shapes: dict[str, Shape], database: str, source: dict[str, Rows]) -> list[Verdict]:
    """Wait until each table of the target holds what the source's does; return what differs in the end."""
    began = time.monotonic()
    found: dict[str, Rows] = {}

    def equal() -> bool:
        with parts.postgres.connect(database) as connection:
            found.update({table: read_table(connection, shape) for table, shape in shapes.items()})
        return found == source

    try:
        wait_until(equal, "the sinks' tables are the source's", deadline_seconds=EQUAL_SECONDS)
        print(f"equal after {time.monotonic() - began:.1f} s more")
    except TimeoutError:
        print(f"not equal after {EQUAL_SECONDS:.0f} s")
    return [compare_rows(table, source[table], found.get(table, {})) for table in source]


def read_table(connection: psycopg.Connection[Any], shape: Shape) -> Rows:
    """Return canonical rows of a sink's table by key; none where it has not made the table yet."""
    there = connection.execute("select to_regclass(%s)", [f'"{shape.table}"']).fetchone()
    if there is None or there[0] is None:
        return {}
    columns = sql.SQL(", ").join(map(sql.Identifier, shape.columns))
    rows = [
        {
            name: from_python(type_text, value)
            for (name, type_text), value in zip(shape.columns.items(), row, strict=True)
        }
        for row in connection.execute(sql.SQL("select {} from {}").format(columns, sql.Identifier(shape.table)))
    ]
    return {shape.key_of(row): row for row in rows}


def compare_rows(table: str, source: Rows, found: Rows) -> Verdict:
    """Return which rows of the target are not those of the source, with the columns that differ."""
    verdict = Verdict(f"table {table} of the JDBC sink", {"rows": len(found)})
    for key in source.keys() | found.keys():
        here, there = source.get(key), found.get(key)
        if here is None or there is None:
            verdict.differ(f"{key} is {'missing' if there is None else 'too much'}")
        elif columns := [name for name in here if here[name] != there[name]]:
            verdict.differ(f"{key} differs: " + ", ".join(f"{n}: {here[n]!r} is {there[n]!r}" for n in columns))
    verdict.at_least("rows", 1)
    return verdict


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--changes", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka = services.kafka()
        parts = RealParts(kafka, services.redis(private=True), services.postgres(), services.connect(kafka))
        require(*prove(parts, folder, changes=options.changes, kills=options.kills, seed=options.seed))


if __name__ == "__main__":
    main()
