"""AWS DMS: a full load and inserts behind it are, row by row, in topic, Redis and lake what the source has."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.one_table import one_table
from tests.services import Kafka, RedisServer

# Faust makes a consumer that it never starts, with an event loop that nobody closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

LOADED, INSERTED = 10, 1_000
INVOICES = {
    "table": "invoices", "format": "dms", "key": ["id"],
    "columns": {"id": "long", "customer": "string", "amount": "decimal(12,2)", "note": "string", "paid": "boolean"},
}  # fmt: skip
LOG = "mysql-bin-changelog.000007"


def invoice(number: int) -> dict[str, Any]:
    """Return a row of the source; some of its columns are null."""
    return {
        "id": number + (2**60 if number % 11 == 0 else 0),
        "customer": f"c{number % 7}",
        "amount": None if number % 13 == 0 else f"{number * 9_999_991 % 10**10}.{number % 100:02d}",
        "note": None if number % 3 else f"n: {number}",
        "paid": None if number % 5 else bool(number % 2),
    }


def record(row: dict[str, Any], place: int | None) -> bytes:
    """Return the record of a row: without its nulls; without a place in the log it is one of the load."""
    metadata: dict[str, Any] = {
        "timestamp": "2026-01-02T03:04:06.000000Z", "record-type": "data", "partition-key-type": "primary-key",
        "schema-name": "billing", "table-name": "invoices", "operation": "load" if place is None else "insert",
    }  # fmt: skip
    if place is not None:
        metadata |= {
            "transaction-id": 7 + place, "transaction-record-id": 1, "commit-timestamp": "2026-01-02T03:04:05.000000Z",
            "stream-position": f"{LOG}:{100 + place}:0:{162 + place}:{7 + place}:{LOG}:4",
        }  # fmt: skip
    data = {name: value for name, value in row.items() if value is not None}
    return json.dumps({"data": data, "metadata": metadata}).encode()


async def test_a_load_and_a_thousand_inserts_are_the_rows_of_the_source(
    kafka: Kafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Nulls are left out and the amount is a text, which keeps what a float would not."""
    source = [invoice(number) for number in range(LOADED + INSERTED)]
    with one_table(kafka, redis_server, tmp_path, INVOICES) as invoices:
        for number, row in enumerate(source):
            place = None if number < LOADED else number
            invoices.send(row["id"] % 4, f"billing.invoices.{row['id']}".encode(), record(row, place))
        invoices.flush()
        rows = {(row["id"],): invoices.canonical(row) for row in source}
        async with invoices.running("normalize", "features", "lake"):
            await invoices.until_quiet(rows, len(source))
        changes = await asyncio.to_thread(invoices.check_ends, rows, len(source))

        assert LOADED == sum(change.snapshot and change.op == "snapshot" for change in changes)
        assert INSERTED == sum(not change.snapshot and change.op == "insert" for change in changes)
        assert rows == {change.key: change.after for change in changes}
        assert rows[7,]["amount"] == Decimal("69999937.07")
        assert [] == invoices.quarantined()
        assert await invoices.lake_is_proved()
