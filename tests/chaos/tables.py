"""The three tables of the torrent: what each row holds is a function of its key and the number of its change.

So a history of millions of changes is remembered by numbers alone, and any row of it can be said again: as Debezium
writes it, and as the contract does. Nothing here is the product's.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.oracles import Shape

SPECS = Path(__file__).parent / "specs"
PLACEHOLDER = "__debezium_unavailable_value"
BASE_US = 1_795_000_000_000_000
FILLER = "kept cool and dry, handed over the counter in the morning, signed for by the second clerk of the day"
STATUSES = ("open", "paid", "sent", "back")
UNITS = ("kWh", "m³", None)
CUSTOMERS, METERS = 700, 300
_64 = 2**64 - 1

Key = tuple[int, int]
"""The key's one or two numbers; the second is 0 where there is one."""
Texts = dict[str, Any]


def mixed(number: int, seed: int) -> int:
    """Return 64 bits that look like chance and are always the same."""
    bits = (number * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03 + 1) & _64
    bits = ((bits ^ (bits >> 31)) * 0xBF58476D1CE4E5B9) & _64
    return bits ^ (bits >> 29)


def moment(number: int) -> str:
    """Return the time of a change, as both Debezium (timestamptz) and the contract write it."""
    us = BASE_US + number * 1000
    return f"{datetime.fromtimestamp(us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06d}Z"


def _decimal(unscaled: int) -> str:
    """Return what Debezium writes for a decimal: base64 of the unscaled number."""
    return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()


@dataclass(frozen=True, slots=True)
class Table:
    """One table: how its rows look in both forms. `row` and `after` take key, number of the change, chance bits."""

    name: str
    share: float
    partitions: int
    key_json: Callable[[Key], bytes]
    key: Callable[[Key], Texts]
    row: Callable[[Key, int, int], Texts]
    after: Callable[[Key, int, int], str]
    nothing: str
    out_of_line: str | None = None


def _order_key(key: Key) -> bytes:
    return b'{"id":%d}' % key[0]


def _order(key: Key, number: int, bits: int) -> Texts:
    cents = (bits >> 12) % 1_000_000
    return {
        "id": str(key[0]),
        "customer": bits % CUSTOMERS,
        "status": STATUSES[bits >> 60 & 3],
        "amount": f"{cents // 100}.{cents % 100:02d}",
        "placed": moment(number),
        "note": f"order {number}, {FILLER}" if bits >> 50 & 7 else None,
        "paid": bool(bits >> 40 & 1),
    }


def _order_after(key: Key, number: int, bits: int) -> str:
    note = f'"order {number}, {FILLER}"' if bits >> 50 & 7 else "null"
    return (
        f'{{"id":{key[0]},"customer":{bits % CUSTOMERS},"status":"{STATUSES[bits >> 60 & 3]}",'
        f'"amount":"{_decimal((bits >> 12) % 1_000_000)}","placed":"{moment(number)}","note":{note},'
        f'"paid":{"true" if bits >> 40 & 1 else "false"}}}'
    )


def _document(key: Key, number: int, bits: int) -> Texts:
    return {
        "id": key[0],
        "title": f"№ {bits % 9973} of “{key[0]}”",
        "revision": bits % 4_000,
        "body": f"body {number}: {FILLER}",
        "edited": moment(number),
    }


def _document_after(key: Key, number: int, bits: int) -> str:
    return (
        f'{{"id":{key[0]},"title":"№ {bits % 9973} of “{key[0]}”","revision":{bits % 4_000},'
        f'"body":"body {number}: {FILLER}","edited":"{moment(number)}"}}'
    )


def _reading_key(key: Key) -> bytes:
    return b'{"meter":%d,"seq":%d}' % key


def _reading(key: Key, number: int, bits: int) -> Texts:
    thousandths = (bits >> 9) % 1_000_000
    return {
        "meter": key[0],
        "seq": str(key[1]),
        "value": f"{thousandths // 1000}.{thousandths % 1000:03d}",
        "unit": UNITS[bits % 3],
        "taken": moment(number),
    }


def _reading_after(key: Key, number: int, bits: int) -> str:
    unit = f'"{UNITS[bits % 3]}"' if UNITS[bits % 3] else "null"
    return (
        f'{{"meter":{key[0]},"seq":{key[1]},"value":"{_decimal((bits >> 9) % 1_000_000)}",'
        f'"unit":{unit},"taken":"{moment(number)}"}}'
    )


TABLES: dict[str, Table] = {
    "orders": Table(
        "orders", 0.5, 4, _order_key, lambda key: {"id": str(key[0])}, _order, _order_after,
        '"customer":null,"status":null,"amount":null,"placed":null,"note":null,"paid":null',
    ),
    "documents": Table(
        "documents", 0.2, 3, _order_key, lambda key: {"id": key[0]}, _document, _document_after,
        '"title":null,"revision":null,"body":null,"edited":null', out_of_line="body",
    ),
    "readings": Table(
        "readings", 0.3, 4, _reading_key, lambda key: {"meter": key[0], "seq": str(key[1])}, _reading, _reading_after,
        '"value":null,"unit":null,"taken":null',
    ),
}  # fmt: skip


def shapes(prefix: str) -> dict[str, Shape]:
    """Return the shapes of the specs, with the topics of a source's prefix."""
    texts = {table: (SPECS / f"{table}.yaml").read_text().replace("TOPIC.", f"{prefix}.") for table in TABLES}
    return {table: Shape.of(yaml.safe_load(text)) for table, text in texts.items()}


# What the rules of the specs mean: values of the alert that a change raises, or None.


def raised(table: str, op: str, row: Texts | None, key: Texts) -> dict[tuple[str, int], Texts]:
    """Return the alerts of one change by rule and version; `row` is `after` as the contract has it."""
    found: dict[tuple[str, int], Texts] = {}
    if table == "orders":
        if op in {"insert", "update"} and row and float(row["amount"]) >= 9880:
            found["large-order", 1] = {"amount": row["amount"], "customer": row["customer"]}
        if op == "delete" and int(key["id"]) % 50 == 0:
            found["order-gone", 2] = {}
    if table == "documents" and op == "update" and row and row["revision"] % 40 == 0:
        found["much-revised", 1] = {"revision": row["revision"]}
    if table == "readings" and op != "delete" and row and float(row["value"]) > 985:
        found["high-reading", 1] = {"value": row["value"], "unit": row["unit"]}
    return found
