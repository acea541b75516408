"""The ledger on a real Redis against a model of ten lines: which change wins."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.table import TableSpec
from sinks.redis.read import FeatureRow, row_of
from tests.property.ledgers import LedgerStore, digits, on_a_real_redis
from tests.services import RedisServer

COLUMNS = ["name", "note", "flag"]
SPEC = TableSpec.model_validate(
    {
        "table": "patients",
        "topics": ["clinic.patients"],
        "key": ["id"],
        "columns": {"id": "long", "name": "string", "note": "string", "flag": "boolean"},
        "features": [{"view": "latest", "entity": "patient", "columns": COLUMNS}],
    }
)
UNAVAILABLE, ABSENT = object(), object()
Change = tuple[int, dict[str, Any] | None]  # position, and the row: None for a delete
Read = tuple[int, int, dict[str, Any] | None]  # position, the generation in which it was read, and the row


def winner(changes: Sequence[Change]) -> FeatureRow | None:
    """The model: the highest delete hides what is below it; each column has what the highest change left says of it."""
    deleted = max((position for position, row in changes if row is None), default=-1)
    left = sorted({p: row for p, row in changes if row is not None and p >= deleted}.items())
    if not left:
        return None
    said: dict[str, Any] = {}
    for _, row in left:
        said |= {name: value for name, value in row.items() if value is not UNAVAILABLE}
    values = {
        name: v if isinstance(v, str) else str(v).lower()
        for name, v in said.items()
        if v is not None and v is not ABSENT
    }
    null = frozenset(name for name, v in said.items() if v is None)
    return FeatureRow(values, null, frozenset(COLUMNS) - set(said), digits(left[-1][0]), None)


def winner_of_all_read(reads: Sequence[Read]) -> FeatureRow | None:
    """The model, where of one position the higher generation is the later change."""
    places = sorted({(position, generation) for position, generation, _ in reads})
    found = winner([(places.index((position, generation)), row) for position, generation, row in reads])
    if found is None:
        return None
    return dataclasses.replace(found, position=digits(places[int(found.position[4:])][0]))


def contract(change: Change, generation: int = 0) -> bytes:
    """Write a change as the contract has it."""
    position, row = change
    value: dict[str, Any] = {
        "op": "delete" if row is None else "update",
        "key": {"id": "42"},
        "position": digits(position),
        "source": {"origin": ["clinic.patients", generation, 0, position]},
    }
    if row is not None:
        value["after"] = {"id": "42"} | {n: v for n, v in row.items() if v is not UNAVAILABLE and v is not ABSENT}
        value["unavailable"] = [name for name, v in row.items() if v is UNAVAILABLE]
    return msgspec.json.encode(value)


def rows() -> st.SearchStrategy[dict[str, Any]]:
    """Rows with every kind of nothing."""
    text = st.sampled_from(["", "a", "b", '"é:%\n', None, None, UNAVAILABLE, UNAVAILABLE, ABSENT])
    return st.fixed_dictionaries(
        {"name": text, "note": text, "flag": st.sampled_from([True, False, None, UNAVAILABLE, ABSENT])}
    )


def histories() -> st.SearchStrategy[list[Change]]:
    """Changes of one key at positions of their own, as the source made them."""
    changes = st.lists(st.one_of(rows(), rows(), rows(), st.none()), min_size=1, max_size=9)
    return changes.map(lambda found: [(index, row) for index, row in enumerate(found, start=1)])


def readings() -> st.SearchStrategy[list[Read]]:
    """Changes of one key, some of them read again in other generations, which may say anything of them."""
    places = st.tuples(st.integers(1, 4), st.integers(0, 2))
    changes = st.dictionaries(places, st.one_of(rows(), rows(), rows(), st.none()), min_size=1, max_size=9)
    return changes.map(lambda found: [(*place, row) for place, row in found.items()])


class Store(LedgerStore):
    """The one entity of `SPEC`."""

    def read(self, *calls: Sequence[Read]) -> None:
        """Send each sequence of changes, read in any generations, as one call, folded."""
        for reads in calls:
            self.send(self.gathered([contract((at, row), generation) for at, generation, row in reads]).sections)

    def apply(self, *calls: Sequence[Change]) -> None:
        """Send each sequence of changes as one call, folded."""
        for changes in calls:
            self.send(self.gathered([contract(c) for c in changes]).sections)

    def hash(self) -> dict[bytes, bytes]:
        """Return what HGETALL says."""
        (found,) = self.hashes("latest.1", ["42"])
        return found

    def row(self) -> FeatureRow | None:
        """Return what the read side makes of it."""
        return row_of(self.hash())


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[Store]:
    """A ledger that is empty at each test's examples, because `clear` is called first."""
    found = Store(redis_server.address, SPEC, buckets=1)
    yield found
    found.close()


real = on_a_real_redis(examples=120)


@real
@given(histories(), st.randoms(use_true_random=False), st.lists(st.integers(0, 8), max_size=6))
@example(
    [(1, {"name": "a", "note": "b", "flag": True}), (2, None), (3, dict.fromkeys(COLUMNS, UNAVAILABLE))],
    random.Random(0),
    [],
)
def test_any_order_and_any_repeats_leave_what_the_model_says(
    store: Store, history: list[Change], order: random.Random, repeats: list[int]
) -> None:
    """Positions decide: reordering and redelivery, one change a call, leave the same hash."""
    store.clear()
    shuffled = [*history, *(history[index % len(history)] for index in repeats)]
    order.shuffle(shuffled)

    store.apply(*([change] for change in shuffled))

    assert winner(history) == store.row()


@real
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 9))
def test_folding_leaves_the_same_hash_as_one_by_one(
    store: Store, history: list[Change], order: random.Random, cut: int
) -> None:
    """What is not sent because a newer change hides it would have left no trace."""
    shuffled = list(history)
    order.shuffle(shuffled)
    store.clear()
    store.apply(*([change] for change in shuffled))
    one_by_one = store.hash()
    store.clear()

    store.apply(shuffled[:cut], shuffled[cut:])

    assert one_by_one == store.hash()


@real
@given(histories(), st.integers(0, 9), st.integers(0, 9))
def test_replaying_any_part_changes_nothing(store: Store, history: list[Change], first: int, last: int) -> None:
    """A replay after a crash is invisible, bytes and all."""
    store.clear()
    store.apply(history)
    before = store.hash()

    store.apply(history[first:last], *([change] for change in history[first:last]))

    assert before == store.hash()


@real
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_a_delete_and_an_insert_at_one_position_leave_the_insert(
    store: Store, changes: list[tuple[int, bool]], order: random.Random
) -> None:
    """A change of a key to itself arrives as both, at one position, in either order."""
    history: list[Change] = [
        (p, None if gone else {"name": str(p), "note": None, "flag": UNAVAILABLE}) for p, gone in changes
    ]
    shuffled = list(history)
    order.shuffle(shuffled)
    store.clear()

    store.apply(shuffled)

    assert winner(history) == store.row()


@real
@given(readings(), st.randoms(use_true_random=False), st.lists(st.integers(0, 8), max_size=6))
def test_of_one_position_the_higher_generation_wins_in_any_order(
    store: Store, reads: list[Read], order: random.Random, repeats: list[int]
) -> None:
    """One change a call: what was read again wins over what was read at first, also when that comes again."""
    shuffled = [*reads, *(reads[index % len(reads)] for index in repeats)]
    order.shuffle(shuffled)
    store.clear()

    store.read(*([each] for each in shuffled))

    assert winner_of_all_read(reads) == store.row()


@real
@given(readings(), st.randoms(use_true_random=False), st.integers(0, 9))
def test_folding_generations_leaves_the_same_hash_as_one_by_one(
    store: Store, reads: list[Read], order: random.Random, cut: int
) -> None:
    """In one call as across calls the higher generation wins."""
    shuffled = list(reads)
    order.shuffle(shuffled)
    store.clear()
    store.read(*([each] for each in shuffled))
    one_by_one = store.hash()
    store.clear()

    store.read(shuffled[:cut], shuffled[cut:])

    assert one_by_one == store.hash()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1), (2, 0, 1, 2, 0)])
def test_a_row_read_again_is_what_it_was_read_as_last(store: Store, order: tuple[int, ...], together: bool) -> None:
    """Two replays of a row that does not change any more, whichever comes first; its position stays."""
    reads: list[Read] = [(7, generation, {"name": f"read {generation}", "note": None}) for generation in order]
    store.clear()

    store.read(*([reads] if together else ([each] for each in reads)))

    row = store.row()
    assert row is not None
    assert ({"name": "read 2"}, digits(7)) == (row.values, row.position)


@pytest.mark.parametrize("generation", [0, 1])
def test_a_row_says_its_generation_only_where_it_was_read_again(store: Store, generation: int) -> None:
    """So the layout is the one of before there were generations, and releases of before read both."""
    store.clear()

    store.read([(7, generation, {"name": "a", "note": "b", "flag": True})])

    position = digits(7).encode() + (b".0000000001" if generation else b"")
    assert {b".p": position, b".v": b"1", b"name": b"a", b"note": b"b", b"flag": b"true"} == store.hash()
