"""Documents of MongoDB whose fields clash: a text here, a number or an array there. One table, and nothing is lost.

python -m tests.proof.clashing_fields --documents 100000
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from connectors.captured import OneRecord
from connectors.inference import new_samples
from sinks.lake.storage import list_tables
from sinks.lake.view import open_lake_sql
from tests.integration.one_table import OneTable, one_table
from tests.oracles import Verdict, require
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import Kafka, RedisServer, wait_until

FIELDS = tuple(f"f{number:02d}" for number in range(40))
SAMPLED = 1_000
PARTITIONS = 4
ROWS_AT_ONCE = 1_000
DEADLINE_SECONDS = 1_200.0
_MISSING = object()
_KINDS: tuple[Callable[[random.Random], Any], ...] = (
    lambda chance: f"t{chance.random()}",
    lambda chance: str(chance.randrange(100)),  # a text that looks like a number, which it must not become
    lambda chance: chance.randrange(-(2**31), 2**31),
    lambda chance: {"$numberLong": str(chance.randrange(2**53, 2**63))},
    lambda chance: chance.random() * 1e6,
    lambda chance: [f"t{chance.randrange(9)}" for _ in range(chance.randrange(4))],
    lambda chance: [{"a": chance.randrange(9), "b": [None, "ü"]} for _ in range(chance.randrange(4))],
    lambda _chance: None,
    lambda _chance: _MISSING,
)


def document(number: int, seed: int) -> dict[str, Any]:
    """Return a document, the same for the same number and seed: each field of any kind, null, or not there."""
    chance = random.Random(seed * 2**32 + number)
    values = {name: chance.choice(_KINDS)(chance) for name in FIELDS}
    return {"_id": number, **{name: value for name, value in values.items() if value is not _MISSING}}


def records(documents: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values as Debezium writes them: a tenth of the documents as a snapshot, then inserts."""
    for number in range(documents):
        snapshot = number < documents // 10
        source = {
            "connector": "mongodb", "name": "shop", "db": "inventory", "collection": "things", "ord": number % 10 + 1,
            "ts_ms": 1_767_323_045_000 + number // 10, "snapshot": "true" if snapshot else "false",
        }  # fmt: skip
        text = json.dumps(document(number, seed))
        value = {"before": None, "after": text, "updateDescription": None, "source": source, "ts_ms": 1}
        yield (
            json.dumps({"id": str(number)}).encode(),
            json.dumps(value | {"op": "r" if snapshot else "c"}).encode(),
        )


def proposed(documents: int, seed: int) -> dict[str, Any]:
    """Return the spec that the first records propose, without topics."""
    samples = new_samples()
    for offset, (key, value) in enumerate(records(min(documents, SAMPLED), seed)):
        samples.add(OneRecord("things", 0, offset, key, value, []))
    (proposal,) = samples.tables()
    spec = proposal.spec.model_dump(mode="json")
    return {name: spec[name] for name in ("table", "format", "key", "columns")}


def prove(kafka: Kafka, redis: RedisServer, folder: Path, *, documents: int, seed: int) -> list[Verdict]:
    """Send the documents through all stages, and compare each field of each row with the document's."""
    print(f"seed {seed}, {documents:,} documents of {len(FIELDS)} fields")
    spec = proposed(documents, seed)
    with one_table(kafka, redis, folder, spec) as table:
        for number, (key, value) in enumerate(records(documents, seed)):
            table.send(number % PARTITIONS, key, value)
            if number % ROWS_AT_ONCE == 0:
                table.flush()
        table.flush()
        began = time.monotonic()
        with table.supervised():
            what = "all documents are in the lake"
            wait_until(lambda: _arrived(table) >= documents, what, deadline_seconds=DEADLINE_SECONDS, poll_seconds=0.5)
        print(f"in the lake after {time.monotonic() - began:.1f} s")
        return look(table, documents, seed)


def _arrived(table: OneTable) -> int:
    assert [] == table.quarantined(), "no document goes to quarantine"
    return table.lake()[0]


def look(table: OneTable, documents: int, seed: int) -> list[Verdict]:
    """Compare what DuckDB reads of the lake with the documents, and look at the chain of its changes."""
    fields = Verdict("fields that clash", {"documents": 0, "values": 0, "nulls or not there": 0})
    with open_lake_sql(table.config.lake) as connection:
        names = ", ".join(f'"{name}"' for name in ("_id", *FIELDS))
        cursor = connection.execute(f'SELECT {names} FROM "{table.table}_latest" ORDER BY CAST(_id AS BIGINT)')
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            for row in rows:
                _compare(fields, row, document(fields.figures["documents"], seed))
                fields.figures["documents"] += 1
    if fields.figures["documents"] != documents:
        fields.differ(f"{fields.figures['documents']} rows of {documents} documents")
    fields.at_least("values", documents * len(FIELDS) // 2)
    count, report = table.lake()
    chain = Verdict("chain of the lake", {"changes": count, "tables": len(list_tables(table.config.lake))})
    for finding in report.findings:
        chain.differ(str(finding))
    if (count, chain.figures["tables"]) != (documents, 1):
        chain.differ("another number of changes than documents, or of tables than one")
    return [fields, chain]


def _compare(verdict: Verdict, row: Sequence[Any], expected: dict[str, Any]) -> None:
    if str(row[0]) != str(expected["_id"]):
        verdict.differ(f"document {expected['_id']} is missing: {row[0]} stands there")
    for name, text in zip(FIELDS, row[1:], strict=True):
        value = expected.get(name)
        verdict.figures["values" if value is not None else "nulls or not there"] += 1
        found = None if text is None else json.loads(text)
        if type(found) is not type(value) or found != value:
            verdict.differ(f"{expected['_id']}.{name}: {found!r}, {value!r} in the document")


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(), services.redis(private=True)
        folder.mkdir()
        require(*prove(kafka, redis, folder, documents=options.documents, seed=options.seed))


if __name__ == "__main__":
    main()
