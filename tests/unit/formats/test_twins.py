"""Names that stand twice are counted by colons: what was read accounts for some, and the rest is learned."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from connectors.formats.twins import Twins


class _Inner(msgspec.Struct):
    at: str | int | UnsetType | None = UNSET
    row: msgspec.Raw | UnsetType = UNSET


class _Outer(msgspec.Struct):
    op: Literal["a"]
    text: str | UnsetType | None = UNSET
    any: Any = UNSET
    inner: _Inner | UnsetType | None = UNSET
    several: list[_Inner] | UnsetType | None = UNSET
    raws: list[msgspec.Raw] | UnsetType | None = UNSET


class _Loose(msgspec.Struct):
    text: str | None = None


_decode = msgspec.json.Decoder(_Outer).decode


def refused(twins: Twins, *values: bytes) -> list[int]:
    """Return the indices of the records that are refused."""
    _, faults = twins.apart(values, [(index, _decode(value)) for index, value in enumerate(values)])
    assert {fault.reason for fault in faults.values()} <= {"duplicate_keys"}
    return sorted(faults)


CLEAN = (
    b'{"op":"a"}',
    b'{"op":"a","text":"1:2:3","any":"4:5"}',
    b'{"op":"a","text":null,"any":7,"inner":null,"several":null,"raws":null}',
    b'{"op":"a","inner":{"at":"1:2","row":{"a":{"b":":"}}}}',
    b'{"op":"a","inner":{"at":12},"several":[{"at":"1:2"},{"row":{"x":1}},{}],"raws":[{"a":":"},1]}',
)


def test_records_whose_members_are_all_read_account_for_all_of_their_colons() -> None:
    """However different they are: none is looked at in full, and nothing is learned."""
    twins = Twins(_Outer, depth_max=100)

    assert [] == refused(twins, *CLEAN)
    assert [] == [index for value in CLEAN for index in refused(twins, value)]
    assert 0 == twins.rest


@pytest.mark.parametrize(
    "value",
    [
        b'{"op":"a","op":"a"}',
        b'{"op":"a","text":null,"text":"x"}',
        b'{"op":"a","text":"x","te\\u0078t":"x"}',
        b'{"op":"a","inner":{"at":1,"at":null}}',
        b'{"op":"a","several":[{},{"at":1,"at":2}]}',
        b'{"op":"a","text":"\\u003a","text":"x"}',
        b'{"op":"a","unread":1,"unread":2}',
    ],
)
def test_one_of_many_that_names_a_key_twice_is_refused(value: bytes) -> None:
    """Wherever it stands, and whatever its neighbours are."""
    twins = Twins(_Outer, depth_max=100)

    assert [len(CLEAN)] == refused(twins, *CLEAN, value, *CLEAN)
    assert [0] == refused(twins, value)


def test_members_that_are_not_read_are_learned_and_not_mistaken() -> None:
    """Where they are as many each time; where they are not, each record is looked at."""
    twins = Twins(_Outer, depth_max=100)
    more = b'{"op":"a","one":{"a":1},"two":"12:30"}'

    assert [] == refused(twins, more, more)
    assert 4 == twins.rest
    assert [1] == refused(twins, more, b'{"op":"a","op":"a","one":{"a":1},"two":"12:30"}', more)
    assert [] == refused(twins, CLEAN[1], more, CLEAN[1])


def test_a_record_that_is_raw_as_a_whole_is_left_to_who_reads_it() -> None:
    """Nothing of it was read."""
    twice = msgspec.Raw(b'{"a":1,"a":2}')

    assert ([(0, twice)], {}) == Twins(msgspec.Raw, depth_max=9).apart([bytes(twice)], [(0, twice)])


def test_a_member_that_cannot_be_told_from_a_missing_one_is_no_envelope_of_ours() -> None:
    """A null that was sent would hide a second one."""
    with pytest.raises(AssertionError, match="missing"):
        Twins(_Loose, depth_max=9)
