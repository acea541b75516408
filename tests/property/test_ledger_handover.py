"""Changes of keys on a real Redis: what new rows take along, in any order across keys, killed between any two calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import RedisConfig
from sinks.lake.latest import LatestChanges
from sinks.redis.floor import ViewFloor
from sinks.redis.fold import Gatherer
from sinks.redis.handover import gifts_of, gifts_of_rows, give, hand_over, note
from sinks.redis.layout import HANDOVERS
from sinks.redis.ledger import Applied, commands
from sinks.redis.read import FeatureRow, row_of
from sinks.redis.sharing import tellings
from sinks.redis.sweep import forget_handovers
from sinks.redis.updates import Entry, updates_of
from sinks.redis.views import Views
from tests.contract.test_final_rows import changes, is_last_delete, rows
from tests.property.handovers import COLUMNS, KEYS, SPEC, Rows, Source, deliveries, encoded, moved, sources
from tests.property.ledgers import LedgerStore, digits, on_a_real_redis
from tests.services import RedisServer
from tests.unit.formats.captures import spec_of
from tests.unit.lake.test_handover import lake_of

LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
VIEWS = ("latest.1", "told.1")
Sending = tuple[Callable[..., Any], Any]


class Died(Exception):
    """The worker was killed."""


class Store(LedgerStore):
    """The ledger of `SPEC`, as a worker writes to it that may die between any two calls."""

    calls_left: int | None = None

    def write(self, changes: Sequence[dict[str, Any]], *, calls: int | None = None) -> bool:
        """Write changes as one batch; say whether that was done before `calls` calls were through."""
        self.calls_left = calls
        try:
            self.run(self._write(self._table.decode(encoded(changes))))
        except Died:
            return False
        finally:
            self.calls_left = None
        return True

    def give(self, changes: Sequence[dict[str, Any]]) -> None:
        """Give rows what a rebuild finds in the lake."""
        gifts = gifts_of_rows(self._table, self._table.decode(encoded(changes)), {})
        self.run(give(self._send, self.layout, gifts, self.plans))

    def note(self, moves: Sequence[tuple[bytes, str]]) -> None:
        """Note changes of keys that a rebuild finds in the lake."""
        changes = self._table.decode([value for value, _ in moves])
        self.run(note(self._send, self.layout, self._table, changes, [since for _, since in moves]))

    def fill(self, filling: bool) -> None:
        """Say whether rows of the lake are sent beside what is written."""
        for plan in self._table.plans:
            plan.filling = filling

    async def _write(self, changes: list[Any]) -> None:
        while changes:
            gatherer = Gatherer(self.layout, 65_536)
            count = gatherer.takes(self._table, changes)
            gatherer.add(self._table, changes[:count], lambda _: "id|0|1", value_bytes_max=1_000)
            changes = changes[count:]
            await self._rows(gatherer)
            if gatherer.handover is not None:
                await hand_over(self._send, self.layout, gatherer.handover)
                await self._rows(gatherer.handover.leaving)

    def raise_floor(self, position: str) -> None:
        """Have all that is below a position dead."""
        gatherer = Gatherer(self.layout, 65_536)
        for plan in self._table.plans:
            gatherer.raise_floor(plan, ViewFloor(position, "{}"))
        self.run(self._rows(gatherer))

    async def _rows(self, gatherer: Gatherer) -> None:
        for sections in (gatherer.told(shares=False), gatherer.told(shares=True)):
            applied = await self._send(sections)
            await give(self._send, self.layout, gifts_of(applied.handed), self.plans)
            await self._send(tellings(self.layout, applied.told, self.plans))

    async def _send(self, sections: Mapping[int, Mapping[str, Any]]) -> Applied:
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise Died
            self.calls_left -= 1
        return await self.ledger.apply(commands(self.layout, sections, {}, now_ms=1, outbox=self.terms), {})

    def rows(self, view: str) -> tuple[Rows, set[str]]:
        """Return the rows of a view, and the columns of any of them that are not known."""
        keys = [str(key) for key in range(KEYS)]
        found = {int(key): row for key, row in zip(keys, map(row_of, self.hashes(view, keys)), strict=True) if row}
        rows: Rows = {key: {**dict.fromkeys(sorted(row.null)), **row.values} for key, row in found.items()}
        return rows, {name for row in found.values() for name in row.unavailable}

    def names(self, names: Sequence[str]) -> list[FeatureRow | None]:
        """Return what entities show that rows share."""
        return list(map(row_of, self.hashes("by_name.1", names)))

    def kept(self) -> int:
        """Return of how many rows something waits, or is still expected."""
        (keys,) = self.exchange(("KEYS", f"{self.layout.prefix}:*}}:{HANDOVERS}:*"))
        return sum(self.exchange(*[("HLEN", key) for key in keys])) if keys else 0

    def updates(self) -> list[dict[str, Any]]:
        """Return the feature updates that wait, bucket by bucket."""
        found = []
        for bucket in range(4):
            (entries,) = self.exchange(("XRANGE", self.layout.outbox(bucket), "-", "+"))
            for number, fields in entries:
                for of_view in updates_of(Entry(bucket, number, fields[1])):
                    found += [msgspec.json.decode(value) for _, value in of_view.records]
        return found

    def asked(self) -> int:
        """Return how often Redis was asked whether a hash has a field."""
        (text,) = self.exchange(("INFO", "commandstats"))
        match = re.search(rb"cmdstat_hexists:calls=(\d+)", text)
        return int(match[1]) if match else 0

    def forget(self, before_ms: int) -> int:
        """Give that back; all of it was written at 1 ms."""
        asked = (forget_handovers(self.ledger.ask, self.layout, plan, before_ms) for plan in self.plans)
        return sum(self.run(each) for each in asked)


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[Store]:
    """A ledger; each example clears it first."""
    found = Store(redis_server.address, SPEC, buckets=4)
    yield found
    found.close()


def names_of(source: Source) -> dict[str, tuple[str, dict[str, str | None]]]:
    """Return for each name the newest row that has it, with its position."""
    found: dict[str, tuple[str, dict[str, str | None]]] = {}
    for key, row in source.rows.items():
        name, at = row["name"], (source.newest[key], row)
        if name is not None and (name not in found or found[name][0] < at[0]):
            found[name] = at
    return found


def check(store: Store, source: Source) -> None:
    """Compare all views with the source."""
    for view in VIEWS:
        assert (source.rows, set()) == store.rows(view), view
    said = {row["name"] for row in source.rows.values() if row["name"] is not None}
    every = sorted({"a", "b", "c", *(f"name {step}" for step in range(20)), *said})
    expected = names_of(source)
    for name, shown in zip(every, store.names(every), strict=True):
        assert (name in expected) == (shown is not None), name
        if shown is not None:
            position, row = expected[name]
            assert {n: v for n, v in row.items() if n != "name"} == {**dict.fromkeys(shown.null), **shown.values}
            assert (position, frozenset()) == (shown.position, shown.unavailable)


real = on_a_real_redis(examples=60)


@real
@given(st.data(), sources())
def test_views_have_the_rows_of_the_source_whatever_the_order_and_whoever_dies(
    store: Store, data: st.DataObject, source: Source
) -> None:
    """Partitions are read beside each other and again; a batch that was not done is done again from its beginning."""
    store.clear()
    left = data.draw(deliveries(source))
    while left:
        batch, left = left[: (end := data.draw(st.integers(1, 8)))], left[end:]
        for calls in data.draw(st.lists(st.integers(0, 14), max_size=2)):
            store.write(batch, calls=calls)
        store.write(batch)

    check(store, source)


@real
@given(st.data(), sources())
def test_what_is_read_again_leaves_what_rows_took_along(store: Store, data: st.DataObject, source: Source) -> None:
    """A replay hands over nothing that it cannot know any more, and no delete of before takes it away."""
    store.clear()
    store.write(source.changes)
    left = [
        change | {"source": change["source"] | {"origin": ["clinic.patients", 1, 0, change["source"]["origin"][3]]}}
        for change in data.draw(deliveries(source))
    ]
    while left:
        batch, left = left[: (end := data.draw(st.integers(1, 8)))], left[end:]
        store.write(batch)

    check(store, source)


@pytest.mark.parametrize("apart", [False, True])
def test_a_chain_a_swap_and_a_key_taken_anew_are_those_of_the_source(store: Store, apart: bool) -> None:
    """In one batch, in one each, and key by key, whichever key comes first; nothing of it is left behind."""
    source = moved(apart=apart)
    by_key = sorted(source.changes, key=lambda change: msgspec.json.encode(change["key"]))
    for order in (source.changes, by_key, sorted(by_key, key=lambda change: change["key"]["id"], reverse=True)):
        for size in (1, len(order)):
            store.clear()
            for first in range(0, len(order), size):
                store.write(order[first : first + size])

            check(store, source)


def changes_of(values: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return what `encoded` was given."""
    return [msgspec.json.decode(value) for value in values]


@on_a_real_redis(examples=15)
@given(st.data(), sources())
def test_a_rebuild_beside_the_stream_comes_to_the_rows_of_the_source(
    store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, source: Source
) -> None:
    """The lake has each partition up to some change; what it has is sent in any order, while the rest is read."""
    ends = [data.draw(st.integers(0, len(source.changes))) for _ in range(2)]
    parts = [[c for c in source.changes if int(c["key"]["id"]) % 2 == number] for number in range(2)]
    lake = [c for part, end in zip(parts, ends, strict=True) for c in part[:end]]
    config = lake_of(tmp_path_factory.mktemp("lake"), SPEC, lake)
    with LatestChanges(config, SPEC, COLUMNS) as latest:
        latest.prepare([0])
        current = [value for batch in latest.batches(expired_before=LONG_AGO) for value in batch.values]
        gifts = [value for batch in latest.handed([0]) for value in batch.values]
        noted = [pair for batch in latest.moves([0]) for pair in zip(batch.values, batch.since, strict=True)]
    sent: list[Sending] = [
        *((store.write, c) for c in changes_of(current)), *((store.give, c) for c in changes_of(gifts)),
    ]  # fmt: skip
    rebuilt: list[Sending] = [*((store.note, move) for move in noted), *data.draw(st.permutations(sent))]
    read: list[list[Sending]] = [[(store.write, c) for c in part[end:]] for part, end in zip(parts, ends, strict=True)]
    streams = [*read, rebuilt]
    turns = data.draw(st.permutations([index for index, stream in enumerate(streams) for _ in stream]))
    store.clear()
    store.fill(True)
    waiting = [iter(stream) for stream in streams]
    for index in turns:
        send, change = next(waiting[index])
        send([change])
    store.fill(False)

    check(store, source)


def test_what_was_handed_over_makes_no_row_and_is_forgotten_in_time(store: Store) -> None:
    """It waits for the row; if that never comes, until nothing can bring it any more."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "kept"))
    source.move(0, 1, {"name": "moved"})
    *before, insert = source.changes
    store.clear()
    store.write(before)

    assert ({}, set()) == store.rows("latest.1")
    assert (3, 0) == (store.kept(), store.forget(1))
    assert 3 == store.forget(2)
    assert 0 == store.kept()
    store.write([insert])
    assert ({1: {"name": "moved"}}, {"note", "memo"}) == store.rows("latest.1")


@pytest.mark.parametrize("late", [False, True])
def test_nothing_from_below_a_floor_is_handed_over(store: Store, late: bool) -> None:
    """Neither by a row that is not swept yet, nor what waited, nor what comes late and would go on."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "below"))
    source.put(2, dict.fromkeys(COLUMNS, "below"))
    source.move(2, 3, {"name": "below"})
    source.position += 1
    floor = digits(source.position)
    source.move(0, 1, {"name": "above"})
    rows, early, (above, moved_above) = source.changes[:2], source.changes[2:4], source.changes[4:]
    store.clear()
    store.write([*rows, early[0]] if not late else [early[0]])
    store.raise_floor(floor)
    store.write([*rows, early[1], above, moved_above] if late else [early[1], above, moved_above])

    assert ({1: {"name": "above"}}, {"note", "memo"}) == store.rows("latest.1")


@pytest.mark.parametrize("filling", [True, False])
def test_a_number_that_the_old_row_says_late_goes_on_as_it_is(redis_server: RedisServer, filling: bool) -> None:
    """The change of the key was read live, the old row comes from the lake: the new row has its int, too."""
    numbered = {name: "int" if name == "memo" else str(type_.type) for name, type_ in SPEC.columns.items()}
    store = Store(redis_server.address, SPEC.model_validate({**SPEC.model_dump(), "columns": numbered}), buckets=4)
    source, row = Source(), {"name": "before", "note": "kept"}
    source.put(0, row | {"memo": 7})  # type: ignore[dict-item]  # the contract's number
    source.move(0, 1, {"name": "moved"})
    put, *moved_on = source.changes
    store.fill(filling)
    store.write(moved_on)
    store.write([put])

    found = [store.rows(view) for view in VIEWS]
    store.close()
    assert [({1: {"name": "moved", "note": "kept", "memo": "7"}}, set())] * 2 == found


def test_an_update_tells_what_a_row_was_given_with_the_delete_as_its_cause(store: Store) -> None:
    """The insert came first: then the new row showed what it had of its own."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "kept"))
    source.move(0, 1, {"name": "moved"})
    put, delete, insert = source.changes
    store.clear()
    for change in (put, insert, delete):
        store.write([change])

    told = [each for each in store.updates() if each["entity"] == {"id": "1"}]
    assert [{"name": "moved"}, {"name": "moved", "note": "kept", "memo": "kept"}] == [each["after"] for each in told]
    assert [["note", "memo"], []] == [each["unavailable"] for each in told]
    assert {"id": "0"} == told[1]["key"]


def test_a_view_whose_keys_do_not_change_asks_once_a_call_whether_they_did(store: Store) -> None:
    """And looks up nothing more for any row."""
    source = Source()
    for key in range(KEYS):
        source.put(key, dict.fromkeys(COLUMNS, "a"))
    store.clear()
    before = store.asked()

    store.write(source.changes)

    assert store.asked() == before


async def taken_away(config: RedisConfig, *, remove: bool) -> None:
    """Empty the views, or remove them."""
    async with Views(config) as views:
        ids = ["latest.1", "told.1", "by_name.1"]
        await (views.remove(ids) if remove else views.empty(ids))


@pytest.mark.parametrize("remove", [True, False])
def test_what_waits_goes_with_its_view(store: Store, redis_server: RedisServer, remove: bool) -> None:
    """Whether it is forgotten or filled again: what fills it hands over anew."""
    source = Source()
    source.put(0, dict.fromkeys(COLUMNS, "kept"))
    source.move(0, 1, {})
    store.clear()
    store.write(source.changes[:-1])
    assert store.kept() > 0

    prefix = store.layout.prefix
    config = RedisConfig.model_validate({"url": redis_server.address, "key_prefix": prefix, "buckets": 4})
    store.run(taken_away(config, remove=remove))

    assert 0 == store.kept()
    store.write(source.changes)
    assert source.rows == store.rows("latest.1")[0]


@pytest.mark.parametrize("case", ["pg-toast", "pg-toast-reselect"])
def test_a_captured_row_whose_key_changed_has_its_long_values(redis_server: RedisServer, case: str) -> None:
    """Up to the delete with which the capture ends, one change a call and all in one; as `decode --rows` says."""
    table = "public.toast_default"
    spec = spec_of(case, table)
    columns = [name for name in spec.columns if name not in spec.key]
    spec = spec_of(case, table, features=[{"view": "all", "entity": "row", "columns": columns}])
    values = [value for value in changes(case, table) if not is_last_delete(value)]
    (said,) = [row["row"] for row in rows(case, table, values) if row["key"] == {"id": 2}]
    store = Store(redis_server.address, spec, buckets=4)
    for size in (1, len(values)):
        store.clear()
        for first in range(0, len(values), size):
            store.write(changes_of(values[first : first + size]))
        (fields,) = store.hashes("all.1", ["2"])
        row = row_of(fields)

        assert row is not None
        assert frozenset() == row.unavailable
        assert {name for name in columns if said[name] is None} == row.null
        assert {n: v for n, v in said.items() if isinstance(v, str)} == {
            n: v for n, v in row.values.items() if isinstance(said[n], str)
        }
        assert {n for n in columns if said[n] is not None} == row.values.keys()
    store.close()
