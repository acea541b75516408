"""Each capture by way of `headgate decode`: in order, shuffled across keys, and doubled, it comes to the same rows."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from connectors.captured import OneRecord
from schemas.config import LimitsConfig
from streams.final_rows import FinalRows
from streams.looked import CHANGE, Looker
from tests.contract.test_formats import NOT_FOLDED, STOPS, folded, tables
from tests.unit.formats.captures import runs, spec_of, topic_of

CASES = [entry for entry in tables() if entry not in NOT_FOLDED and entry not in STOPS]


def changes(case: str, table: str) -> list[bytes]:
    """Return the changes of a table, each record decoded alone."""
    topic, found = topic_of(case, table), []
    looker = Looker({"captured": spec_of(case, table, topics=[topic])}, LimitsConfig())
    for run in runs(case, topic):
        for at, (offset, key, value) in enumerate(zip(run.offsets(), run.keys(), run.values(), strict=True)):
            looked = looker.look(OneRecord(topic, run.partition, offset, key, value, run.headers(at)))
            found += [bytes(each.change) for each in looked if each.kind == CHANGE]  # type: ignore[arg-type]  # none stops
    return found


def rows(case: str, table: str, values: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the rows that changes come to."""
    final = FinalRows(spec_of(case, table))
    for value in values:
        final.apply(value)
    return list(final.documents())


@pytest.mark.parametrize(("case", "table"), CASES)
def test_any_order_and_any_repeat_comes_to_the_same_rows(case: str, table: str) -> None:
    """And to those keys that the source ended with; their values are compared in test_formats.py."""
    values = changes(case, table)
    in_order = rows(case, table, values)
    shuffled = [*values, *values]
    random.Random(f"{case} {table}").shuffle(shuffled)

    assert in_order == rows(case, table, shuffled)
    assert folded(case, table).rows.keys() == {
        msgspec.json.encode([str(row["key"][name]) for name in spec_of(case, table).key]).decode().replace(",", ", ")
        for row in in_order
    }
