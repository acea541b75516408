"""Floors on a real Redis: in any order, however often, before and after the sweep, they are deletes of all rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.redis.floor import floor_of
from sinks.redis.layout import SHARING_ROW, TOMBSTONES
from sinks.redis.read import FeatureRow, row_of
from sinks.redis.sharing import tellings
from tests.property import test_ledger as rows_alone
from tests.property import test_ledger_entities as rows_shared
from tests.property.ledgers import LedgerStore, digits, on_a_real_redis
from tests.property.test_ledger_updates import Updates, caused, said
from tests.services import RedisServer

TS = "2026-11-20T19:45:57.123456Z"
Shared = tuple[int, int, Any]  # as in rows_shared; a row of `FLOOR` is a floor
FLOOR = "floor"


def floor(position: int) -> bytes:
    """Write a floor as the contract has it."""
    source = {"origin": ["clinic.patients", 0, 0, position]}
    value = {"op": "floor", "key": None, "position": digits(position), "ts": TS, "after": None, "source": source}
    return msgspec.json.encode(value)


class Floored(LedgerStore):
    """A ledger that is told floors."""

    def floor(self, view: str) -> str:
        """Return the floor of a view in its first bucket."""
        (texts,) = self.exchange(("HMGET", self.layout.floors(0), view, f"{view}|SWEEPING"))
        return floor_of(texts).position

    def apply(self, values: Sequence[bytes], *, crash: bool = False) -> None:
        """Write changes and floors, and tell entities, or die in between."""
        told = self.write_all(values)
        if not crash:
            self.run(self.sent_told(told))

    async def sent_told(self, told: Any) -> None:
        """Tell entities."""
        await self.sent(tellings(self.layout, told, self.plans))

    def count(self, kind: str) -> int:
        """Return how many keys there are of a kind."""
        (keys,) = self.exchange(("KEYS", f"{self.layout.prefix}:*}}:{kind}:*"))
        return len(keys)


@pytest.fixture(scope="module")
def alone(redis_server: RedisServer) -> Iterator[Floored]:
    """Rows that are entities of their own."""
    found = Floored(redis_server.address, rows_alone.SPEC, buckets=2)
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer) -> Iterator[Floored]:
    """Entities that several rows share."""
    found = Floored(redis_server.address, rows_shared.SPEC, buckets=4)
    yield found
    found.close()


@pytest.fixture(scope="module")
def updates(redis_server: RedisServer) -> Iterator[Updates]:
    """Rows that are entities of their own, whose changes are told."""
    found = Updates(redis_server.address, rows_alone.SPEC, buckets=1)
    yield found
    found.close()


real = on_a_real_redis(examples=120)


def histories() -> st.SearchStrategy[list[tuple[rows_alone.Change, bool]]]:
    """Changes of one key, of which those without a row are deletes or floors: the second says which."""
    return st.tuples(rows_alone.histories(), st.lists(st.booleans(), min_size=9, max_size=9)).map(
        lambda found: [(change, is_floor and change[1] is None) for change, is_floor in zip(*found, strict=False)]
    )


def written(change: rows_alone.Change, is_floor: bool) -> bytes:
    """Write a floor, or a change: every other one was read again."""
    return floor(change[0]) if is_floor else rows_alone.contract(change, generation=change[0] % 2)


@real
@given(histories(), st.randoms(use_true_random=False), st.lists(st.integers(0, 8), max_size=6), st.integers(0, 14))
def test_a_floor_is_a_delete_of_the_row_whatever_the_order(
    alone: Floored,
    history: list[tuple[rows_alone.Change, bool]],
    order: random.Random,
    repeats: list[int],
    swept_at: int,
) -> None:
    """Readers see it at once; the sweep, wherever it comes, alters nothing of what they see."""
    alone.clear()
    shuffled = [*history, *(history[index % len(history)] for index in repeats)]
    order.shuffle(shuffled)
    expected = rows_alone.winner([change for change, _ in history])

    for count, (change, is_floor) in enumerate(shuffled):
        alone.apply([written(change, is_floor)])
        if count == swept_at:
            alone.sweep()
    (before,) = alone.hashes("latest.1", ["42"])
    seen = row_of(before, alone.floor("latest.1"))
    alone.sweep()
    (after,) = alone.hashes("latest.1", ["42"])

    assert expected == seen
    assert expected == row_of(after)
    assert not alone.is_sweeping()


@real
@given(histories(), st.integers(0, 9), st.integers(0, 9))
def test_a_replay_of_any_part_brings_nothing_back(
    alone: Floored, history: list[tuple[rows_alone.Change, bool]], first: int, last: int
) -> None:
    """In one call or in many; and what was swept stays swept."""
    alone.clear()
    values = [written(*each) for each in history]
    alone.apply(values)
    alone.sweep()
    before = alone.hashes("latest.1", ["42"])

    alone.apply(values[first:last])
    for value in values[first:last]:
        alone.apply([value])

    assert before == alone.hashes("latest.1", ["42"])
    assert not alone.is_sweeping()


def shared_histories(noted: st.SearchStrategy[bool]) -> st.SearchStrategy[list[Shared]]:
    """Changes of three rows and floors, at positions of their own."""
    row = st.tuples(st.sampled_from([*rows_shared.PATIENTS, None]), st.integers(-2, 3), noted)
    change = st.tuples(st.integers(1, 3), st.one_of(row, row, row, row, st.none(), st.just(FLOOR)))
    return st.lists(change, min_size=1, max_size=12).map(
        lambda found: [(index, key, after) for index, (key, after) in enumerate(found, start=1)]
    )


def winners(history: Sequence[Shared]) -> dict[str, FeatureRow | None]:
    """The model: what stands below the highest floor was never there."""
    lowest = max((position for position, _, row in history if row == FLOOR), default=0)
    return rows_shared.winners([change for change in history if change[0] > lowest])


def written_shared(change: Shared) -> bytes:
    """Write a change or a floor."""
    return floor(change[0]) if change[2] == FLOOR else rows_shared.contract(change)


def seen(store: Floored) -> dict[str, FeatureRow | None]:
    """Return what any client sees of each entity once nothing is left to be swept."""
    hashes = store.hashes("last_result.1", rows_shared.PATIENTS)
    return dict(zip(rows_shared.PATIENTS, map(row_of, hashes), strict=True))


@real
@given(
    shared_histories(st.booleans()),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 14), max_size=3),
    st.sets(st.integers(0, 14), max_size=2),
)
def test_entities_show_what_the_floor_has_left_of_their_rows(
    shared: Floored, history: list[Shared], order: random.Random, crashes: set[int], sweeps: set[int]
) -> None:
    """In any order, with workers that die between rows and entities, and with sweeps anywhere in between."""
    shared.clear()
    shuffled = [*history, *history[:3]]
    order.shuffle(shuffled)

    for count, change in enumerate(shuffled):
        shared.apply([written_shared(change)], crash=count in crashes)
        if count in crashes:  # its successor does it again
            shared.apply([written_shared(change)])
        if count in sweeps:
            shared.sweep()
    shared.sweep()

    assert winners(history) == seen(shared)
    assert not shared.is_sweeping()


@real
@given(shared_histories(st.booleans()), st.integers(0, 5))
def test_a_sweep_that_dies_is_finished_by_the_next(shared: Floored, history: list[Shared], after: int) -> None:
    """Whatever of it was sent."""

    class Died(Exception):
        pass

    calls = iter(range(100))

    async def dying(sections: Any) -> int:
        if next(calls) >= after:
            raise Died
        return await shared.sent(sections)

    shared.clear()
    shared.apply(list(map(written_shared, history)))
    try:
        shared.sweep(send=dying)
    except Died:
        assert shared.is_sweeping()
    shared.sweep()

    assert winners(history) == seen(shared)
    assert not shared.is_sweeping()


def test_a_worker_that_was_frozen_tells_no_entity_of_a_dead_row(shared: Floored) -> None:
    """It had written the row, and wakes up when the floor has been swept."""
    shared.clear()
    told = shared.write_all([rows_shared.contract((1, 1, ("a", 0, True)))])
    shared.apply([floor(2)])
    shared.sweep()

    shared.run(shared.sent_told(told))

    assert dict.fromkeys(rows_shared.PATIENTS) == seen(shared)


def test_an_entity_of_many_dead_rows_shows_none_of_them_in_the_place_of_another(redis_server: RedisServer) -> None:
    """One update says what it shows at last: the only row that lives, or nothing."""
    store = Updates(redis_server.address, rows_shared.SPEC, buckets=4)
    rows = [(n, n, ("a" if n % 2 else "b", n, True)) for n in range(1, 700)]
    alive = (1_001, 1_001, ("a", -5, True))
    try:
        for first in range(0, len(rows), 100):
            store.apply(map(rows_shared.contract, rows[first : first + 100]))
        before = {(each.bucket, each.number) for each in store.appended()}
        store.write_all([caused(floor(1_000)), caused(rows_shared.contract(alive))])
        store.tell(store.write([rows_shared.contract(alive)]))
        store.sweep()

        new = [said(each) for each in store.appended() if (each.bucket, each.number) not in before]
        assert [("a", "update", digits(1_000)), ("b", "delete", digits(1_000))] == sorted(
            (each.entity["patient"], each.op, each.position) for each in new
        )
        (keys,) = store.exchange(("KEYS", f"{store.layout.prefix}:*}}:{SHARING_ROW}:*"))
        assert 1 == len(keys)
    finally:
        store.close()


@real
@given(st.sets(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 31))
def test_each_swept_row_is_one_delete_by_the_floor(updates: Updates, keys: set[int], at: int) -> None:
    """Rules that read the updates see it; its key is the row's, its position the floor's. Nothing is kept of it."""
    updates.clear()
    rows = [rows_alone.contract((key, {"name": "n", "note": "", "flag": True})) for key in sorted(keys)]
    named = [value.replace(b'"42"', b'"%d"' % key) for key, value in zip(sorted(keys), rows, strict=True)]
    updates.apply(named)
    inserted = len(updates.appended())
    updates.write_all([caused(floor(at))])
    updates.sweep()
    updates.sweep()

    dead = sorted(str(key) for key in keys if key < at)
    found = list(map(said, updates.appended()[inserted:]))
    assert dead == sorted(each.key["id"] for each in found)
    assert {("delete", digits(at), None)} >= {(each.op, each.position, each.after) for each in found}
    (graves,) = updates.exchange(("KEYS", f"{updates.layout.prefix}:*}}:{TOMBSTONES}:*"))
    assert [] == graves


def test_a_floor_only_rises(alone: Floored) -> None:
    """A lower one that comes later, or again, is none."""
    alone.clear()
    for position in (20, 10, 20):
        alone.apply([floor(position)])
        alone.sweep()

    assert digits(20) == alone.floor("latest.1")
    assert not alone.is_sweeping()


def test_the_floor_of_an_epoch_leaves_all_of_it(alone: Floored) -> None:
    """As a completed resync has it: four digits, below whatever a connector has at its lowest."""
    alone.clear()
    row = {"name": "n", "note": rows_alone.UNAVAILABLE, "flag": True}
    alone.apply([rows_alone.contract((5, row))])
    alone.apply([floor(0).replace(digits(0).encode(), b"0002")])
    alone.sweep()
    dead = alone.hashes("latest.1", ["42"])
    later = rows_alone.contract((0, row)).replace(digits(0).encode(), b"0002" + b"0" * 41)
    alone.apply([later])

    assert [{}] == dead
    assert b"0002" + b"0" * 41 == alone.hashes("latest.1", ["42"])[0][b".p"]
