"""Each oracle finds the fault that it is for, and finds none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.oracles import (
    Change,
    LakeChange,
    RowEvent,
    Verdict,
    ViewShape,
    check_conservation,
    check_history,
    check_latest,
    check_origins,
    check_streams,
    check_view,
    compare,
    expected_rows,
    require,
    to_change,
)
from tests.oracles.topic import Record
from tests.oracles.values import WrongForm, from_contract, from_redis
from tests.unit.oracles.contract_writer import BUCKETS, SHAPES, changes_of, lake_of, of, records_of, stored_of
from tests.workloads.model import KEYS, OUT_OF_LINE


@pytest.mark.parametrize("table", list(KEYS))
def test_a_perfect_product_passes_every_oracle(history: list[RowEvent], table: str) -> None:
    """No oracle sees a fault where there is none, and each one has looked at something."""
    shape, changes = of(history, table)
    rows = expected_rows(history, table)
    lake = lake_of(shape, changes)
    verdicts = [
        check_streams(changes, name=table, at_least=100),
        check_history(shape, history, changes, out_of_line=OUT_OF_LINE[table]),
        check_latest(shape, lake, rows, at_least=10),
        check_origins(shape, lake, changes),
        *(check_view(view, stored_of(view, rows), rows, buckets=BUCKETS) for view in ViewShape.all_of(shape)),
    ]

    require(*verdicts)
    assert all(sum(verdict.figures.values()) > 0 for verdict in verdicts)


def doubled(changes: list[Change]) -> list[Change]:
    """The same change again, at once."""
    return [*changes[:9], changes[8], *changes[9:]]


def lost(changes: list[Change]) -> list[Change]:
    """One change is not there."""
    return [*changes[:8], *changes[9:]]


def swapped(changes: list[Change]) -> list[Change]:
    """Two neighbours in the wrong order."""
    return [*changes[:8], changes[9], changes[8], *changes[10:]]


def broken_previous(changes: list[Change]) -> list[Change]:
    """`previous` names a change that was never there."""
    return [*changes[:8], replace(changes[8], previous=4_711), *changes[9:]]


def elsewhere(changes: list[Change]) -> list[Change]:
    """A change in the output partition of another."""
    return [*changes[:8], replace(changes[8], record=replace(changes[8].record, partition=7)), *changes[9:]]


def position_falls(changes: list[Change]) -> list[Change]:
    """A later change of a key with a lower position than an earlier one."""
    seen: dict[Any, int] = {}
    for at, change in enumerate(changes):
        if change.key in seen:
            return [*changes[:at], replace(change, position="0" * 45), *changes[at + 1 :]]
        seen[change.key] = at
    raise AssertionError("no key has two changes")


@pytest.mark.parametrize("plant", [doubled, lost, swapped, broken_previous, elsewhere, position_falls])
def test_order_finds(history: list[RowEvent], plant: Callable[[list[Change]], list[Change]]) -> None:
    """A double, a loss, a wrong order, a broken `previous`, a wrong partition, a position that falls."""
    _, changes = of(history, "patients")

    assert not check_streams(plant(changes), name="patients").holds


def test_too_little_progress_is_a_difference() -> None:
    """An empty topic is in perfect order, and no proof."""
    verdict = check_streams([], name="patients", at_least=1)

    assert ["moved too little: changes is 0, at least 1 is wanted"] == verdict.differences


def first_with(changes: list[Change], wanted: Callable[[Change], bool]) -> int:
    """The index of the first change that fits."""
    return next(at for at, change in enumerate(changes) if wanted(change))


def other_value(changes: list[Change]) -> list[Change]:
    """A value that the source never had."""
    at = first_with(changes, lambda change: change.op == "update")
    return [
        *changes[:at],
        replace(changes[at], after={**(changes[at].after or {}), "title": "planted"}),
        *changes[at + 1 :],
    ]


def absent_value(changes: list[Change]) -> list[Change]:
    """A column that the source sent is neither there nor unavailable."""
    at = first_with(changes, lambda change: change.op == "insert")
    after = {name: value for name, value in (changes[at].after or {}).items() if name != "revision"}
    return [*changes[:at], replace(changes[at], after=after), *changes[at + 1 :]]


def wrongly_unavailable(changes: list[Change]) -> list[Change]:
    """A column is called unavailable that the statement had set."""
    at = first_with(changes, lambda change: change.op == "insert")
    after = {name: value for name, value in (changes[at].after or {}).items() if name != "body"}
    return [*changes[:at], replace(changes[at], after=after, unavailable=frozenset({"body"})), *changes[at + 1 :]]


def unavailable_and_null(changes: list[Change]) -> list[Change]:
    """Unavailable was turned into null."""
    at = first_with(changes, lambda change: "body" in change.unavailable)
    return [*changes[:at], replace(changes[at], after={**(changes[at].after or {}), "body": None}), *changes[at + 1 :]]


def order_of_a_key(changes: list[Change]) -> list[Change]:
    """The last two changes of a key in the wrong order, their identities exchanged too."""
    at = first_with(changes, lambda change: change.op == "delete")
    other = max(i for i, change in enumerate(changes[:at]) if change.key == changes[at].key)
    planted = list(changes)
    planted[at], planted[other] = changes[other], changes[at]
    return planted


@pytest.mark.parametrize(
    "plant", [doubled, lost, other_value, absent_value, wrongly_unavailable, unavailable_and_null, order_of_a_key]
)
def test_history_finds(history: list[RowEvent], plant: Callable[[list[Change]], list[Change]]) -> None:
    """What the source did not say, and what it said and is not there."""
    shape, changes = of(history, "notes")
    planted = plant(changes)
    if plant is doubled:
        planted[9] = replace(planted[9], position="9" * 45)  # at the same position it would be a repeat of the source

    assert not check_history(shape, history, planted, out_of_line=OUT_OF_LINE["notes"]).holds


def test_history_counts_a_repeat_of_the_source(history: list[RowEvent]) -> None:
    """Debezium may send a record again: that is another origin at the same position."""
    shape, changes = of(history, "notes")

    topic, generation, partition, offset = changes[8].origin
    planted = [*changes[:9], replace(changes[8], origin=(topic, generation, partition, offset + 1)), *changes[9:]]

    verdict = check_history(shape, history, planted, out_of_line=OUT_OF_LINE["notes"])

    assert [] == verdict.differences
    assert 1 == verdict.figures["repeats of the source"]


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("rows are gone", lambda lake: [c for c in lake if c.op != "insert"]),
        ("a delete is gone", lambda lake: [c for c in lake if c.op != "delete"]),
        (
            "the older change wins",
            lambda lake: [replace(c, position="0" * 45) if c.op == "update" else c for c in lake],
        ),
        ("unavailable read as null", lambda lake: [replace(c, unavailable=frozenset()) for c in lake]),
        ("a value", lambda lake: [replace(c, row={**c.row, "title": "planted"}) for c in lake]),
    ],
)
def test_latest_rows_of_the_lake_find(
    history: list[RowEvent], fault: str, damage: Callable[[list[LakeChange]], list[LakeChange]]
) -> None:
    """What makes the latest view another one than the source."""
    shape, changes = of(history, "notes")

    assert not check_latest(shape, damage(lake_of(shape, changes)), expected_rows(history, "notes")).holds, fault


def test_the_latest_row_follows_a_change_of_the_key() -> None:
    """The new key's row has the old key's out-of-line text, as it was just before."""
    shape = SHAPES["notes"]
    row = {"id": 1, "title": "a", "revision": 1, "body": "long", "scan": None, "tags": None, "written": None}
    moved = {**row, "id": 2}
    events = [
        RowEvent("notes", "insert", (1,), row, frozenset(row)),
        RowEvent("notes", "delete", (1,), None, frozenset(), new_key=(2,)),
        RowEvent("notes", "insert", (2,), moved, frozenset({"id"}), old_key=(1,)),
    ]
    changes = changes_of(shape, events)
    lake = lake_of(shape, changes)
    lake = [
        replace(c, unavailable=frozenset({"body"}), row={**c.row, "body": None}, position="0" * 44 + "2")
        if c.old_key
        else c
        for c in lake
    ]

    assert [] == check_latest(shape, lake, {(2,): moved}).differences


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("lost", lambda lake: lake[1:]),
        ("doubled", lambda lake: [*lake, lake[3]]),
        ("another previous", lambda lake: [replace(lake[0], previous=99), *lake[1:]]),
        (
            "another value",
            lambda lake: [replace(c, row={**c.row, "visits": 77}) if c.op == "insert" else c for c in lake],
        ),
    ],
)
def test_origins_of_the_lake_find(
    history: list[RowEvent], fault: str, damage: Callable[[list[LakeChange]], list[LakeChange]]
) -> None:
    """A change that is not in the lake once, as it was emitted."""
    shape, changes = of(history, "patients")

    assert not check_origins(shape, damage(lake_of(shape, changes)), changes).holds, fault


@pytest.mark.parametrize(
    ("emitted", "quarantined", "holds"),
    [
        ([0, 2], [1], True),
        ([0], [1], False),
        ([0, 2], [], False),
        ([0, 1, 2], [1], False),
        ([0, 2, 3], [1], False),
        ([0, 2, 2], [1], False),
        ([0, 2, 9], [1], False),
    ],
)
def test_conservation(emitted: list[int], quarantined: list[int], holds: bool) -> None:
    """Three records and a tombstone: each is in one place, or the oracle says so."""
    inputs = [Record("t", 0, offset, b"k", b"v" if offset < 3 else None) for offset in range(4)]

    verdict = check_conservation(
        inputs,
        emitted=[("t", 0, 0, offset) for offset in emitted],
        quarantined=[("t", 0, 0, offset) for offset in quarantined],
        topics={"t"},
    )

    assert holds is verdict.holds


def test_conservation_finds_a_loss_and_a_double_that_balance() -> None:
    """Equal sums are not enough."""
    inputs = [Record("t", 0, offset, b"k", b"v") for offset in range(3)]

    verdict = check_conservation(
        inputs, emitted=[("t", 0, 0, 0), ("t", 0, 0, 0), ("t", 0, 0, 2)], quarantined=[], topics={"t"}
    )

    assert 2 == verdict.total


def test_only_five_differences_are_shown_and_all_are_counted() -> None:
    """A screen is enough to see what is wrong."""
    verdict = compare(Verdict("many"), range(100), range(50, 150))

    assert (100, 5) == (verdict.total, len(verdict.differences))
    with pytest.raises(AssertionError, match="many: 100 DIFFERENCES"):
        require(verdict)


@pytest.mark.parametrize(
    ("type_text", "value"),
    [
        ("long", 5),
        ("long", "05"),
        ("int", "5"),
        ("int", 2**31),
        ("int", True),
        ("boolean", 1),
        ("decimal(5,2)", "1.5"),
        ("decimal(5,2)", 1.5),
        ("timestamptz", "2026-11-20T19:45:57.123456"),
        ("timestamptz", "2026-11-20T19:45:57Z"),
        ("timestamp", "2026-11-20T19:45:57.123456Z"),
        ("date", "2026-11-20T00:00:00"),
        ("time", "19:45"),
        ("double", "1.5"),
    ],
)
def test_a_form_that_the_contract_does_not_allow_is_refused(type_text: str, value: Any) -> None:
    """The oracle does not forgive what a subscriber would stumble over."""
    with pytest.raises(WrongForm):
        from_contract(type_text, value)


def test_redis_forms_are_text_or_the_contracts_json() -> None:
    """Text as it is, long and decimal as their text, lists as JSON."""
    found = [
        from_redis("string", b"5"),
        from_redis("long", b"5"),
        from_redis("decimal(4,2)", b"0.50"),
        from_redis("list<string>", b'["a",null]'),
    ]

    assert ["5", 5, Decimal("0.50"), ("a", None)] == found


def test_a_field_too_many_in_the_contract_is_refused(history: list[RowEvent]) -> None:
    """The contract's fields are these and no others."""
    record = records_of(SHAPES["patients"], history)[0]
    assert record.value is not None

    with pytest.raises(WrongForm, match="fields are"):
        to_change(SHAPES["patients"], replace(record, value=record.value.replace(b'"op"', b'"extra": 1, "op"', 1)))
