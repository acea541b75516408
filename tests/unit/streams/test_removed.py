"""A table that was removed and is registered again goes on where it stood."""

from __future__ import annotations

import json

from schemas.evolution import Evolved
from schemas.removed import read_removed, removed_of
from schemas.table import Decision, TableEntry
from schemas.topics import TopicNames
from streams.apply import merge
from streams.tables import TableDirectory
from tests.bench.events import bench_spec

SPEC = bench_spec("patients", "t")
DECISION = Decision(topic_id="id", generation=2)
ENTRY = TableEntry(spec=SPEC, schema_version=3, epoch=4, generation=2, decisions={"t": DECISION}, paused="for good")
REMOVED = removed_of(ENTRY, at="then", by="ann")


def test_what_stays_of_a_table_is_no_table() -> None:
    """It is read beside the others, and taken away by its key."""
    tables = TableDirectory({"patients": ENTRY})

    changed = tables.update({b"patients": None, REMOVED.key: REMOVED.encoded()})
    assert ({"patients"}, [], {"patients": REMOVED}) == (changed, list(tables), tables.removed)
    assert set() == tables.update({REMOVED.key: None})
    assert {} == tables.removed


def test_registered_again_its_versions_rise_and_its_epoch_stays() -> None:
    """Its output topic holds changes of the version that it had: one that began anew would contradict them."""
    removed = {"patients": REMOVED}

    change, entry = merge({}, {"patients": SPEC}, at="now", starts={}, names=TopicNames(), by="ben", removed=removed)[
        "patients"
    ]

    assert ("added", 4) == (change.action, change.schema_version)
    assert (4, 4, 2, {"t": DECISION}) == (entry.schema_version, entry.epoch, entry.generation, entry.decisions)
    assert (None, "now", "ben") == (entry.paused, entry.applied_at, entry.applied_by)


def test_what_the_verbs_keep_of_a_table_stays() -> None:
    """All of it: a resume that counted anew would not be heard, and other mask keys would make other tokens."""
    of_the_spec = {"spec", "schema_version", "applied_at", "applied_by", "rules_from", "v"}
    ends_with_it = {"paused", "replay"}  # a replay has to be through before

    assert TableEntry.model_fields.keys() - of_the_spec - ends_with_it <= type(REMOVED).model_fields.keys()
    kept = {"resumed": 7, "mask_keys": {"k": "id"}, "resynced": 3, "epoch": 3, "replayed_apart": True}
    again = removed_of(ENTRY.model_copy(update=kept), at="", by="").entry(SPEC)
    assert kept == {name: getattr(again, name) for name in kept}


def test_its_topics_stay_known() -> None:
    """No template takes them over; what an older release removed says none, and is read all the same."""
    older = REMOVED.model_dump(mode="json", exclude={"topics"})

    assert (["t"], REMOVED) == (REMOVED.topics, read_removed(REMOVED.encoded()))
    assert REMOVED.model_copy(update={"topics": []}) == read_removed(json.dumps(older).encode())


def test_what_workers_found_counts_as_versions_that_there_were() -> None:
    """They wrote changes by them."""
    tables = TableDirectory({"patients": ENTRY})
    tables.update({b"patients": ENTRY.model_dump_json().encode()})
    found = Evolved(table="patients", slot="normalize-a-0", revision=5, columns={})
    tables.update({found.key: found.encoded()})

    assert 8 == removed_of(tables["patients"], at="", by="").schema_version


def test_a_record_that_cannot_be_read_stops_no_table() -> None:
    """One bad thing stops one thing."""
    tables = TableDirectory({"patients": ENTRY})

    assert set() == tables.update({b"removed/visits": b"[]"})
    assert ["removed/visits"] == list(tables.unreadable)
    assert ["patients"] == list(tables)
