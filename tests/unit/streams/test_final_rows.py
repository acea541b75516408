"""Rows by the rule of the design: what a row whose key changed takes over, and what decides between equal positions."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from schemas.table import TableSpec
from streams.final_rows import FinalRows

SPEC = TableSpec.model_validate(
    {"table": "t", "topics": ["t"], "key": ["id"], "columns": {"id": "int", "name": "string", "big": "string"}}
)


def change(op: str, key: int | None, at: int, after: Any = None, **more: Any) -> bytes:
    """Return a change of a key; what `after` does not have is unavailable."""
    row = None if after is None else {"id": key, **after}
    source = {
        "connector": "c", "name": "n", "table": "t", "tx": None, "snapshot": False, "first_origin": None,
        "previous": None, "origin": ["t", 0, 0, more.pop("offset", at)],
    }  # fmt: skip
    value = {
        "op": op,
        "key": key and {"id": key},
        "old_key": None,
        "new_key": None,
        "before": None,
        "after": row,
        "ts": "",
    }
    missing = [] if row is None else [name for name in SPEC.columns if name not in row]
    return msgspec.json.encode(value | {"position": f"{at:04d}", "unavailable": missing, "source": source} | more)


def moved(old: int, new: int, at: int, **after: Any) -> list[bytes]:
    """Return the delete and the insert of a change of a key."""
    return [
        change("delete", old, at, new_key={"id": new}),
        change("insert", new, at, after, old_key={"id": old}, offset=at + 1),
    ]


def interleaved(changes: list[bytes], seed: int) -> list[bytes]:
    """Return the changes in any order across keys."""
    keys = [msgspec.json.decode(each)["key"]["id"] for each in changes]
    turns = random.Random(seed).sample(keys, len(keys))
    rest = {key: iter([each for each, own in zip(changes, keys, strict=True) if own == key]) for key in keys}
    return [next(rest[key]) for key in turns]


def rows(*changes: bytes) -> list[dict[str, Any]]:
    """Return what changes come to."""
    final = FinalRows(SPEC)
    for each in changes:
        final.apply(each)
    return [document["row"] | dict.fromkeys(document.get("unavailable", ()), "?") for document in final.documents()]


FIRST = change("insert", 1, 1, {"name": "a", "big": "A"})


def test_a_row_takes_over_what_was_not_sent_again() -> None:
    """Also by way of several keys, and whatever of it comes twice, or before what it follows."""
    chain = [FIRST, *moved(1, 2, 3, name="b"), *moved(2, 3, 5, name="c"), *moved(3, 1, 7, name="d")]
    expected = [{"id": 1, "name": "d", "big": "A"}]

    assert expected == rows(*chain)
    assert expected == rows(*chain, *chain)
    for seed in range(50):
        assert expected == rows(*interleaved([*chain, *chain], seed))


def test_keys_that_swap_swap_their_values() -> None:
    """By way of a third."""
    second = change("insert", 2, 2, {"name": "b", "big": "B"})
    swap = [*moved(1, 9, 3, name="a"), *moved(2, 1, 5, name="b"), *moved(9, 2, 7, name="a")]
    expected = [{"id": 1, "name": "b", "big": "B"}, {"id": 2, "name": "a", "big": "A"}]

    for seed in range(200):
        assert expected == rows(*interleaved([FIRST, second, *swap], seed))


def test_nothing_is_taken_over_from_before_a_delete() -> None:
    """Nor instead of what the row itself was sent."""
    deleted, again = change("delete", 1, 2), change("insert", 1, 3, {"name": "b"})
    own = [change("delete", 1, 5, new_key={"id": 2}), change("insert", 2, 5, {"name": "c", "big": "own"})]

    assert [{"id": 2, "name": "c", "big": "?"}] == rows(FIRST, deleted, again, *moved(1, 2, 5, name="c"))
    assert [{"id": 2, "name": "c", "big": "own"}] == rows(FIRST, *own) == rows(*reversed(own), FIRST)


def test_of_two_rows_at_one_position_the_later_origin_stays() -> None:
    """As where a key is not unique."""
    one, other = (change("snapshot", 1, 1, {"name": name, "big": ""}, offset=at) for at, name in enumerate("ab"))

    assert [{"id": 1, "name": "b", "big": ""}] == rows(one, other) == rows(other, one)
