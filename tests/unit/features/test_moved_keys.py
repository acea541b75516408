"""Rounds in which keys change: what is put behind the hand-over, and what a new key takes from an old one."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import PoisonRecord
from schemas.table import TableSpec
from sinks.redis.fold import Gatherer
from sinks.redis.handover import gifts_of, handings
from sinks.redis.layout import Layout
from sinks.redis.rows import TableRows
from tests.property.handovers import SPEC, Source, encoded

LAYOUT = Layout("hg", 4)
TABLE = TableRows(SPEC, SPEC.features[:1])


def gathered(changes: list[dict[str, Any]]) -> tuple[Gatherer, int]:
    """Return a round of what it takes of changes, and how many that are."""
    gatherer, decoded = Gatherer(LAYOUT, 65_536), TABLE.decode(encoded(changes))
    count = gatherer.takes(TABLE, decoded)
    gatherer.add(TABLE, decoded[:count], lambda index: f"id|0|{index}", value_bytes_max=1_000)
    return gatherer, count


def sent(gatherer: Gatherer) -> list[tuple[Any, ...]]:
    """Return key, position's end and state of all its rows, in their order."""
    rows = [row for views in gatherer.sections.values() for section in views.values() for row in section.rows()]
    return sorted((int(row[1][-2:]), row[0], row[2]) for row in rows)


def test_an_old_keys_delete_and_what_came_of_the_key_behind_it_are_put_aside() -> None:
    """All else goes first, also what came later: positions decide between rows of one key."""
    source = Source()
    source.put(0, {"name": "a", "note": "b", "memo": "c"})
    source.move(0, 1, {"name": "moved", "note": "b", "memo": "c"})
    source.put(0, {"name": "anew", "note": "b", "memo": "c"})
    source.delete(1)

    gatherer, count = gathered(source.changes)

    assert 5 == count
    assert [(1, "0", ""), (4, "1", "d")] == sent(gatherer)
    assert gatherer.handover is not None
    assert [(2, "0", "d"), (3, "0", "")] == sent(gatherer.handover.leaving)
    assert [("0", "1")] == [(move.key, move.to) for move in gatherer.handover.moves]


def test_a_key_changes_once_in_a_round() -> None:
    """What it was is read before its delete, so a second life must wait for the first to end."""
    source = Source()
    source.put(0, dict.fromkeys(("name", "note", "memo"), "a"))
    source.move(0, 1, {})
    source.move(1, 0, {})
    source.move(0, 2, {})

    assert 5 == gathered(source.changes)[1]
    gatherer, _ = gathered(source.changes[:3])
    again = TABLE.decode(encoded(source.changes[3:]))
    assert 2 == gatherer.takes(TABLE, again)


def test_where_no_key_changes_nothing_is_put_aside() -> None:
    """And nothing asked."""
    source = Source()
    source.put(0, {"name": "a"})
    source.delete(0)

    gatherer, count = gathered(source.changes)

    assert (2, None) == (count, gatherer.handover)


def test_columns_made_from_the_key_are_not_handed_over() -> None:
    """A row names its own key, also where that names its entity or is shown as a column."""
    spec = TableSpec.model_validate(
        {
            "table": "results",
            "topics": ["clinic.results"],
            "key": ["patient", "number"],
            "columns": {"patient": "long", "number": "int", "note": "string", "at": "int"},
            "features": [
                {"view": "rows", "entity": "result", "columns": ["number", "note"]},
                {
                    "view": "last",
                    "entity": "patient",
                    "entity_key": ["patient"],
                    "columns": ["note"],
                    "event_time": "at",
                },
            ],
        }
    )
    plans = TableRows(spec, spec.features).plans

    assert [["number", "note"], ["note", ".t", ".e", ".s"]] == [plan.columns for plan in plans]
    assert ["-h", "hh-h"] == [plan.handed for plan in plans]


def test_a_change_of_a_key_without_the_key_is_refused() -> None:
    """It is named, as any other."""
    source = Source()
    source.put(0, {"name": "a"})
    source.move(0, 1, {})
    source.changes[1]["key"] = None

    with pytest.raises(PoisonRecord, match="record 1 has no key"):
        gathered(source.changes)


@pytest.mark.parametrize("new_key", [{"id": 7}, {"id": None}, {}, "7", [{"id": "7"}]])
def test_a_new_key_of_another_form_is_refused(new_key: Any) -> None:
    """The contract has keys as texts here: another writer is on the topic."""
    source = Source()
    source.put(0, {"name": "a"})
    source.move(0, 1, {})
    source.changes[1]["new_key"] = new_key

    with pytest.raises(PoisonRecord, match="record 1"):
        gathered(source.changes)


def test_a_gift_has_every_kind_of_nothing_but_unavailable() -> None:
    """As Redis answers it: false is null there, true is 1."""
    (gift,) = gifts_of([[b"latest.1", b"7", b"0001", [b"name", None, b"note", 1, b"memo", "é".encode()], b""]])

    assert ["name", False, "note", True, "memo", "é"] == gift.values


def test_each_bucket_is_asked_once_for_all_its_old_keys() -> None:
    """However many there are."""
    source = Source()
    for key in range(5):
        source.put(key, {"name": "a"})
        source.move(key, key + 100, {})
    gatherer, _ = gathered(source.changes)
    assert gatherer.handover is not None

    steps = handings(LAYOUT, gatherer.handover.moves)

    assert {LAYOUT.bucket(str(key)) for key in range(5)} == steps.keys()
    assert {("hf", "latest.1")} == {tuple(step.arguments()[:2]) for views in steps.values() for step in views.values()}
