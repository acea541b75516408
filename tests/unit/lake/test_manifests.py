"""Which manifests become one: few stay, and none is written often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.lake.manifests import ENTRIES_MAX, MERGE_COUNT, to_merge


@given(st.lists(st.integers(1, 5_000)))
def test_only_small_ones_of_one_magnitude_are_merged(entries: list[int]) -> None:
    """Each at most once, and never fewer than ten at a time."""
    groups = to_merge(entries)
    merged = [index for group in groups for index in group]

    assert len(set(merged)) == len(merged)
    for group in groups:
        assert len(group) >= MERGE_COUNT
        assert 1 == len({len(str(entries[index])) for index in group})
        assert max(entries[index] for index in group) < ENTRIES_MAX


@pytest.mark.parametrize("commits", [1_000, 20_000])
def test_few_manifests_stay_and_none_is_written_often(commits: int) -> None:
    """After any number of commits: under ten of each magnitude, and an entry written at most four times."""
    manifests: list[int] = []
    written = most = 0
    for _ in range(commits):
        for group in to_merge(manifests):
            written += sum(manifests[index] for index in group)
            total = sum(manifests[index] for index in group)
            manifests = [count for index, count in enumerate(manifests) if index not in group] + [total]
        manifests.append(1)
        written += 1
        most = max(most, len([count for count in manifests if count < ENTRIES_MAX]))

    assert commits == sum(manifests)
    assert most <= 3 * MERGE_COUNT
    assert written <= 4 * commits
