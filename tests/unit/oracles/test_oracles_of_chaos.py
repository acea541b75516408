"""The oracles of long runs find the fault that each is for, and none where there is none; and equal seeds are equal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.made import Headers, History, Maker
from tests.chaos.tables import TABLES, raised
from tests.oracles import AlertKey, Verdict
from tests.oracles.alerts import key_text
from tests.oracles.durable import DurableChecks, Sample, check_alerts_durable, check_rising
from tests.oracles.features import entity_of
from tests.oracles.sequence import Mark, check_sequence
from tests.oracles.topic import Record
from tests.oracles.values import row_from_contract
from tests.oracles.whole_lake import Offsets, check_lake

SEED = 20261126
TABLE, PARTITION = "orders", 1
OUT = "out"


@pytest.fixture(scope="module")
def made() -> Maker:
    """A few thousand changes that nobody took."""
    maker = Maker("pg", SEED, lambda *record: None, keys_max=200)  # noqa: ARG005
    maker.snapshot(20)
    maker.make(4_000)
    return maker


def output_of(history: History, table: str = TABLE, partition: int = PARTITION) -> list[Record]:
    """Return what a perfect NORMALIZE makes of one partition, with a transaction's marker after every seventh."""
    records: list[Record] = []
    previous: int | None = None
    for number, change in enumerate(history.expected(table, partition)):
        source = {
            "origin": [f"pg.public.{table}", 0, partition, change.offset], "previous": previous,
            "snapshot": change.snapshot,
        }  # fmt: skip
        value = {
            "op": change.op, "key": change.key, "old_key": change.old_key, "new_key": change.new_key, "before": None,
            "after": change.after, "position": change.position, "ts": change.ts,
            "unavailable": list(change.unavailable), "source": source,
        }  # fmt: skip
        records.append(Record(OUT, partition, number + number // 7, None, json.dumps(value).encode()))
        previous = change.offset
    return records


def asked(history: History, records: list[Record], **options: Any) -> Verdict:
    """Return what the oracle of sequences says."""
    verdict = Verdict("sequence")
    expected = history.expected(TABLE, PARTITION)
    check_sequence(verdict, (f"pg.public.{TABLE}", 0, PARTITION), expected, iter(records), **options)
    return verdict


def changed(record: Record, change: Callable[[dict[str, Any]], None]) -> Record:
    """Return a record whose value was altered."""
    value = json.loads(record.value or b"")
    change(value)
    return replace(record, value=json.dumps(value).encode())


def test_a_perfect_output_passes(made: Maker) -> None:
    """Also with offsets that were committed in good order."""
    records = output_of(made.history)
    marks = [Mark(json.loads(r.value or b"")["source"]["origin"][3] + 1, r.offset + 1) for r in records[::50]]

    verdict = asked(made.history, records, marks=marks)

    assert verdict.holds, str(verdict)
    assert len(records) == verdict.figures["changes"] > 300


def lost(records: list[Record]) -> list[Record]:
    """One change is not there."""
    return [*records[:40], *records[41:]]


def lost_at_the_end(records: list[Record]) -> list[Record]:
    """The last one is not there."""
    return records[:-1]


def doubled(records: list[Record]) -> list[Record]:
    """A change comes twice."""
    return [*records[:41], *records[40:]]


def swapped(records: list[Record]) -> list[Record]:
    """Two changes are in the wrong order."""
    return [*records[:40], records[41], records[40], *records[42:]]


def broken_previous(records: list[Record]) -> list[Record]:
    """One names another one before it."""
    return [*records[:40], changed(records[40], lambda value: value["source"].update(previous=0)), *records[41:]]


def wrong_value(records: list[Record]) -> list[Record]:
    """A column has another value."""
    at = next(n for n, r in enumerate(records) if json.loads(r.value or b"")["after"])
    return [*records[:at], changed(records[at], lambda value: value["after"].update(customer=-1)), *records[at + 1 :]]


def wrong_position(records: list[Record]) -> list[Record]:
    """A position is another one's."""
    return [*records[:40], changed(records[40], lambda value: value.update(position="0" * 45)), *records[41:]]


def made_up(records: list[Record]) -> list[Record]:
    """There is a change of a tombstone."""
    alien = changed(records[-1], lambda value: value["source"]["origin"].__setitem__(3, 10**9))
    return [*records, replace(alien, offset=10**6)]


def of_another(records: list[Record]) -> list[Record]:
    """A change of another partition lies here."""
    return [*records[:40], changed(records[40], lambda v: v["source"]["origin"].__setitem__(2, 0)), *records[41:]]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lost, "missing"),
        (lost_at_the_end, "missing"),
        (doubled, "doubled"),
        (swapped, "out of order"),
        (broken_previous, "previous is 0"),
        (wrong_value, "after is"),
        (wrong_position, "position is"),
        (made_up, "too much"),
        (of_another, "its origin is"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_in_the_output_is_reported(
    made: Maker, fault: Callable[[list[Record]], list[Record]], said: str
) -> None:
    """Each one by its name."""
    verdict = asked(made.history, fault(output_of(made.history)))

    assert not verdict.holds
    assert any(said in text for text in verdict.differences), str(verdict)


def test_what_comes_again_is_dropped_where_repeats_are_allowed(made: Maker) -> None:
    """As the subscriber's rule says; and counted."""
    records = output_of(made.history)

    verdict = asked(made.history, [*records, *records[10:]], repeats=True)

    assert verdict.holds, str(verdict)
    assert len(records) - 10 == verdict.figures["repeats"]


def test_an_offset_committed_above_what_was_durable_is_reported(made: Maker) -> None:
    """The source was committed up to change 41 while the output ended with change 40."""
    records = output_of(made.history)
    origin = json.loads(records[41].value or b"")["source"]["origin"][3]

    verdict = asked(made.history, records, marks=[Mark(origin + 1, records[41].offset)])

    assert not verdict.holds
    assert "was committed while" in verdict.differences[0]


# ── the lake ──


def lake_of(history: History) -> list[dict[str, Any]]:
    """Return the rows of a perfect lake: of all partitions."""
    rows: list[dict[str, Any]] = []
    shape = history.shapes[TABLE]
    for partition in range(TABLES[TABLE].partitions):
        for change in history.expected(TABLE, partition):
            values = row_from_contract(shape.columns, {**change.key, **(change.after or {})})
            rows.append({
                **dict.fromkeys(shape.columns), **values, "_hg_op": change.op, "_hg_position": change.position,
                "_hg_topic": shape.topics[0], "_hg_generation": 0, "_hg_partition": partition,
                "_hg_offset": change.offset, "_hg_previous": history.before(TABLE, partition, change.offset),
                "_hg_unavailable": list(change.unavailable), "_hg_snapshot": change.snapshot,
                "_hg_old_key": change.old_key and json.dumps(change.old_key),
                "_hg_new_key": change.new_key and json.dumps(change.new_key),
            })  # fmt: skip
    random.Random(SEED).shuffle(rows)
    return rows


def ask_lake(history: History, rows: Iterator[dict[str, Any]]) -> Verdict:
    """Return what the oracle of the whole lake says."""
    partitions = range(TABLES[TABLE].partitions)

    def of(partition: int, offset: int) -> Any:
        change = history.at(TABLE, partition, offset)
        return change and (change, history.before(TABLE, partition, offset))

    sizes = {p: len(history.logs[TABLE][p]) for p in partitions}
    return check_lake(history.shapes[TABLE], rows, sizes, of, due={p: history.changes(TABLE, p) for p in partitions})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda rows: rows, ""),
        (lambda rows: rows[1:], "missing"),
        (lambda rows: [*rows, rows[7]], "doubled"),
        (lambda rows: [{**rows[0], "_hg_offset": 10**6}, *rows], "too much"),
        (lambda rows: [{**rows[0], "_hg_generation": 1}, *rows], "too much"),
        (lambda rows: [{**rows[0], "_hg_previous": -1}, *rows[1:]], "previous is -1"),
        (lambda rows: [{**rows[0], "_hg_op": "floor"}, *rows[1:]], "op is"),
        (lambda rows: [{**rows[0], "placed": datetime(2000, 1, 1, tzinfo=UTC)}, *rows[1:]], "placed is"),
    ],
)
def test_a_fault_in_the_lake_is_reported(made: Maker, fault: Callable[[list[Any]], list[Any]], said: str) -> None:
    """And none where there is none."""
    verdict = ask_lake(made.history, iter(fault(lake_of(made.history))))

    assert verdict.holds == (not said), str(verdict)
    assert any(said in text for text in [*verdict.differences, ""]), str(verdict)


def test_a_set_of_offsets_holds_what_was_added_and_nothing_else() -> None:
    """Whatever their order and size."""
    chance = random.Random(SEED)
    wanted = {
        (chance.randrange(3), chance.choice([chance.randrange(20), chance.randrange(100_000)])) for _ in range(200)
    }
    offsets = Offsets()
    for place in wanted:
        offsets.add(*place)

    assert all(place in offsets for place in wanted)
    assert not any((partition, offset) in offsets for partition in range(5) for offset in range(2_000)
                   if (partition, offset) not in wanted)  # fmt: skip


# ── what is durable ──


def durable_of(history: History, sample: Sample) -> DurableChecks:
    """Let the checks of one sample hear a whole output topic."""
    checks = DurableChecks([sample], views={TABLE: ("order.1", "customer-latest.1")})
    changes = {change.offset: change for change in history.expected(TABLE, PARTITION)}
    for record in output_of(history):
        origin = json.loads(record.value or b"")["source"]["origin"][3]
        checks.hear(TABLE, OUT, PARTITION, record.offset, changes[origin])
    return checks


def perfect_sample(history: History, committed: int) -> Sample:
    """Return a sample in which everything is durable that lies below `committed`."""
    found: dict[str, str] = {}
    in_lake: set[tuple[int, int]] = set()
    for record, change in zip(output_of(history), history.expected(TABLE, PARTITION), strict=True):
        if record.offset < committed:
            found[entity_of(tuple(change.key.values()))] = change.position
            in_lake.add((PARTITION, change.offset))
    place = {(OUT, PARTITION): committed}
    both = {"order.1": found, "customer-latest.1": dict(found)}
    return Sample({"features": place, "lake": place}, positions=both, in_lake={TABLE: in_lake})


def test_what_is_durable_is_found_so(made: Maker) -> None:
    """Both sinks, at an offset in the middle."""
    checks = durable_of(made.history, perfect_sample(made.history, 300))

    assert checks.features.holds, str(checks.features)
    assert checks.lake.holds, str(checks.lake)
    assert checks.features.figures["changes below"] > 100


@pytest.mark.parametrize("view", ["order.1", "customer-latest.1"])
def test_a_row_behind_its_committed_offset_is_reported(made: Maker, view: str) -> None:
    """In either kind of view: the ledger of rows that share an entity counts too."""
    sample = perfect_sample(made.history, 300)
    row = next(iter(sample.positions[view]))
    sample.positions[view][row] = "0"

    checks = durable_of(made.history, sample)

    assert view in checks.features.differences[0]
    assert checks.lake.holds


def test_a_change_that_the_lake_lacks_below_its_committed_offset_is_reported(made: Maker) -> None:
    """One file of a commit is not there."""
    sample = perfect_sample(made.history, 300)
    held = sample.in_lake[TABLE]
    assert isinstance(held, set)
    held.pop()

    checks = durable_of(made.history, sample)

    assert checks.lake.total == 1
    assert checks.features.holds


def test_a_position_that_goes_down_is_reported() -> None:
    """Redis had it before, and has an older one now."""
    before, after = Sample({}, positions={"v.1": {"a": "2"}}), Sample({}, positions={"v.1": {"a": "1"}})

    assert check_rising([after, before]).holds
    assert check_rising([before, after]).total == 1


def test_an_alert_that_is_not_written_below_its_committed_offset_is_reported() -> None:
    """Neither written, nor delivered, where the offsets say that it is."""
    sample = Sample({"alerts": {("changes", 0): 10}, "notify": {("alerts", 0): 5}}, ends={("alerts", 0): 6})
    causes = {"a": (("changes", 0), 9), "b": (("changes", 0), 10)}
    at = {"a": (("alerts", 0), 4)}

    assert check_alerts_durable([replace(sample, delivered=frozenset("a"))], causes, at).holds
    assert check_alerts_durable([sample], causes, at, waited=frozenset("a")).holds
    assert "not delivered" in check_alerts_durable([sample], causes, at).differences[0]
    late = {"a": (("alerts", 0), 6)}
    assert "is not written" in check_alerts_durable([sample], causes, late).differences[0]
    assert "is not written" in check_alerts_durable([sample], causes, {}).differences[0]


# ── the source ──


def test_equal_seeds_make_equal_records_and_histories_of_every_kind() -> None:
    """So a failed run can be done again; and a history without deletes or changed keys would prove little."""
    runs = []
    for _ in range(2):
        records: list[tuple[str, bytes | None, bytes, int, Headers]] = []
        maker = Maker("pg", SEED, lambda *record, kept=records: kept.append(record), keys_max=300)
        maker.snapshot(10)
        maker.make(3_000)
        runs.append((records, maker))

    assert runs[0][0] == runs[1][0]
    history = runs[0][1].history
    assert history.records() == len(runs[0][0])
    kinds = {kind for logs in history.logs.values() for log in logs for kind in log.kinds}
    assert set(range(8)) == kinds


def test_the_live_rows_are_those_that_the_history_folds_to(made: Maker) -> None:
    """Two ways to the same rows: kept while changes were made, and folded from what the output must say."""
    for table, shape in made.history.shapes.items():
        rows: dict[Any, dict[str, Any]] = {}
        for partition in range(TABLES[table].partitions):
            for change in made.history.expected(table, partition):
                key = tuple(row_from_contract(shape.columns, change.key).values())
                if change.after is None:
                    del rows[key]
                else:
                    rows[key] = {**rows.get(key, {}), **row_from_contract(shape.columns, change.after)}

        assert made.history.live(table) == rows


def test_every_rule_is_raised_by_some_change(made: Maker) -> None:
    """An oracle of alerts that never fire would be one of nothing."""
    fired = {
        AlertKey(*rule, table, key_text(change.key), change.position).rule
        for table in TABLES
        for partition in range(TABLES[table].partitions)
        for change in made.history.expected(table, partition)
        for rule in raised(table, change.op, change.after, change.key)
    }

    assert {rule["rule"] for shape in made.history.shapes.values() for rule in shape.document["rules"]} == fired
