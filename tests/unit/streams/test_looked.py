"""What is made of single records of a topic that several tables share."""

from __future__ import annotations

from typing import Any

import msgspec

from connectors.captured import OneRecord
from schemas.config import LimitsConfig
from schemas.epoch import EpochStart
from schemas.table import TableEntry
from streams.looked import Life, Looked, Looker, Memories
from tests.unit.streams.dms_specs import dms_spec
from tests.workloads.dms_topic import control_record, dms_record


def _looked(*values: bytes | None) -> list[Looked]:
    looker = Looker({table: dms_spec(table, "task") for table in ("patients", "visits")}, LimitsConfig())
    records = [OneRecord("task", 0, offset, None, value, []) for offset, value in enumerate(values)]
    return [looked for record in records for looked in looker.look(record)]


def _record(table: str, at: int, op: str = "insert") -> bytes:
    return dms_record(table, at, {"id": 1, "name": "n"}, op)


def test_each_record_is_one_of_the_table_that_it_names() -> None:
    """With `previous` and what is remembered by table; what names none is not lost."""
    found = _looked(
        _record("patients", 1), _record("visits", 2, "load"), control_record("bills"), None, b"{", _record("bills", 3),
        _record("patients", 4), _record("patients", 5, "load"),
    )  # fmt: skip

    assert [
        ("change", "patients", None),
        ("change", "visits", None),
        ("schema", None, None),
        ("tombstone", None, None),
        ("quarantine", None, "broken_json"),
        ("quarantine", None, "unregistered"),
        ("change", "patients", None),
        ("change", "patients", "source_read_anew"),
    ] == [(each.kind, each.table, each.error["kind"] if each.error else None) for each in found]
    changes: list[Any] = [msgspec.json.decode(each.change) for each in found if each.change is not None]
    assert [None, None, 0] == [change["source"]["previous"] for change in changes]


def _load_and_insert() -> list[OneRecord]:
    values = _record("patients", 1, "load"), _record("patients", 2), _record("visits", 3, "load")
    return [OneRecord("task", 0, offset, None, value, []) for offset, value in enumerate(values)]


def test_what_stands_behind_a_record_was_not_seen_before_it() -> None:
    """In a file that is sorted otherwise, or has its records twice, nothing looks like a source that was read anew."""
    load, insert, other = _load_and_insert()
    late = OneRecord("task", 0, 3, None, load.value, [])
    specs = {table: dms_spec(table, "task") for table in ("patients", "visits")}
    looker = Looker(specs, LimitsConfig())
    found = [looker.look(record)[0] for record in (insert, other, load, insert, load, late)]

    assert [None] * 5 + ["source_read_anew"] == [each.error and each.error["kind"] for each in found]
    assert {"source_read_anew": 1} == looker.stopped


def test_past_a_stop_the_row_is_shown() -> None:
    """For whoever asks what all records come to."""
    load, insert, _ = _load_and_insert()
    late = OneRecord("task", 0, 2, None, load.value, [])
    specs = {table: dms_spec(table, "task") for table in ("patients", "visits")}
    looker = Looker(specs, LimitsConfig(), past_stops=True)
    found = [looker.look(record)[0] for record in (insert, late)]

    assert ["insert", "snapshot"] == [msgspec.json.decode(each.change or b"")["op"] for each in found]
    assert {"source_read_anew": 1} == looker.stopped


def test_each_memory_holds_from_the_record_behind_it() -> None:
    """A change of what is remembered counts for higher offsets alone."""
    memories = Memories()
    memories.at(5).saw("0000120000")
    memories.at(9).saw("0000130000")
    memories.at(12)

    assert [False, False, True, True, True] == [memories.at(offset).streamed for offset in (1, 5, 6, 9, 10)]
    assert ["", "0000120000", "0000130000"] == [memories.at(offset).last for offset in (5, 9, 11)]
    memories.at(3).saw("0000140000")
    assert "0000130000" == memories.at(13).last


def _resynced(*, resynced: int = 0) -> TableEntry:
    """Return an entry whose second life begins at the third offset of its topic."""
    start = EpochStart(epoch=1, topic_id="life", generation=0, offsets={0: 2})
    return TableEntry(spec=dms_spec("patients", "task"), epoch=1, epochs={"task": [start]}, resynced=resynced)


def _in_two_lives(entry: TableEntry, topic_id: str) -> tuple[list[str], dict[str, str]]:
    """Return the epochs of a load and a change, twice, and the floors behind them."""
    looker = Looker({"patients": entry.spec}, LimitsConfig(), life=Life(topic_id, {"patients": entry}))
    values = [_record("patients", 8, "load"), _record("patients", 9), _record("patients", 1, "load")]
    found = [looker.look(OneRecord("task", 0, at, None, value, []))[0] for at, value in enumerate(values)]
    before = looker.floors()
    found += looker.look(OneRecord("task", 0, 3, None, _record("patients", 2), []))
    assert ["change"] * 4 == [each.kind for each in found]
    positions = [msgspec.json.decode(each.change or b"{}").get("position", "") for each in found]
    return [position[:4] for position in positions], {**before, **looker.floors()}


def test_records_are_of_the_epoch_in_which_they_stand() -> None:
    """A load in a new life is no stop; its floor holds once a change behind its rows was seen, or somebody says so."""
    assert (["0000", "0000", "0001", "0001"], {"patients": "0001"}) == _in_two_lives(_resynced(), "life")


def test_of_a_life_that_nobody_knows_all_is_of_the_latest_epoch() -> None:
    """The topic was made anew since: what it holds is the newest there is."""
    epochs, _ = _in_two_lives(_resynced(), "another")

    assert ["0001", "0001"] == epochs[:2]


def test_a_resync_is_complete_where_somebody_said_so() -> None:
    """No record has to say it."""
    said = [
        Looker({"patients": entry.spec}, LimitsConfig(), life=Life("life", {"patients": entry})).floors()
        for entry in (_resynced(), _resynced(resynced=1))
    ]

    assert [{}, {"patients": "0001"}] == said
