"""Feature updates that the script appends, on a real Redis, against plain models of what entities show."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.feature_update import FeatureUpdate
from schemas.table import TableSpec
from sinks.redis.outbox import FIELD
from sinks.redis.read import FeatureRow
from sinks.redis.sharing import tellings
from sinks.redis.updates import Entry, updates_of
from tests.property import test_ledger as rows_alone
from tests.property import test_ledger_entities as rows_shared
from tests.property.ledgers import LedgerStore, digits, on_a_real_redis
from tests.services import RedisServer

ORIGIN = ["clinic.patients", 0, 0, 7]
TS = "2026-11-20T19:45:57.123456Z"


class Said(NamedTuple):
    """What an update says, apart from where it stands."""

    entity: dict[str, Any]
    op: str
    before: tuple[Any, ...] | None
    after: tuple[Any, ...] | None
    key: dict[str, Any]
    position: str


def emitting(spec: TableSpec) -> TableSpec:
    """Return the table with views that emit."""
    views = [view.model_copy(update={"emit": True}) for view in spec.features]
    return spec.model_copy(update={"features": views})


def caused(change: bytes) -> bytes:
    """Add to a change of the contract what updates say of their cause."""
    return msgspec.json.encode({"ts": TS, "source": {"origin": ORIGIN}} | msgspec.json.decode(change))


def shown(row: FeatureRow | None, kinds: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return a row of the model as values of the contract, nulls among them, and what is unavailable."""
    if row is None:
        return None
    values = {name: msgspec.json.decode(v, type=kinds[name]) if name in kinds else v for name, v in row.values.items()}
    return frozenset((values | dict.fromkeys(row.null)).items()), row.unavailable


def said(update: FeatureUpdate) -> Said:
    """Return what an update says."""
    decoded = msgspec.json.decode(msgspec.json.encode(update), type=FeatureUpdate)
    sides = [
        None if features is None else (frozenset(features.items()), frozenset(unavailable))
        for features, unavailable in (
            (decoded.before, decoded.unavailable_before),
            (decoded.after, decoded.unavailable),
        )
    ]
    return Said(decoded.entity, decoded.op, sides[0], sides[1], decoded.key, decoded.position)


def expected(entity: dict[str, Any], key: str, position: str, before: Any, after: Any) -> list[Said]:
    """Return the update that a change must make of an entity: none, if it shows what it showed."""
    if before == after:
        return []
    op = "insert" if before is None else "delete" if after is None else "update"
    return [Said(entity, op, before, after, {"id": key}, position)]


def newest_delete(history: Iterable[rows_alone.Change]) -> int:
    """Return the position of the newest delete, -1 for none."""
    return max((position for position, row in history if row is None), default=-1)


class Updates(LedgerStore):
    """A ledger whose outboxes can be read."""

    def __init__(self, address: str, spec: TableSpec, *, buckets: int) -> None:
        super().__init__(address, emitting(spec), buckets=buckets)
        self.buckets = buckets

    def appended(self) -> list[FeatureUpdate]:
        """Return the updates of every bucket, one bucket after the other."""
        streams = self.exchange(*[("XRANGE", self.layout.outbox(b), "-", "+") for b in range(self.buckets)])
        found: list[FeatureUpdate] = []
        for bucket, stream in enumerate(streams):
            for entry_id, (name, payload) in stream:
                assert name == FIELD
                for some in updates_of(Entry(bucket, entry_id, payload)):
                    found += [msgspec.json.decode(value, type=FeatureUpdate) for _, value in some.records]
        return found

    def apply(self, changes: Iterable[bytes]) -> None:
        """Write changes in one call to each bucket, and tell their entities."""
        gatherer = self.gathered([caused(change) for change in changes])
        self.send(gatherer.sections)
        if gatherer.sharing:
            self.tell(self.send(gatherer.sharing).told)

    def write(self, changes: Iterable[bytes]) -> list[Any]:
        """Write rows that share entities; return what these must be told."""
        return self.send(self.gathered([caused(change) for change in changes]).sharing).told

    def tell(self, told: Sequence[Any]) -> None:
        """Tell entities what `write` returned."""
        self.send(tellings(self.layout, told, self.plans))


def rising(updates: Iterable[FeatureUpdate]) -> bool:
    """Say whether the numbers of each bucket and incarnation rise by one from 1."""
    last: dict[tuple[int, str], int] = {}
    for update in updates:
        stream = (update.bucket, update.incarnation)
        if update.number != last.get(stream, 0) + 1:
            return False
        last[stream] = update.number
    return True


@pytest.fixture(scope="module")
def alone(redis_server: RedisServer) -> Iterator[Updates]:
    """Rows that are entities of their own."""
    found = Updates(redis_server.address, rows_alone.SPEC, buckets=1)
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared(redis_server: RedisServer) -> Iterator[Updates]:
    """Entities that several rows share."""
    found = Updates(redis_server.address, rows_shared.SPEC, buckets=4)
    yield found
    found.close()


real = on_a_real_redis(examples=120)


@real
@given(
    rows_alone.histories(),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 8), max_size=6),
    st.lists(st.integers(0, 14), max_size=3),
)
def test_each_change_of_what_is_shown_is_one_update_whatever_the_order(
    alone: Updates, history: list[rows_alone.Change], order: random.Random, repeats: list[int], cuts: list[int]
) -> None:
    """Repeats and older changes that alter nothing make none; before and after are what a reader saw.

    Only a delete of what Redis does not know is told though it shows nothing: before a loss the row may have lived.
    """
    alone.clear()
    shuffled = [*history, *(history[index % len(history)] for index in repeats)]
    order.shuffle(shuffled)
    wanted: list[Said] = []
    for count, (position, row) in enumerate(shuffled):
        before, after = (shown(rows_alone.winner(shuffled[:n]), {"flag": bool}) for n in (count, count + 1))
        wanted += expected({"id": "42"}, "42", digits(position), before, after)
        if row is None and before is None and position > newest_delete(shuffled[:count]):
            wanted.append(Said({"id": "42"}, "delete", None, None, {"id": "42"}, digits(position)))

    parts = [0, *sorted(cuts), len(shuffled)]
    for first, last in itertools.pairwise(parts):
        alone.apply(map(rows_alone.contract, shuffled[first:last]))

    updates = alone.appended()
    assert wanted == list(map(said, updates))
    assert rising(updates)


@real
@given(rows_alone.histories(), st.randoms(use_true_random=False), st.integers(0, 8))
def test_what_is_read_again_and_says_the_same_makes_no_update(
    alone: Updates, history: list[rows_alone.Change], order: random.Random, first: int
) -> None:
    """A replay of any part, in any order: nobody hears of what is right, nor of what is gone."""
    alone.clear()
    alone.apply(map(rows_alone.contract, history))
    before = alone.appended()
    again = history[first:]
    order.shuffle(again)

    for change in again:
        alone.apply([rows_alone.contract(change, 1)])

    assert before == alone.appended()


def test_what_is_read_again_and_says_something_else_is_one_step(alone: Updates) -> None:
    """From what was shown to what is right, once, however often either comes again."""
    wrong, right = ((7, dict.fromkeys(rows_alone.COLUMNS, None) | {"name": name}) for name in ("wrong", "right"))
    alone.clear()

    for change, generation in ((wrong, 0), (right, 1), (right, 1), (wrong, 0)):
        alone.apply([rows_alone.contract(change, generation)])

    found = alone.appended()
    assert ["insert", "update"] == [update.op for update in found]
    assert [None, {"name": "wrong", "note": None, "flag": None}] == [update.before for update in found]
    assert {"name": "right", "note": None, "flag": None} == found[1].after
    assert digits(7) == found[1].position


@real
@given(rows_shared.histories(), st.randoms(use_true_random=False), st.integers(0, 12), st.booleans())
def test_an_entity_that_rows_share_is_updated_when_it_shows_something_else(
    shared: Updates, history: list[rows_shared.Change], order: random.Random, cut: int, shuffle: bool
) -> None:
    """A row that moves updates the entity that it leaves and the one that it comes to, each in its bucket.

    Of changes in one call each is an update of its own, in the source's order; and any order leaves its updates.
    """
    shared.clear()
    shuffled = [*history, *history[:3]]
    if shuffle:
        order.shuffle(shuffled)
    wanted: dict[str, list[Said]] = {name: [] for name in rows_shared.PATIENTS}
    before = dict.fromkeys(rows_shared.PATIENTS)
    for count, (position, key, _) in enumerate(shuffled, start=1):
        winners = rows_shared.winners(shuffled[:count])
        after = {name: shown(row, {}) for name, row in winners.items()}
        for name in rows_shared.PATIENTS:
            cause = (str(key), digits(position))
            wanted[name] += expected({"patient": name}, *cause, before[name], after[name])
        before = after

    for changes in ([change] for change in shuffled) if shuffle else (history[:cut], history[cut:], history[:3]):
        shared.apply(map(rows_shared.contract, changes))

    updates = shared.appended()
    found = list(map(said, updates))
    assert wanted == {name: [each for each in found if each.entity["patient"] == name] for name in wanted}
    assert rising(updates)


@real
@given(rows_shared.histories(), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_after_a_crash_between_row_and_entity_updates_still_follow_one_another(
    shared: Updates, history: list[rows_shared.Change], first: int, died: int, late: bool
) -> None:
    """Each begins where the one before ended, and names the change that made the entity what it shows."""
    shared.clear()
    shared.apply(map(rows_shared.contract, history[:first]))
    told = shared.write(map(rows_shared.contract, history[first:died]))
    shared.apply(map(rows_shared.contract, history[first:]))
    if late:
        shared.tell(told)

    last: dict[str, Any] = dict.fromkeys(rows_shared.PATIENTS)
    rows = {position: key for position, key, row in history if row is not None}
    for update in map(said, shared.appended()):
        assert last[update.entity["patient"]] == update.before
        last[update.entity["patient"]] = update.after
        if update.after is not None:
            position = int(dict(update.after[0])["value"].removeprefix("v"))
            caused_by_the_row_shown = rows[position] == int(update.key["id"])
            assert not caused_by_the_row_shown or digits(position) == update.position
    assert {name: shown(row, {}) for name, row in rows_shared.winners(history).items()} == last
