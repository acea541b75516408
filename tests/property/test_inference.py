"""What holds of every proposal: it refuses no value that it was made from, whatever values they were."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.captured import OneRecord
from connectors.formats import PartitionMemory, format_of
from connectors.inference import SAMPLERS, new_samples
from connectors.inference.connect import ways_of
from connectors.inference.fitting import takes
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.event_cases import cases
from tests.unit.formats.made import PLACEHOLDER, MadeRun, compact, envelope

CODES = [*PLACEHOLDER.encode()]
UNSENT = [
    *(PLACEHOLDER, base64.b64encode(PLACEHOLDER.encode()).decode(), json.dumps({PLACEHOLDER: PLACEHOLDER})),
    *([PLACEHOLDER], CODES, ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"], {PLACEHOLDER: PLACEHOLDER}),
]
TEXTS = [
    *("2024-02-29T13:45:06.789123Z", "+294276-12-31T23:59:59Z", "infinity", "2024-02-30T00:00:00Z"),
    *("0001-01-01T00:00:00Z", "2024-02-29Z", "+5877611-06-21Z", "13:45:06Z", "24:00:00Z"),
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    *('{"a":1}', "[1,", "[]", "NaN", "Infinity", "AeJA", "AeI=", "_-4=", "", "true", "7"),
]  # fmt: skip
SCALED = st.fixed_dictionaries({"scale": st.integers(-3, 5000), "value": st.sampled_from(["AeJA", "", "no"])})
scalars = [
    st.booleans(),
    st.integers(-9, 9),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(TEXTS),
    st.text(max_size=4),
]
cells = [
    *scalars,
    *(st.lists(st.none() | kind, max_size=3) for kind in scalars),
    st.lists(st.lists(st.integers(), max_size=2), max_size=2),
    SCALED,
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
]


@st.composite
def columns(draw: st.DrawFn) -> list[Any]:
    """Six values of one column: of one kind or two, with nulls and what the source did not send."""
    kinds = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=2))
    odd = draw(st.sampled_from([st.none(), st.sampled_from(UNSENT), st.nothing()]))
    return draw(st.lists(st.one_of(*kinds, odd), min_size=6, max_size=6))


def decoded(records: list[tuple[bytes, bytes]]) -> Decoded:
    """Return what the proposal made of records makes of them."""
    samples = new_samples()
    for offset, (key, value) in enumerate(records):
        samples.add(OneRecord("made", 0, offset, key, value, ()))
    (proposal,) = samples.tables()
    decoder = format_of(proposal.spec.format).decoder(TableEntry(spec=proposal.spec), LimitsConfig())
    return decoder.decode(MadeRun(records), PartitionMemory())


@settings(max_examples=100, deadline=None)
@given(st.lists(columns(), min_size=1, max_size=3), st.sampled_from([st.integers(), st.sampled_from(TEXTS)]), st.data())
def test_no_value_that_was_sampled_is_refused(made: list[list[Any]], keys: Any, data: st.DataObject) -> None:
    """Whatever stands in the columns, and whichever rows have them."""
    records = []
    for lsn, cells_of_row in enumerate(zip(*made, strict=True), start=200):
        row = {"id": data.draw(keys), **{f"c{at}": cell for at, cell in enumerate(cells_of_row)}}
        for name in data.draw(st.sets(st.sampled_from(sorted(row.keys() - {"id"})), max_size=1)):
            row.pop(name)
        records.append((compact({"id": row["id"]}), compact(envelope("c", row, lsn=lsn))))
    found = decoded(records)

    assert [] == [str(rejected.error) for rejected in found.rejected]
    assert len(records) == len(found.batch)


def field(type_: str, name: str | None = None, **parameters: str) -> dict[str, Any]:
    """Return a field of a schema block."""
    named = {} if name is None else {"name": name}
    return {"type": type_, "optional": True, **named, **({"parameters": parameters} if parameters else {})}


int32, int64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
bytes_ = st.binary(min_size=1, max_size=9).map(lambda raw: base64.b64encode(raw).decode())
words = st.sampled_from([text for text in TEXTS if text != "NaN"]) | st.text(max_size=4)
DECIMAL = "org.apache.kafka.connect.data.Decimal"
FIELDS: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    (field("int16"), st.integers(-(2**15), 2**15 - 1)),
    (field("int32"), int32),
    (field("int64"), int64),
    (field("boolean"), st.booleans()),
    (field("float"), st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["NaN", "-Infinity"])),
    (field("double"), st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["NaN", "-Infinity"])),
    (field("string"), words),
    (field("bytes"), bytes_),
    *((field("int32", f"io.debezium.time.{name}"), int32) for name in ("Date", "Time", "Year")),
    *(
        (field("int64", f"io.debezium.time.{name}"), int64)
        for name in ("MicroTime", "NanoTime", "Timestamp", "MicroTimestamp", "NanoTimestamp", "MicroDuration")
    ),
    *(
        (field("string", f"io.debezium.{name}"), words)
        for name in ("time.ZonedTimestamp", "time.ZonedTime", "time.IsoDate", "time.IsoTime", "time.IsoTimestamp",
                     "data.Json", "data.Uuid", "data.Enum", "time.Interval", "not.Known")
    ),
    (field("bytes", "io.debezium.data.Bits", length="5"), bytes_),
    (field("bytes", DECIMAL, scale="2", **{"connect.decimal.precision": "6"}), bytes_),
    (field("bytes", DECIMAL, scale="2"), bytes_),
    (field("bytes", DECIMAL, scale="2", **{"connect.decimal.precision": "60"}), bytes_),
    (field("bytes", DECIMAL, scale="2046"), bytes_),
    (field("bytes", DECIMAL, scale="2", **{"connect.decimal.precision": "9"}), st.decimals(-999, 999, places=2)),
    ({"type": "struct", "fields": [], "optional": True}, st.dictionaries(st.text(max_size=3), st.integers())),
    ({"type": "array", "items": field("int32"), "optional": True}, st.lists(st.none() | int32, max_size=3)),
    ({"type": "array", "items": field("int32", "io.debezium.time.Date")}, st.lists(st.none() | int32, max_size=3)),
]  # fmt: skip


def blocked(kind: dict[str, Any], value: Any, lsn: int) -> tuple[bytes, bytes]:
    """Return a record with a schema block; a decimal stands in it as a number, as decimal.format=NUMERIC writes it."""
    text = json.dumps(envelope("c", {"id": lsn, "c": value}, lsn=lsn), separators=(",", ":"), default=str)
    if isinstance(value, Decimal):
        text = text.replace(f'"c":"{value}"', f'"c":{value}')
    row = {"type": "struct", "field": "after", "fields": [{**field("int32"), "field": "id"}, {**kind, "field": "c"}]}
    block = compact({"type": "struct", "fields": [row]})
    return b'{"id":%d}' % lsn, b'{"schema":' + block + b',"payload":' + text.encode() + b"}"


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FIELDS), st.data())
def test_no_value_behind_a_schema_block_is_refused(stated: Any, data: st.DataObject) -> None:
    """Also where the type that the block states has no form for it."""
    kind, values = stated
    records = [blocked(kind, data.draw(st.none() | values), lsn) for lsn in range(200, 206)]

    assert [] == [str(rejected.error) for rejected in decoded(records).rejected]


@given(st.sampled_from(FIELDS), st.data())
def test_each_wider_way_takes_what_the_narrower_one_takes(stated: Any, data: st.DataObject) -> None:
    """So that values need not be kept: those of before fit the next way as well."""
    kind, values = stated
    value = data.draw(values)
    fits = [takes(way, [value]) for way in ways_of(kind) if way.encoding != "number"]

    assert sorted(fits) == fits


GOOD = [json.loads(record.value) for case in cases().values() for record in case.records if record.value][::7]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(GOOD), st.data())
def test_no_sampler_raises_for_what_is_in_a_record(name: str, good: Any, data: st.DataObject) -> None:
    """Of its own format or of another, with anything in any place."""
    document = json.loads(json.dumps(good))
    target = document
    while data.draw(st.booleans()) and (inner := [value for value in target.values() if isinstance(value, dict)]):
        target = data.draw(st.sampled_from(inner))
    if target:
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(anything)
    key = data.draw(st.none() | anything.map(compact))

    assert all(sample.op for sample in SAMPLERS[name]().samples(OneRecord("made", 0, 0, key, compact(document), ())))
