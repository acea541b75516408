"""Each capture by way of `headgate decode`: in order, shuffled, and doubled, it comes to the same rows.

Where a key changes, what its new row did not say is the old row's: exact for orders in which each key's changes stay in
theirs, so those captures are shuffled across keys only, and repeated from the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
import pytest

from connectors.captured import OneRecord
from schemas.config import LimitsConfig
from streams.final_rows import FinalRows
from streams.looked import CHANGE, Looker
from tests.contract.test_formats import NOT_FOLDED, STOPS, folded, tables
from tests.unit.formats.captures import oracle, runs, spec_of, topic_of

CASES = [entry for entry in tables() if entry not in NOT_FOLDED and entry not in STOPS]
TRUNCATED = [entry for entry, reason in STOPS.items() if reason == "truncate"]


def changes(case: str, table: str, **said: Any) -> list[bytes]:
    """Return the changes of a table, each record decoded alone."""
    topic, found = topic_of(case, table), []
    looker = Looker({"captured": spec_of(case, table, topics=[topic], **said)}, LimitsConfig())
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


def shuffled_across_keys(values: list[bytes], chance: random.Random) -> list[bytes]:
    """Return changes in another order, and a second time, those of each key in theirs."""
    by_key: dict[bytes, list[bytes]] = {}
    for value in values:
        by_key.setdefault(msgspec.json.encode(msgspec.json.decode(value)["key"]), []).append(value)
    streams = [iter([*some[: chance.randint(0, len(some))], *some]) for some in by_key.values()]
    turns = [stream for stream, some in zip(streams, by_key.values(), strict=True) for _ in range(2 * len(some))]
    chance.shuffle(turns)
    return [value for stream in turns for value in islice(stream, 1)]


def hands_over(values: list[bytes]) -> bool:
    """Say whether a row that took over from another key lacks something of its own."""
    return any(change["old_key"] and change["unavailable"] for change in map(msgspec.json.decode, values))


@pytest.mark.parametrize(("case", "table"), CASES)
def test_any_order_and_any_repeat_comes_to_the_same_rows(case: str, table: str) -> None:
    """And to those keys that the source ended with; their values are compared in test_formats.py."""
    values, chance = changes(case, table), random.Random(f"{case} {table}")
    in_order = rows(case, table, values)
    shuffled = [*values, *values]
    chance.shuffle(shuffled)
    if hands_over(values):
        shuffled = shuffled_across_keys(values, chance)

    assert in_order == rows(case, table, shuffled)
    assert folded(case, table).rows.keys() == {
        msgspec.json.encode([str(row["key"][name]) for name in spec_of(case, table).key]).decode().replace(",", ", ")
        for row in in_order
    }


@pytest.mark.parametrize("case", ["pg-toast", "pg-toast-reselect"])
def test_a_row_whose_key_changed_has_the_long_values_that_its_old_row_had(case: str) -> None:
    """The capture ends with the row's delete; just before it, all that TOAST kept back is there, in any order."""
    values = [value for value in changes(case, "public.toast_default") if not is_last_delete(value)]
    chance = random.Random(case)
    there = [row for row in rows(case, "public.toast_default", values) if row["key"] == {"id": 2}]
    old = [row for row in rows(case, "public.toast_default", before_the_move(values)) if row["key"] == {"id": 1}]

    assert hands_over(values)
    assert [False] == ["unavailable" in row for row in there]
    assert [row["row"] | {"id": 2} for row in old] == [row["row"] for row in there]
    for _ in range(20):
        assert there[0] in rows(case, "public.toast_default", shuffled_across_keys(values, chance))


def is_last_delete(value: bytes) -> bool:
    """Say whether a change deletes the row that changed its key."""
    change = msgspec.json.decode(value)
    return bool(change["op"] == "delete" and change["key"] == {"id": 2})


def before_the_move(values: list[bytes]) -> list[bytes]:
    """Return the changes up to the first that changes a key."""
    first = next(index for index, value in enumerate(values) if msgspec.json.decode(value)["new_key"])
    return values[:first]


@pytest.mark.parametrize(("case", "table"), TRUNCATED)
def test_truncates_that_are_applied_leave_the_rows_of_the_database(case: str, table: str) -> None:
    """In order, shuffled, and with any part replayed.

    Of one table, of several in one statement, in a cascade, between inserts of one transaction, and before a COPY.
    """
    values, chance = changes(case, table, truncate="apply"), random.Random(f"{case} {table}")
    floors = [value for value in values if b'"op":"floor"' in value]
    in_order = rows(case, table, values)
    known = oracle(case)[table]

    assert floors
    assert sorted(str(row[name]) for row in known["rows"] for name in known["primary_key"]) == sorted(
        str(key) for row in in_order for key in row["key"].values()
    )
    for _ in range(20):
        shuffled = [*values, *values[: chance.randrange(len(values))]]
        chance.shuffle(shuffled)
        assert in_order == rows(case, table, shuffled)
