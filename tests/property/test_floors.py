"""Rows that changes and floors come to: in any order, doubled, and with any part replayed, the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.table import TableSpec
from streams.final_rows import FinalRows

SPEC = TableSpec.model_validate(
    {"table": "t", "topics": ["t"], "key": ["id"], "columns": {"id": "int", "a": "string", "b": "string"}}
)
FLOOR, DELETE = "floor", "delete"
# A key, and what becomes of its row: the columns that are sent of it, or a delete. A floor is of no key.
Change = tuple[int, tuple[str, ...] | str]
COLUMNS = ("a", "b")


def value(position: int, change: Change) -> bytes:
    """Write a change as the contract has it."""
    key, what = change
    sent = what if isinstance(what, tuple) else ()
    is_row = isinstance(what, tuple)
    source = {
        "connector": "postgresql", "name": "s", "table": "public.t", "tx": None, "snapshot": False,
        "origin": ["t", 0, 0, position], "first_origin": None, "previous": None,
    }  # fmt: skip
    said: dict[str, Any] = {
        "op": "update" if is_row else what, "key": None if what == FLOOR else {"id": key}, "old_key": None,
        "new_key": None, "before": None, "after": {"id": key} | {name: f"{name}{position}" for name in sent},
        "position": f"{position:045d}", "ts": "2026-11-20T19:45:57.123456Z",
        "unavailable": [name for name in COLUMNS if name not in sent] if is_row else [], "source": source,
    }  # fmt: skip
    return msgspec.json.encode(said | ({} if is_row else {"after": None}))


def rows_of(values: Sequence[bytes]) -> dict[int, tuple[dict[str, Any], list[str]]]:
    """Return row and unavailable columns by key."""
    final = FinalRows(SPEC)
    for each in values:
        final.apply(each)
    return {row["key"]["id"]: (row["row"], row.get("unavailable", [])) for row in final.documents()}


def played(history: Sequence[Change]) -> dict[int, tuple[dict[str, Any], list[str]]]:
    """The model: what a database does."""
    rows: dict[int, dict[str, Any]] = {}
    for position, (key, what) in enumerate(history):
        if what == FLOOR:
            rows.clear()
        elif isinstance(what, str):
            rows.pop(key, None)
        else:
            rows.setdefault(key, {"id": key}).update({name: f"{name}{position}" for name in what})
    return {key: (row, [name for name in COLUMNS if name not in row]) for key, row in rows.items()}


def histories() -> st.SearchStrategy[list[Change]]:
    """Changes of three rows, and floors."""
    sent = st.sampled_from([("a", "b"), ("a", "b"), ("a",), ("b",), ()])
    what: st.SearchStrategy[Any] = st.one_of(sent, sent, sent, st.just(DELETE), st.just(FLOOR))
    return st.lists(st.tuples(st.integers(1, 3), what), max_size=14)


@given(histories(), st.randoms(use_true_random=False), st.integers(0, 14))
def test_any_order_and_any_repeat_comes_to_what_the_source_has(
    history: list[Change], order: random.Random, again: int
) -> None:
    """Wherever the floors come, whatever comes a second time."""
    values = [value(position, change) for position, change in enumerate(history)]
    shuffled = [*values, *values[:again]]
    order.shuffle(shuffled)

    assert played(history) == rows_of(values)
    assert played(history) == rows_of(shuffled)
    assert played(history) == rows_of([*values, *values[:again]])
