"""Records of several changes, delivered as a broker without transactions may: each change counts once, in order.

A life of the writer begins at a record, at or before the first of which not all was written, and ends anywhere: behind
any change of any record. The next one begins the record anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain as joined
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import ContractReader
from schemas.change import Height
from sinks.lake import table as lake
from sinks.lake.rows import ROWS_READ, lake_rows
from streams.lake_buffer import new_rows
from streams.origins import ORIGIN_COLUMNS, OriginHeights, read_heights, unrepeated
from tests.oracles.sequence import Expected, check_sequence
from tests.oracles.shape import Shape
from tests.oracles.topic import Record, check_streams, to_change
from tests.oracles.verdict import Verdict
from tests.unit.docs.pages import blocks_of
from tests.unit.lake.changes import INGESTED, TOPIC, chain, encoded, spec_of

SPEC = spec_of()
PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
Place = tuple[int, int]
Delivery = list[list[bytes]]  # runs of values


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Place], Delivery]:
    """Return where all changes stand, and runs that deliver each at least once."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    records = chain(counts)
    sent: list[dict[str, Any]] = []
    reached, written = 0, 0  # records written whole; changes written of the next one
    while reached < len(records):
        first = draw(st.integers(0, reached))
        rest = [*joined.from_iterable(records[first:])]
        again = sum(counts[first:reached]) + written
        taken = draw(st.integers(1, len(rest))) if draw(st.booleans()) else len(rest)
        sent += rest[:taken]
        if taken > again:
            reached, written = _place(counts, sum(counts[:first]) + taken)
    runs, values = [], encoded(sent)
    while values:
        size = draw(st.integers(1, len(values)))
        runs.append(values[:size])
        values = values[size:]
    return [(2 * number, row) for number, count in enumerate(counts) for row in range(count)], runs


def _place(counts: list[int], taken: int) -> Place:
    for number, count in enumerate(counts):
        if taken < count:
            return number, taken
        taken -= count
    return len(counts), 0


def by_columns(runs: Delivery) -> list[Place]:
    """Apply the rule as ALERTS does, with a restart between any two runs."""
    reader = ContractReader(SPEC, rows=frozenset(), fields=ORIGIN_COLUMNS)
    kept: list[Place] = []
    heights = OriginHeights()
    for values in runs:
        changes = reader.read(values)
        mask, heights = unrepeated(changes, read_heights(heights.to_text()))
        kept += _places(changes.filter(mask), "origin_offset", "origin_row")
    return kept


def by_lake(runs: Delivery) -> list[Place]:
    """Apply the rule as LAKE does, batch after batch."""
    reader = ContractReader(SPEC, rows=ROWS_READ)
    kept: list[Place] = []
    highest: dict[tuple[str, int, int], Height] = {}
    for values in runs:
        rows, highest = new_rows(lake_rows(SPEC, reader.read(values), values, ingested=INGESTED), highest)
        if lake.ROW in rows.column_names:
            kept += _places(rows, lake.OFFSET, lake.ROW)
        else:
            kept += [(offset, 0) for offset in rows.column(lake.OFFSET).to_pylist()]
    return kept


def by_page(runs: Delivery) -> list[Place]:
    """Apply the rule as docs/contract.md tells subscribers to."""
    (block,) = (block for block in blocks_of(PAGE) if block.language == "python" and "handle(" in block.text)
    code, handled = compile(block.text, block.place, "exec"), list[Any]()
    highest: dict[Any, Any] = {}
    for value in joined.from_iterable(runs):
        exec(code, {"change": json.loads(value), "highest": highest, "handle": handled.append})  # noqa: S102 - our page
    origins = [change["source"]["origin"][3:] for change in handled]
    return [(offset, row[0] if row else 0) for offset, *row in origins]


def _places(table: pa.Table, *names: str) -> list[Place]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


@settings(deadline=None)
@pytest.mark.parametrize("rule", [by_columns, by_lake, by_page])
@given(delivery=deliveries())
def test_each_change_counts_once(
    rule: Callable[[Delivery], list[Place]], delivery: tuple[list[Place], Delivery]
) -> None:
    """Whatever of a record, and however often, was written before."""
    places, runs = delivery

    assert places == rule(runs)


@settings(deadline=None)
@given(delivery=deliveries(), data=st.data())
def test_the_oracle_finds_what_is_missing_or_doubled(
    delivery: tuple[list[Place], Delivery], data: st.DataObject
) -> None:
    """Any of them but the last, where its record made no other: of that one nobody speaks."""
    counts = list(Counter(offset for offset, _ in delivery[0]).values())
    values = encoded([*joined.from_iterable(chain(counts))])
    shape = Shape.of(SPEC.model_dump(mode="json"))

    def judged(some: list[bytes]) -> int:
        records = [Record("t", 0, at, json_key(value), value) for at, value in enumerate(some)]
        return check_streams([to_change(shape, one) for one in records], name="t", at_least=0).total

    victim = data.draw(st.integers(0, len(values) - 1))
    missing = values[:victim] + values[victim + 1 :]

    assert 0 == judged(values)
    assert judged(values[: victim + 1] + values[victim:]) > 0
    assert (judged(missing) > 0) == (victim < len(values) - 1 or counts[-1] > 1)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_the_oracle_of_what_must_be_there_finds_it_too(counts: list[int], data: st.DataObject) -> None:
    """Any change missing, doubled or miscounted; a record repeated whole or in part is one of the rule's repeats."""
    changes = [*joined.from_iterable(chain(counts))]
    victim = data.draw(st.integers(0, len(changes) - 1))
    source = changes[victim]["source"]
    miscounted = {**changes[victim], "source": {**source, "rows": source.get("rows", 1) + 1}}
    begin = max(at for at in range(victim + 1) if not changes[at]["source"]["origin"][4:])

    def judged(some: list[dict[str, Any]], *, repeats: bool = False) -> tuple[int, int]:
        verdict = Verdict("sequence")
        expected = (_expected(one) for one in changes)
        found = (Record("t", 0, at, None, value) for at, value in enumerate(encoded(some)))
        check_sequence(verdict, (TOPIC, 0, 0), expected, found, repeats=repeats)
        return verdict.total, verdict.figures["repeats"]

    assert (0, 0) == judged(changes)
    assert judged(changes[:victim] + changes[victim + 1 :])[0] > 0
    assert judged(changes[: victim + 1] + changes[victim:])[0] == 1
    assert judged([*changes[:victim], miscounted, *changes[victim + 1 :]])[0] == 1
    assert (0, victim + 1 - begin) == judged(changes[: victim + 1] + changes[begin:], repeats=True)


def _expected(change: dict[str, Any]) -> Expected:
    said = {name: change[name] for name in ("op", "key", "after", "position", "ts")}
    offset, *row = change["source"]["origin"][3:]
    return Expected(offset=offset, row=row[0] if row else 0, rows=change["source"].get("rows", 1), **said)


def json_key(value: bytes) -> bytes:
    """Return the key that the record of a change has."""
    return json.dumps(json.loads(value)["key"]).encode()
