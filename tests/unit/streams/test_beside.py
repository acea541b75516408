"""A table beside another one: both read the same records, and neither notices the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from streams.parking import PARKED_LANE
from streams.tables import TableDirectory, check_topics
from tests.unit.fakes import run_of
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import NAMES, TOPIC, Shared, partition
from tests.workloads.dms_topic import dms_record


def _record(at: int, table: str = "patients", op: str = "insert", **row: Any) -> bytes:
    return dms_record(table, at, {"id": 1, "name": f"n{at}", **row}, op)


def _alone(table: str, **changes: Any) -> TableSpec:
    """Return the spec of a table that takes all records of the topic."""
    return dms_spec(table, TOPIC, **{"source_table": None, **changes})


OLD = _alone("patients")
NEW = _alone("patients_v2", beside="patients", columns={"id": "long", "name": "int"}, type_changes="quarantine")


def test_both_get_every_record_with_chains_of_their_own() -> None:
    """As if each had the topic alone."""
    shared, a = Shared(OLD, _alone("patients_v2", beside="patients")), partition(1)

    shared.step(run_of(a, 10, [_record(1), None, _record(2)]))
    shared.step(run_of(a, 13, [_record(3)]))

    assert [(None, 10), (10, 12), (12, 13)] == shared.chain("patients") == shared.chain("patients_v2")
    counts = shared.stage.counters()
    assert (4, 6) == (counts["read"], counts["emitted"])


def test_what_the_new_one_refuses_is_the_old_ones_all_the_same() -> None:
    """One bad version stops one version."""
    shared = Shared(OLD, NEW)

    shared.step(run_of(partition(), 10, [_record(1), _record(2)]))

    assert [(None, 10), (10, 11)] == shared.chain("patients")
    assert [] == shared.chain("patients_v2")
    assert ["patients_v2"] * 2 == [each.table for each in shared.quarantined()]
    assert {} == shared.consumer.paused


def test_the_old_one_goes_on_without_a_gap_when_the_new_one_comes_and_when_it_stays_alone() -> None:
    """Its subscribers see nothing of either; so it is with the new one when the old one is removed."""
    shared, a = Shared(OLD), partition()
    shared.step(run_of(a, 10, [_record(1)]))

    shared.apply(_alone("patients_v2", beside="patients"))
    shared.step(run_of(a, 11, [_record(2)]))
    b = shared.restarted(a)
    shared.step(run_of(b, 12, [_record(3)]))
    shared.tables.update({b"patients": None})
    c = shared.restarted(b)
    shared.step(run_of(c, 13, [_record(4)]))

    assert [(None, 10), (10, 11), (11, 12)] == shared.chain("patients")
    assert [(None, 11), (11, 12), (12, 13)] == shared.chain("patients_v2")


def test_the_old_one_goes_on_while_the_new_one_is_paused() -> None:
    """What comes of the new one meanwhile is parked, all of it."""
    new = _alone("patients_v2", beside="patients")
    shared, a = Shared(OLD, new), partition()
    shared.apply(new, paused="being mended")

    shared.step(run_of(a, 10, [_record(1), _record(2)]))
    shared.apply(new, resumed=1)
    shared.step(run_of(a, 12, [_record(3)]))

    assert [(None, 10), (10, 11), (11, 12)] == shared.chain("patients")
    assert ([10, 11], [(None, 12)]) == (shared.parked_offsets("patients_v2"), shared.chain("patients_v2"))
    assert ([], {}) == (shared.parked("patients"), shared.consumer.paused)


@pytest.mark.parametrize("removed", [False, True])
async def test_what_was_parked_of_one_is_read_by_a_worker_that_starts_later(removed: bool) -> None:
    """As soon as nobody has it paused any more; also when the other one is gone by then, so that it stands alone."""
    new = _alone("patients_v2", beside="patients")
    shared, parked = Shared(OLD, new), NAMES.parked("patients_v2")
    shared.there = {parked}
    shared.tables.update(_entry(new, paused="being mended"))
    if removed:
        shared.tables.update({b"patients": None})

    await shared.stage.start()
    assert {} == shared.consumer.added
    await shared.stage.tables_changed(shared.tables.update(_entry(new, resumed=1)))
    assert parked in shared.stage.topics()
    shared.stage = shared.made()
    await shared.stage.start()
    await asyncio.sleep(0)

    assert {PARKED_LANE: {parked}} == shared.consumer.added


def _entry(spec: TableSpec, **changes: Any) -> dict[bytes, bytes | None]:
    return {spec.table.encode(): TableEntry(spec=spec, **changes).model_dump_json().encode()}


def test_tables_of_a_shared_topic_have_others_beside_them() -> None:
    """Those that say their `source_table`."""
    beside = dms_spec("visits_v2", TOPIC, source_table="clinic.visits", beside="visits")
    shared = Shared(dms_spec("patients", TOPIC), dms_spec("visits", TOPIC), beside)

    shared.step(run_of(partition(), 10, [_record(1), _record(2, "visits"), _record(3, "visits")]))

    assert [(None, 10)] == shared.chain("patients")
    assert [(None, 11), (11, 12)] == shared.chain("visits") == shared.chain("visits_v2")
    assert {NAMES.changes(table): 1 for table in ("patients", "visits", "visits_v2")} == shared.ensured[-1]


@pytest.mark.parametrize(
    "specs",
    [
        [OLD, _alone("patients_v2", beside="patients"), _alone("patients_v3", beside="patients")],
        [OLD, _alone("patients_v2", beside="patients"), _alone("patients_v3", beside="patients_v2")],
        [_alone("patients_v2", beside="patients"), _alone("patients_v3", beside="patients")],
        [OLD, _alone("patients_v2", beside="patients", format="maxwell")],
    ],
)
def test_versions_of_one_table_share_its_topics(specs: list[TableSpec]) -> None:
    """As many as people need, also when the first one is removed."""
    check_topics({spec.table: spec for spec in specs}, "headgate")
    readers = TableDirectory({spec.table: TableEntry(spec=spec) for spec in specs}).of_topic(TOPIC)

    assert readers is not None
    assert readers.shared
    assert {spec.table: [0] for spec in specs} == readers.split([b"{}"]).by_table


@pytest.mark.parametrize(
    "other",
    [
        _alone("patients_v2"),
        _alone("patients_v2", beside="patient"),
        _alone("patients_v2", beside="visits"),
        dms_spec("patients_v2", TOPIC, source_table="clinic.patients", beside="patients"),
    ],
)
def test_a_topic_is_claimed_twice_unless_both_say_that_they_stand_beside_each_other(other: TableSpec) -> None:
    """A name that is not right, or another part of the records, is a mistake."""
    with pytest.raises(ConfigurationError, match="would feed both") as caught:
        check_topics({spec.table: spec for spec in (OLD, other)}, "headgate")

    assert "beside" in caught.value.hint


def test_no_table_stands_beside_itself_and_circles_share_nothing() -> None:
    """Neither is a version of the other then."""
    with pytest.raises(ValueError, match="names another table"):
        _alone("patients", beside="patients")
    circle = [_alone("a", beside="b"), _alone("b", beside="a")]
    with pytest.raises(ConfigurationError, match="would feed both"):
        check_topics({spec.table: spec for spec in circle}, "headgate")


def test_a_spec_without_it_is_written_as_older_releases_read_it() -> None:
    """They refuse a key that they do not know; so it is with who applied it."""
    document = TableEntry(spec=OLD).model_dump(mode="json")

    assert "beside" not in document["spec"]
    assert "applied_by" not in document
    assert "patients" == NEW.model_dump()["beside"]
    assert "ann" == TableEntry(spec=OLD, applied_by="ann").model_dump()["applied_by"]
