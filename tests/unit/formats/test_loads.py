"""What is remembered of the snapshot that an epoch begins with: how many rows, and whether it has ended."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats import PartitionMemory, format_of
from schemas.config import LimitsConfig
from schemas.table import TableEntry
from tests.unit.formats.made import GOOD, MadeRun, compact, decode, envelope
from tests.unit.formats.test_dms import INVOICES, record
from tests.unit.formats.test_order import initial

INCREMENTAL = initial(snapshot="incremental", lsn=None, sequence='["100","150"]')


@pytest.mark.parametrize(
    ("values", "loaded", "ended"),
    [
        ([initial(), initial()], 2, False),
        ([initial(), initial(snapshot="last")], 2, True),
        ([initial(snapshot="last_in_data_collection")], 1, True),
        ([initial(), GOOD], 1, True),
        ([GOOD, GOOD], 0, False),
        ([INCREMENTAL, GOOD], 0, False),
        ([None, initial()], 1, False),
        ([initial(), b"{", None], 1, False),
    ],
)
def test_a_snapshot_ends_with_its_last_row_or_the_first_change_behind_its_rows(
    values: list[Any], loaded: int, ended: bool
) -> None:
    """Changes alone, and rows of an incremental one, say nothing of it."""
    memory = PartitionMemory()

    decode(*values, memory=memory, epoch=1)

    assert (loaded, ended) == (memory.loaded, memory.ended)


def test_it_is_the_same_however_its_records_are_parted() -> None:
    """A worker reads them in runs of any length."""
    memory = PartitionMemory()
    for value in (initial(), initial(), GOOD, initial(snapshot="incremental", lsn=None)):
        decode(value, memory=memory, epoch=1)

    assert (2, True) == (memory.loaded, memory.ended)
    memory.enter(2)
    assert PartitionMemory(epoch=2) == memory


def test_before_the_first_resync_nothing_is_remembered_of_it() -> None:
    """The text beside the offset stays as it was."""
    memory = PartitionMemory()

    decode(initial(), initial(snapshot="last"), memory=memory)

    assert "{}" == memory.to_text()


def test_what_is_behind_the_stop_of_a_table_was_not_seen() -> None:
    """The change behind it comes again, once somebody has decided."""
    memory = PartitionMemory()

    decoded = decode(initial(), compact(envelope("t", None)), GOOD, memory=memory, epoch=1)

    assert 1 == decoded.stop_index
    assert (1, False) == (memory.loaded, memory.ended)


@pytest.mark.parametrize(
    ("values", "loaded", "ended"),
    [
        ([record("load"), record("load")], 2, False),
        ([record("load"), record(pos=200)], 1, True),
        ([record(pos=200)], 0, False),
    ],
)
def test_a_load_of_another_tool_ends_with_the_first_change_behind_it(
    values: list[bytes], loaded: int, ended: bool
) -> None:
    """DMS applies what was cached meanwhile after the load of a table."""
    memory = PartitionMemory()
    entry = TableEntry(spec=INVOICES, epoch=3)
    run = MadeRun([(None, value) for value in values])

    format_of("dms").decoder(entry, LimitsConfig()).decode(run, memory)

    assert (3, loaded, ended) == (memory.epoch, memory.loaded, memory.ended)
