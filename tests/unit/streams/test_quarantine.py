"""The quarantine as people see it: what is meant, what is whole, and in which order it is sent again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.transport.chunk import Run
from schemas.config import Config
from schemas.errors import PoisonRecord
from sinks.quarantine import Quarantined, Suspect, quarantine_value, read_quarantined
from streams.poison import parted, quarantined
from streams.quarantine import Held, Wanted
from streams.quarantine_redrive import Stream, in_order
from tests.unit.fakes import Message, assignment_of

AT = 1_795_203_794.0  # 2026-11-20T19:43:14Z


def entry(offset: int = 7, *, partition: int = 0, limit: int = 100_000, **record: Any) -> Quarantined:
    """Return an entry of a record of the patients' topic."""
    given: dict[str, Any] = {"key": b"k", "value": b"{", "headers": [], **record}
    suspect = Suspect(("src", 0, partition, offset), **given)
    error = PoisonRecord("broken_json", "it is broken")
    value = quarantine_value(error, suspect, stage="normalize", table="patients", at=AT, message_bytes_max=limit)
    return read_quarantined(value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"table": "patients", "kind": "broken_json"}, True),
        ({"kind": "poison"}, True),
        ({"kind": "bad_type"}, False),
        ({"table": "wards"}, False),
        ({"since": datetime(2026, 11, 20, 19, 43, 14, tzinfo=UTC)}, True),
        ({"since": datetime(2026, 11, 20, 19, 43, 15, tzinfo=UTC)}, False),
        ({"until": datetime(2026, 11, 20, 19, 43, 14, tzinfo=UTC)}, False),
        ({"until": datetime(2026, 11, 20, 19, 43, 15, tzinfo=UTC)}, True),
    ],
)
def test_what_is_meant_is_told_by_table_kind_and_time(wanted: dict[str, Any], expected: bool) -> None:
    """A kind is a reason, or a kind of errors; `since` is within, `until` without."""
    assert expected == (entry() in Wanted(**wanted))


@pytest.mark.parametrize(
    ("record", "whole"),
    [
        ({}, True),
        ({"value": b""}, True),
        ({"value": None}, True),  # a tombstone
        ({"value": b"x" * 200_000}, False),  # left out
        ({"key": None, "value": None}, False),  # nobody can tell: the source topic is asked
        ({"headers": [("h", b"")] * 50}, False),  # there may have been more
    ],
)
def test_an_entry_knows_whether_it_holds_its_record(record: dict[str, Any], whole: bool) -> None:
    """Else its bytes are read from the source topic."""
    assert whole == entry(**record).is_whole


def test_each_stream_goes_in_the_order_of_its_offsets_whatever_the_quarantine_has() -> None:
    """Records that came back stand behind younger ones; two entries of one record are one, at the last one's turn."""
    seed = random.randrange(2**31)
    drawn = random.Random(seed)
    held = [
        Held(("id", 0, at), entry(offset, partition=partition), "open")
        for at, (partition, offset) in enumerate(drawn.choices([(p, o) for p in range(3) for o in range(20)], k=80))
    ]
    places: dict[Stream, dict[int, list[Any]]] = {}
    for each in held:
        topic, generation, partition, offset = each.entry.origin
        places.setdefault((topic, generation, partition), {}).setdefault(offset, []).append(each.place)

    found = list(in_order(held, places))

    for stream, offsets in places.items():
        sent = [each.entry.origin[3] for each, _ in found if each.entry.origin[2] == stream[2]]
        assert sorted(offsets) == sent, f"seed {seed}"
    assert {each.place for each in held} == {place for _, of in found for place in of}, f"seed {seed}"


def test_what_retention_takes_meanwhile_holds_up_nothing() -> None:
    """What waited for it goes without it."""
    held = [Held(("id", 0, at), entry(offset), "open") for at, offset in enumerate((9, 8, 7))]
    places: dict[Stream, dict[int, list[Any]]] = {("src", 0, 0): {each.entry.origin[3]: [each.place] for each in held}}

    assert [8, 9] == [each.entry.origin[3] for each, _ in in_order(held[:2], places)]


def test_a_redriven_record_has_its_own_headers_again() -> None:
    """The last header of our name is ours: a source may have one, too."""
    own: Any = [("headgate.first-origin", b"[]"), ("h", None)]

    assert (own, ("src", 0, 1, 2)) == parted([*own, ("headgate.first-origin", b'["src",0,1,2]')])
    assert (own, None) == parted(own)


def test_a_change_that_a_later_stage_puts_aside_names_both_of_its_origins() -> None:
    """Of one that was redriven: the first, and where it was read again."""
    value = (
        b'{"source":{"origin":["headgate.redrive",0,2,5],"first_origin":["src",0,2,4711]}}',
        b'{"source":{"origin":["src",0,2,4711],"first_origin":null}}',
    )
    run = Run(assignment_of(), [Message(at, None, each) for at, each in enumerate(value)])
    error = PoisonRecord("row_too_large", "it is large")

    found = [
        read_quarantined(quarantined(Config(), run, error, stage="features", table="p", at=AT, index=index))
        for index in range(2)
    ]

    assert [("src", 0, 2, 4711)] * 2 == [each.origin for each in found]
    assert [("headgate.redrive", 0, 2, 5), None] == [each.redriven for each in found]
