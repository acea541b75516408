"""Every record of the fixtures becomes what stands beside it, alone and among the others."""

from __future__ import annotations

import json
import random
import re

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


_VALUE = re.compile(rb': ?("[^"]*"|[0-9.]+|true|null|\{\})')
_ODD = [
    b"null", b"{}", b"[]", b'""', b"1e400", b"-1", b'"\\ud800"', b"true", b'"x"', b"[{}]", b"9" * 30, b'"\\u0000"',
]  # fmt: skip


def spoilt(value: bytes, rng: random.Random) -> bytes:
    """Return a record in which a value is another one, a byte is, or a piece is missing."""
    found = list(_VALUE.finditer(value))
    match rng.randrange(3):
        case 0 if found:
            place = rng.choice(found)
            return value[: place.start(1)] + rng.choice(_ODD) + value[place.end(1) :]
        case 1:
            at = rng.randrange(len(value))
            return value[:at] + bytes([rng.randrange(256)]) + value[at + 1 :]
        case _:
            start, end = sorted(rng.randrange(len(value) + 1) for _ in range(2))
            return value[:start] + value[end:]


@pytest.mark.parametrize("case", FORMATS)
def test_whatever_a_record_is_it_is_in_one_place(case: str) -> None:
    """Nothing raises, and nothing is lost."""
    rng = random.Random(7)
    values = [value for one in records(case) if (value := value_of(one))]
    for _ in range(300):
        run: list[bytes | None] = [spoilt(rng.choice(values), rng) or None for _ in range(4)]
        decoded = decode(spec_of(case), run)
        changed, refused = set(decoded.batch.offsets), {100 + one.index for one in decoded.rejected}
        end = len(run) if decoded.stop_index is None else decoded.stop_index

        assert set() == changed & refused
        assert end == len(changed | refused) + sum(decoded.skipped.values())
