"""The subscriber's rule as the client follows it, and the text in which a place is kept."""

from __future__ import annotations

import pytest

from headgate.client.events import Gap, Origin
from headgate.client.rule import PLACE_BYTES_MAX, Place, Told, read_place
from schemas.errors import VersionRefused

NEXT, REPEAT = Told.NEXT, Told.REPEAT


def at(offset: int, row: int = 0, *, topic: str = "a", generation: int = 0) -> Origin:
    """Return an origin."""
    return Origin(topic, generation, 0, offset, row)


def walk(place: Place, *steps: tuple[Origin, int | None, int]) -> list[Told | Gap]:
    """Judge changes one after the other, and take those that are no repeats; each is origin, previous and rows."""
    told = []
    for origin, previous, rows in steps:
        found = place.judge(origin, previous, rows)
        if found is not REPEAT:
            place.take(origin, rows)
        told.append(found)
    return told


def test_repeats_are_dropped_and_streams_are_apart() -> None:
    """By topic, generation and partition; the first of a stream begins anywhere."""
    told = walk(
        Place(),
        (at(4), 3, 1), (at(6), 4, 1), (at(6), 4, 1), (at(4), 3, 1), (at(0, generation=1), None, 1),
        (at(9, topic="b"), 8, 1), (at(7), 6, 1),
    )  # fmt: skip

    assert [NEXT, NEXT, REPEAT, REPEAT, NEXT, NEXT, NEXT] == told


def test_a_gap_is_told_with_its_ends() -> None:
    """Also where nobody knows what was before, as behind records that were lost."""
    place = Place()
    place.take(at(4), 1)

    assert Gap(at(4), 7, at(8)) == place.judge(at(8), 7, 1)
    assert Gap(at(4), None, at(8)) == place.judge(at(8), None, 1)
    assert NEXT is place.judge(at(8), 4, 1)


def test_changes_of_one_record_follow_each_other() -> None:
    """Of three: none may be missing, neither in between nor at their end."""
    place = Place()

    assert [NEXT] * 4 == walk(place, (at(4), 3, 3), (at(4, 1), 4, 3), (at(4, 2), 4, 3), (at(5), 4, 1))
    place = Place()
    place.take(at(4), 3)
    assert isinstance(place.judge(at(4, 2), 4, 3), Gap)
    assert isinstance(place.judge(at(5), 4, 1), Gap)
    assert NEXT is place.judge(at(4, 1), 4, 3)


def test_a_gap_says_where_it_is_in_one_line() -> None:
    """Positions and no values."""
    known = Gap(at(4, generation=2), 7, at(8, generation=2))
    unknown = Gap(at(4), None, at(8))

    assert "a partition 0 generation 2: behind offset 4 comes 8, before which was offset 7" == str(known)
    assert "a partition 0: behind offset 4 comes 8, before which was an unknown one" == str(unknown)


def test_a_place_is_read_back_from_its_text() -> None:
    """And judges as it did."""
    place = Place(17)
    walk(place, (at(4), 3, 1), (at(9, topic="größe"), 8, 2), (at(0, generation=3), None, 1))
    read = read_place(place.text(), 17)

    assert (17, place.text()) == (read.offset, read.text())
    assert [REPEAT, REPEAT, NEXT] == walk(read, (at(4), 3, 1), (at(9, topic="größe"), 8, 2), (at(5), 4, 1))


def test_what_has_no_room_beside_an_offset_goes_by_age() -> None:
    """Of many streams those that were seen last are kept; the others begin anew."""
    place = Place(1)
    for number in range(200):
        place.take(at(number, topic=f"{number:03d}{'x' * 200}"), 1)

    text = place.text()

    assert PLACE_BYTES_MAX // 2 < len(text.encode()) <= PLACE_BYTES_MAX
    read = read_place(text)
    assert REPEAT is read.judge(at(199, topic=f"199{'x' * 200}"), 198, 1)
    assert NEXT is read.judge(at(0, topic=f"000{'x' * 200}"), None, 1)


@pytest.mark.parametrize(
    "text", [None, "", "somebody else's", "v1", "v1 x {}", "v1 5 [1]", 'v1 5 {"a":[[1]]}', "v1 5 " + "[" * 4_000]
)
def test_what_somebody_else_kept_is_passed_over(text: str | None) -> None:
    """Other tools write there what they like: the offset is the group's, and nothing is known of what was seen."""
    read = read_place(text, 5)

    assert (5, NEXT) == (read.offset, read.judge(at(4), 3, 1))


def test_a_text_of_another_offset_is_passed_over() -> None:
    """Somebody moved the group: what was seen beyond must not be dropped as a repeat."""
    place = Place(17)
    place.take(at(4), 1)

    assert NEXT is read_place(place.text(), 3).judge(at(1), 0, 1)
    assert REPEAT is read_place(place.text(), 17).judge(at(1), 0, 1)


def test_a_newer_releases_place_is_refused() -> None:
    """Its text may mean something else."""
    with pytest.raises(VersionRefused, match="version 2"):
        read_place("v2 5 {}", 5)
