"""Structured temporals: numbers of fields become the contract's dates and times, or ISO text that loses nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.formats.made import compact, decode, envelope, reasons
from tests.unit.formats.test_values import values_of

DATE = {"year": 2024, "month": 2, "day": 29, "specialValue": None}
CLOCK = {"hour": 13, "minute": 45, "second": 6, "nanos": 789_123_456, "precision": 9}
STAMP = {**DATE, **CLOCK}
ZONED = {**STAMP, "offsetSeconds": 19_800, "zoneId": "Asia/Kolkata"}
DURATION = {"years": 1, "months": 2, "days": 3, "hours": 4, "minutes": 5, "seconds": 6, "nanos": 780_000_000}
INFINITE = dict.fromkeys(ZONED, None) | {"specialValue": "NEGATIVE_INFINITY", "precision": 6}


def column(type_: str, name: str) -> dict[str, str]:
    """Return a column of a structured encoding."""
    return {"type": type_, "encoding": f"time.Structured{name}"}


def only(document: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `document` that `like` has."""
    return {name: document[name] for name in like}


@pytest.mark.parametrize(
    ("type_", "name", "value", "expected"),
    [
        ("date", "Date", DATE, "2024-02-29"),
        ("time", "Time", CLOCK, "13:45:06.789123"),
        ("string", "Time", CLOCK, "13:45:06.789123456"),
        ("string", "Time", CLOCK | {"hour": 24, "minute": 0, "second": 0, "nanos": 0}, "24:00:00.000000"),
        ("time", "ZonedTime", CLOCK | {"offsetSeconds": 19_800}, "08:15:06.789123"),
        ("string", "ZonedTime", CLOCK | {"offsetSeconds": -3_615}, "13:45:06.789123456-01:00:15"),
        ("timestamp", "Timestamp", STAMP, "2024-02-29T13:45:06.789123"),
        ("string", "Timestamp", STAMP, "2024-02-29T13:45:06.789123456"),
        ("string", "Timestamp", STAMP | {"year": 12_024}, "+12024-02-29T13:45:06.789123456"),
        ("timestamptz", "ZonedTimestamp", ZONED, "2024-02-29T08:15:06.789123Z"),
        ("string", "ZonedTimestamp", ZONED, "2024-02-29T13:45:06.789123456+05:30[Asia/Kolkata]"),
        ("string", "ZonedTimestamp", ZONED | {"offsetSeconds": 0, "zoneId": "Z"}, "2024-02-29T13:45:06.789123456Z"),
        ("string", "Duration", DURATION | {"precision": 6}, "P1Y2M3DT4H5M6.78S"),
        ("string", "Duration", dict.fromkeys(DURATION, 0) | {"precision": 6}, "P0Y0M0DT0H0M0S"),
        (
            "string",
            "Duration",
            dict.fromkeys([*DURATION, "precision"], 0) | {"nanos": -5_000},
            "P0Y0M0DT0H0M-0.000005S",
        ),
    ],
)
def test_a_structured_value_has_one_form_in_its_type(type_: str, name: str, value: Any, expected: str) -> None:
    """Microseconds in times of the contract, all nine digits in text."""
    assert ([expected], []) == values_of(column(type_, name), value)


@pytest.mark.parametrize(
    ("type_", "name", "like"),
    [("date", "Date", DATE), ("timestamp", "Timestamp", STAMP), ("timestamptz", "ZonedTimestamp", ZONED)],
)
def test_an_infinity_is_text_or_out_of_range_or_null_as_the_spec_says(type_: str, name: str, like: Any) -> None:
    """Nothing turns into a moment."""
    infinite = only(INFINITE, like)

    assert (["-infinity"], []) == values_of(column("string", name), infinite)
    assert ([], ["out_of_range"]) == values_of(column(type_, name), infinite)
    assert ([None], []) == values_of({**column(type_, name), "unrepresentable": "null"}, infinite)


@pytest.mark.parametrize(
    "value",
    [
        DATE | {"month": 13},
        DATE | {"day": None},
        DATE | {"week": 1},
        {"year": 2024, "month": 2, "day": 29},
        DATE | {"year": "2024"},
        DATE | {"specialValue": "TOMORROW", "day": None} | {"year": 10**30},
        "2024-02-29",
    ],
)
def test_what_is_no_structured_date_is_refused(value: Any) -> None:
    """A field too many or too few would also upset the count of keys."""
    assert values_of(column("date", "Date"), value)[1] in (["bad_type"], ["out_of_range"])


def test_a_column_named_twice_is_seen_beside_structured_values() -> None:
    """Their keys, and the colons of a zone, count as what they are."""
    columns = {"id": "int", "at": column("timestamptz", "ZonedTimestamp")}
    good = [compact(envelope(after={"id": 1, "at": ZONED | {"zoneId": zone}})) for zone in ("+05:30", "UTC+05:30:00")]
    twice = good[0].replace(b'"id":1,', b'"id":1,"id":1,')

    assert [] == reasons(decode(*good, *good, None, columns=columns))
    assert ["duplicate_keys"] == reasons(decode(*good, twice, *good, columns=columns))
