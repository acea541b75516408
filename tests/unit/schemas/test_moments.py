"""Days and times of any year as the contract's texts."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.moments import DAY_US, date_text, time_text, timestamp_text

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - timestamps of the contract have no zone


@given(st.dates())
def test_a_day_that_python_has_is_its_iso_date(day: dt.date) -> None:
    """Of the years 1 to 9999."""
    assert day.isoformat() == date_text((day - EPOCH.date()).days)


@given(st.datetimes())
def test_a_moment_that_python_has_is_its_iso_form(moment: dt.datetime) -> None:
    """With six digits of a second, always."""
    micros = (moment - EPOCH) // dt.timedelta(microseconds=1)

    assert moment.isoformat(timespec="microseconds") == timestamp_text(micros)


def test_years_that_python_lacks_have_a_sign() -> None:
    """Before the year 0, and beyond 9999; the year 0 is 1 BC."""
    assert "0000-12-31" == date_text(-719_163)
    assert "-0001-12-31" == date_text(-719_163 - 366)
    assert "+10000-01-01" == date_text(2_932_897)
    assert "+294247-01-10T04:00:54.775807" == timestamp_text(2**63 - 1)


@pytest.mark.parametrize("micros", [-1, DAY_US, 2**63 - 1])
def test_what_is_no_time_of_day_has_no_form(micros: int) -> None:
    """24:00 neither."""
    with pytest.raises(ValueError, match="no time of day"):
        time_text(micros)


def test_a_time_of_day_has_six_digits_of_a_second() -> None:
    """From midnight to the microsecond before the next."""
    assert ("00:00:00.000000", "23:59:59.999999") == (time_text(0), time_text(DAY_US - 1))
