"""Views whose entities several rows share, on a real Redis: rows move between them, in any order, crashes included."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.table import TableSpec
from sinks.redis.layout import ENTITY, GONE, RANKS
from sinks.redis.read import FeatureRow, row_of
from sinks.redis.sharing import tellings
from sinks.redis.steps import rank_rows
from sinks.redis.sweep import forget_left
from tests.property.ledgers import LedgerStore, digits, on_a_real_redis
from tests.services import RedisServer

SPEC = TableSpec.model_validate(
    {
        "table": "results",
        "topics": ["clinic.results"],
        "key": ["id"],
        "columns": {"id": "long", "patient": "long", "value": "string", "note": "string", "at": "int"},
        "features": [
            {
                "view": "last_result",
                "entity": "patient",
                "entity_key": ["patient"],
                "columns": ["value", "note"],
                "event_time": "at",
            }
        ],
    }
)
PATIENTS = ["a", "b", ""]  # an empty text is an entity like any other
# Position, row, and for an insert or update: patient, event time, and whether the note was sent.
Change = tuple[int, int, tuple[str | None, int, bool] | None]


def contract(change: Change, generation: int = 0) -> bytes:
    """Write a change as the contract has it; what is read in a later generation has texts of its own."""
    position, key, row = change
    value: dict[str, Any] = {"op": "update" if row else "delete", "key": {"id": str(key)}, "position": digits(position)}
    value["source"] = {"origin": ["clinic.results", generation, 0, position]}
    if row is not None:
        (patient, at, noted), mended = row, "+" * generation
        value["after"] = {"patient": patient, "value": f"v{position}{mended}", "at": at}
        value["after"] |= {"note": f"n{position}{mended}"} if noted else {}
        value["unavailable"] = [] if noted else ["note"]
    return msgspec.json.encode(value)


def winners(changes: Sequence[Change]) -> dict[str, FeatureRow | None]:
    """The model: play each row's changes in order; an entity shows its latest row by event time, then position."""
    rows: dict[int, dict[str, Any]] = {}
    for position, key, row in sorted(changes):
        if row is None:
            rows.pop(key, None)
            continue
        patient, at, noted = row
        note = f"n{position}" if noted else rows.get(key, {}).get("note")
        rows[key] = {"patient": patient, "order": (at, position), "value": f"v{position}", "note": note}
    found: dict[str, FeatureRow | None] = {}
    for name in PATIENTS:
        mine = [row for row in rows.values() if row["patient"] == name]
        found[name] = shown(max(mine, key=lambda row: row["order"])) if mine else None
    return found


def shown(row: dict[str, Any]) -> FeatureRow:
    """Return what the read side says of a row."""
    values = {"value": row["value"]} | ({"note": row["note"]} if row["note"] else {})
    unavailable = frozenset() if row["note"] else frozenset({"note"})
    return FeatureRow(values, frozenset(), unavailable, digits(row["order"][1]), str(row["order"][0]))


def histories() -> st.SearchStrategy[list[Change]]:
    """Changes of three rows, at positions of their own."""
    row = st.tuples(st.sampled_from([*PATIENTS, *PATIENTS, None]), st.integers(-2, 3), st.booleans())
    change = st.tuples(st.integers(1, 3), st.one_of(row, row, row, st.none()))
    return st.lists(change, min_size=1, max_size=12).map(
        lambda found: [(index, key, after) for index, (key, after) in enumerate(found, start=1)]
    )


class Store(LedgerStore):
    """The entities that rows of `SPEC` share."""

    def apply(self, changes: Sequence[Change], *, crash: bool = False, generation: int = 0) -> None:
        """Write the rows and tell their entities, or die in between."""
        told = self.write(changes, generation)
        if not crash:
            self.tell(told)

    def tell(self, told: Sequence[Any]) -> None:
        """Tell entities what `write` returned."""
        self.send(tellings(self.layout, told, self.plans))

    def write(self, changes: Sequence[Change], generation: int = 0) -> list[Any]:
        """Write the rows; return what their entities must be told."""
        return self.send(self.gathered([contract(c, generation) for c in changes]).sharing).told

    def ranks(self, kind: str) -> dict[bytes, list[bytes]]:
        """Return in which order each entity would show its rows, or the rows that left entities."""
        (keys,) = self.exchange(("KEYS", f"{self.layout.prefix}:*}}:{kind}:*"))
        members = self.exchange(*[("ZRANGE", key, 0, -1) for key in keys])
        return dict(zip(keys, members, strict=True))

    def rank_rows(self) -> None:
        """Take the step from layout 1."""
        self.run(rank_rows(self.ledger.wire.exchange, self.layout))

    def kept(self) -> list[bool]:
        """Return for each row that an entity keeps whether it is there."""
        (keys,) = self.exchange(("KEYS", f"{self.layout.prefix}:*}}:{ENTITY}:*"))
        found = self.exchange(*[("HVALS", key) for key in keys]) if keys else []
        return [bool(msgspec.msgpack.decode(text)[2]) for texts in found for text in texts]

    def forget_left(self, before_ms: int) -> int:
        """Have entities forget rows; all of them left at 1 ms."""
        return self.run(forget_left(self.ledger.ask, self.layout, "last_result.1", before_ms))

    def looked_through(self) -> int:
        """Return how many hashes Redis has looked through as a whole."""
        (text,) = self.exchange(("INFO", "commandstats"))
        return int(re.search(rb"cmdstat_hgetall:calls=(\d+)", text)[1])  # type: ignore[index]

    def rows(self) -> dict[str, FeatureRow | None]:
        """Return what any client sees of each entity."""
        return dict(zip(PATIENTS, map(row_of, self.hashes("last_result.1", PATIENTS)), strict=True))


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[Store]:
    """A ledger; each example clears it first."""
    found = Store(redis_server.address, SPEC, buckets=4)
    yield found
    found.close()


real = on_a_real_redis(examples=80)


@real
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 12))
def test_entities_show_their_latest_row_whatever_the_order(
    store: Store, history: list[Change], order: random.Random, cut: int
) -> None:
    """Rows that move, come back, or are deleted by key leave the entities that they named."""
    shuffled = [*history, *history[:3]]
    order.shuffle(shuffled)
    store.clear()

    store.apply(shuffled[:cut])
    store.apply(shuffled[cut:])

    assert winners(history) == store.rows()


@real
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 12))
def test_entities_show_what_their_rows_were_read_as_last(
    store: Store, history: list[Change], order: random.Random, died: int
) -> None:
    """A replay says other texts of the same positions, in any order, a crash between row and entity included."""
    again = list(history)
    order.shuffle(again)
    store.clear()
    store.apply(history)
    store.apply(again[:died], crash=True, generation=1)
    store.apply(again[died:], generation=1)
    store.apply(again[:died], generation=1)

    store.apply(history)

    assert store.rows() == {
        name: row and dataclasses.replace(row, values={column: f"{text}+" for column, text in row.values.items()})
        for name, row in winners(history).items()
    }


@real
@given(histories(), st.integers(0, 12), st.integers(0, 12))
def test_a_crash_between_row_and_entity_is_mended_by_the_replay(
    store: Store, history: list[Change], first: int, died: int
) -> None:
    """What an entity did not hear before the crash it hears when the changes come again."""
    store.clear()
    store.apply(history[:first])
    store.apply(history[first:died], crash=True)

    store.apply(history[first:])

    assert winners(history) == store.rows()


@real
@given(histories(), st.integers(0, 3))
def test_a_bucket_that_was_lost_is_filled_by_reading_again(store: Store, history: list[Change], bucket: int) -> None:
    """Rows and entities lie in different buckets; either may lose what it had."""
    store.clear()
    store.apply(history)
    store.lose(bucket)

    store.apply(history)

    assert winners(history) == store.rows()


@real
@given(histories(), st.integers(0, 12))
def test_what_a_frozen_worker_tells_late_changes_nothing(store: Store, history: list[Change], cut: int) -> None:
    """Between its two calls another worker may have gone on: an entity keeps what it heard last."""
    store.clear()
    late = store.write(history[:cut])
    store.apply(history)

    store.tell(late)

    assert winners(history) == store.rows()


def test_a_row_that_moves_often_costs_no_more_than_one_that_moved_once(store: Store) -> None:
    """A new change is told to two entities at most; a repeat to all that the row has ever left."""
    moves: list[Change] = [(at, 1, ("ab"[at % 2] + str(at), at, True)) for at in range(1, 21)]
    store.clear()
    heard = [_heard(store, [change]) for change in moves]

    assert heard == [1] + [2] * 19
    assert _heard(store, moves[-1:]) == 20


@real
@given(histories(), st.integers(0, 12))
def test_rows_of_the_layout_before_are_ranked_as_this_one_ranks_them(
    store: Store, history: list[Change], cut: int
) -> None:
    """Layout 1 had no ranks; the step may run again, and what comes after it shows the right row."""
    store.clear()
    store.apply(history[:cut])
    maintained, left = store.ranks(RANKS), store.ranks(GONE)
    for key in [*maintained, *left]:
        store.exchange(("DEL", key))

    store.rank_rows()
    store.rank_rows()

    assert (maintained, left) == (store.ranks(RANKS), store.ranks(GONE))
    store.apply(history[cut:])
    assert winners(history) == store.rows()


def test_an_entity_that_loses_the_row_it_shows_looks_at_one_other(store: Store) -> None:
    """A patient of many rows whose newest go first: each costs what the only one of a small patient does."""
    rows: list[Change] = [(at, at, ("a", at, True)) for at in range(1, 201)]
    store.clear()
    store.apply(rows)
    before = store.looked_through()

    store.apply([(201 + n, 200 - n, None) for n in range(199)])

    assert store.looked_through() - before <= 199, "its own row, for each delete"
    assert winners(rows[:1]) == store.rows()


@real
@given(histories(), st.integers(0, 12))
def test_entities_forget_who_left_them_long_ago(store: Store, history: list[Change], cut: int) -> None:
    """They show what they showed, and go on as ever; without it every row that moves would cost memory for good."""
    store.clear()
    store.apply(history[:cut])
    before = store.kept()

    assert 0 == store.forget_left(1)
    forgotten = store.forget_left(2)

    assert ([], before.count(False)) == ([each for each in store.kept() if not each], forgotten)
    assert winners(history[:cut]) == store.rows()
    store.apply(history[cut:])
    assert winners(history) == store.rows()


def test_ranks_whose_rows_somebody_took_away_by_hand_are_passed_over(store: Store) -> None:
    """And nothing stops: the next one is shown."""
    rows: list[Change] = [(at, at, ("a", at, True)) for at in range(1, 4)]
    store.clear()
    store.apply(rows)
    store.exchange(("HDEL", store.layout.ledger(ENTITY, "last_result.1", "a"), "2"))

    store.apply([(4, 3, None)])

    assert winners(rows[:1]) == store.rows()


def _heard(store: Store, changes: Sequence[Change]) -> int:
    """Return how many entities hear of changes."""
    told = store.write(changes)
    store.tell(told)
    return len(set(_tellings(told)))


def _tellings(told: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for _, row, _, entity, left, *_ in told:
        for text in [*msgspec.json.decode(left), *([entity.decode()] if entity else [])]:
            yield text, row.decode()
