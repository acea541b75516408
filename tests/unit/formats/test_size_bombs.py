"""Records that are small and stand for much, or deep, or wide: each is refused or read at once, beside good ones."""

from __future__ import annotations

import json
import random
import resource
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from connectors.formats import PartitionMemory
from connectors.wire import Framing
from tests.proof.fuzz import Run, Target, outcomes
from tests.proof.seeds import SEEDS, Record, Table
from tests.unit.formats.avro_made import KNOWN, MADE, MADE_ROW, Known, framed, made_spec, record
from tests.unit.formats.made import envelope

SECONDS_MAX = 5.0  # of the processor: a quarter of a second on a quiet machine, and minutes where nothing stops it
MIB_MAX = 300
COLUMNS = 5_000
GLUE_GUID = bytes(range(16))
NULLS = {"type": "array", "items": "null"}
Spoil = Callable[[bytes], bytes]


def target_of(format_name: str) -> Target:
    """Return a table of a format, with a good record that is a change."""
    for table in SEEDS[format_name](random.Random(1)):
        target = Target(Table(table.name, table.spec, table.records[:20], table.schemas))
        target.good = [(good, outcome) for good, outcome in target.good if outcome.startswith("[")]
        if target.good:
            return target
    raise AssertionError(f"{format_name} has no good record")


def beside_good_ones(target: Target, bomb: Record) -> str:
    """Return what becomes of a record between two good ones, which nothing happens to."""
    good, expected = target.good[0]
    began, held = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = target.new_decoder().decode(Run([good, bomb, good]), PartitionMemory())
    took, grown = time.thread_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    first, found, last = outcomes(decoded, 3)

    assert (expected, expected) == (first, last)
    assert took < SECONDS_MAX
    assert grown < MIB_MAX * 1024
    return found


def deep(value: bytes) -> bytes:
    """A member nested a hundred thousand times."""
    return value[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def deep_document(value: bytes) -> bytes:
    """The same where the record is nothing else."""
    return b'{"a":' * 100_000 + value + b"}" * 100_000


def _widened(node: Any) -> Any:
    if isinstance(node, dict):
        columns = {f"column {number}": number for number in range(COLUMNS)}
        return {name: _widened(inner) for name, inner in node.items()} | columns
    if isinstance(node, str) and node.startswith("{"):
        return json.dumps(_widened(json.loads(node)))
    return [_widened(inner) for inner in node] if isinstance(node, list) else node


def wide(value: bytes) -> bytes:
    """Five thousand columns more in every object."""
    return json.dumps(_widened(json.loads(value))).encode()


@pytest.mark.parametrize("format_name", sorted(SEEDS.keys() - {"debezium-avro"}))
@pytest.mark.parametrize("spoil", [deep, deep_document, wide])
def test_no_record_of_json_is_too_deep_or_too_wide_for_its_neighbours(format_name: str, spoil: Spoil) -> None:
    """A record as deep as that is always refused; one as wide may be read past."""
    target = target_of(format_name)
    good = target.good[0][0]
    found = beside_good_ones(target, Record(good.key, spoil(good.value or b""), good.headers))

    assert spoil is wide or found in {"too_deep", "broken_json"}


def _avro(payload: bytes, schema: Any = NULLS, inflated_bytes_max: int = 4_000_000) -> tuple[Target, Record]:
    known = Known({**KNOWN, 9: json.dumps(schema)}, Framing(inflated_bytes_max=inflated_bytes_max))
    key, value = record()
    target = Target(Table("made", made_spec(), [Record(key, value)], known))
    return target, Record(key, payload)


def _number(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_an_array_of_fifty_million_nulls_is_refused() -> None:
    """Its items take no bytes at all."""
    target, bomb = _avro(b"\0" + (9).to_bytes(4, "big") + _number(50_000_000) + b"\0")

    assert "too_many_values" == beside_good_ones(target, bomb)


def test_avro_that_nests_deeper_than_records_may_is_refused() -> None:
    """A list of lists of lists, by a schema that goes in circles."""
    schema = {"type": "record", "name": "A", "fields": [{"name": "a", "type": ["null", "A"]}]}
    target, bomb = _avro(b"\0" + (9).to_bytes(4, "big") + b"\2" * 100_000 + b"\0", schema)

    assert "too_deep" == beside_good_ones(target, bomb)


def test_avro_of_five_thousand_columns_is_read_past() -> None:
    """They are columns that the spec does not name."""
    schema = json.loads(json.dumps(MADE))
    row = next(each for each in schema["fields"] if each["name"] == "before")["type"][1]
    row["fields"] += [{"name": f"c{number}", "type": ["null", "int"]} for number in range(COLUMNS)]
    target, bomb = _avro(framed(9, schema, envelope(after=MADE_ROW)), schema)

    assert beside_good_ones(target, bomb).startswith('[["update"')


def test_what_zlib_makes_large_is_refused_before_it_is_inflated() -> None:
    """A thousand times as much as came."""
    bomb = b"\x03\x05" + GLUE_GUID + zlib.compress(bytes(60_000_000), 9)
    target, spoiled = _avro(bomb, inflated_bytes_max=1_000_000)

    assert len(bomb) < 70_000
    assert "zip_bomb" == beside_good_ones(target, spoiled)
