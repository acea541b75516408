"""What real connectors' records become is valid by the table's JSON Schemas, and read by the subscribers' client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from connectors.formats import PartitionMemory, format_of
from headgate.client.decoding import EventDecoder
from headgate.client.events import Change
from schemas.config import LimitsConfig
from schemas.contract import contract_of
from schemas.contract_schema import key_schema, value_schema
from schemas.table import TableEntry, TableSpec
from schemas.types import Kind
from sinks.topics import encode_changes
from tests.contract.test_formats import NOT_FOLDED, tables
from tests.unit.client.test_decoding import Stored
from tests.unit.formats.captures import runs, spec_of, topic_of

KEYED = [each for each in tables() if each not in NOT_FOLDED]
RECORD_BYTES_MAX = 1024 * 1024
# Types that no column of these captures has.
NOT_CAPTURED = {Kind.LIST}


def written(case: str, table: str, spec: TableSpec) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield key and value of each change that a captured topic comes to."""
    decoder = format_of(spec.format).decoder(TableEntry(spec=spec), LimitsConfig())
    previous: int | None = None
    for run in runs(case, topic_of(case, table)):
        batch = decoder.decode(run, PartitionMemory()).batch
        records, previous, _ = encode_changes(
            batch, (run.topic, 0, run.partition), previous, bytes_max=RECORD_BYTES_MAX
        )
        yield from records


@pytest.mark.parametrize(("case", "table"), KEYED, ids=[f"{case}:{table}" for case, table in KEYED])
def test_every_captured_change_is_valid_and_read(case: str, table: str) -> None:
    """By version 1 of the table's columns, whatever the connector's settings were."""
    spec = spec_of(case, table)
    contract = contract_of(spec, topic=f"headgate.changes.{spec.table}")
    values, keys = (jsonschema_rs.validator_for(made(contract)) for made in (value_schema, key_schema))
    decoder = EventDecoder(contract)
    faults: list[str] = []
    for key, value in written(case, table, spec):
        faults += [f"{error.instance_path}: {error.message}" for error in values.iter_errors(json.loads(value))]
        faults += [f"key: {error.message}" for error in keys.iter_errors(json.loads(key or b"null"))]
        assert isinstance(decoder.decode(Stored(value)), Change)

    assert [] == faults[:5]


def test_the_captures_have_nearly_every_type() -> None:
    """With a value that is not null: the test above would say nothing of the others."""
    seen: set[Kind] = set()
    for case, table in KEYED:
        spec = spec_of(case, table)
        rows: list[dict[str, Any]] = [json.loads(value)["after"] or {} for _, value in written(case, table, spec)]
        seen |= {spec.columns[name].type.kind for row in rows for name, value in row.items() if value is not None}

    assert set(Kind) - NOT_CAPTURED <= seen
