"""Every record of the fixtures becomes what stands beside it, alone and among the others."""

from __future__ import annotations

import json

import pytest

from tests.unit.formats.envelopes import FORMATS, changes, decode, outcome, records, spec_of, value_of

CASES = [(case, record["shows"]) for case in FORMATS for record in records(case)]


@pytest.mark.parametrize(("case", "shows"), CASES)
def test_a_record_becomes_what_the_fixture_says(case: str, shows: str) -> None:
    """One record at a time; offsets begin at 100."""
    record = next(one for one in records(case) if one["shows"] == shows)

    assert record["becomes"] == outcome(spec_of(case), value_of(record))


@pytest.mark.parametrize("case", FORMATS)
def test_records_are_the_same_among_others(case: str) -> None:
    """A run is typed by column: what one record says must not become another's; offsets alone differ."""
    given = [one for one in records(case) if isinstance(one["becomes"], list)]
    given.sort(key=lambda one: one["becomes"][0]["position"][:6])  # a load comes first, and no order is lost
    expected = [change for one in given for change in one["becomes"]]
    decoded = decode(spec_of(case), [value_of(one) for one in given])

    assert decoded.rejected == []
    for change, wanted in zip(changes(decoded), expected, strict=True):
        assert wanted | {"position": change["position"]} == change


@pytest.mark.parametrize("case", FORMATS)
def test_a_record_cut_short_harms_no_neighbour(case: str) -> None:
    """It goes to quarantine alone, wherever it is cut."""
    good = next(value_of(one) for one in records(case) if isinstance(one["becomes"], list)) or b""
    alone = changes(decode(spec_of(case), [good]))
    for cut in range(0, len(good), 7):
        decoded = decode(spec_of(case), [good[:cut], good])

        assert [0] == [one.index for one in decoded.rejected]
        assert [one | {"position": ""} for one in alone] == [one | {"position": ""} for one in changes(decoded)]


@pytest.mark.parametrize("case", FORMATS)
def test_a_key_named_twice_in_an_envelope_is_refused(case: str) -> None:
    """Readers disagree on which one holds."""
    good = next(value_of(one) for one in records(case) if isinstance(one["becomes"], list)) or b""
    first, value = next(iter(json.loads(good).items()))
    twice = b"{" + json.dumps(first).encode() + b":" + json.dumps(value).encode() + b"," + good.lstrip()[1:]

    assert "duplicate_keys" == outcome(spec_of(case), twice)
