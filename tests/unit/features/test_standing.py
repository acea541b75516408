"""How a view stands: what is written is read, and a view is pending while one of its partitions is."""

from __future__ import annotations

import pytest

from schemas.errors import BugError
from sinks.redis.standing import UNKNOWN, Standing, read_standing, standing_of


@pytest.mark.parametrize("standing", [Standing(True, 12, 3, 40), Standing(False, 12)])
def test_a_standing_is_read_as_it_was_written(standing: Standing) -> None:
    """Both words."""
    assert standing == read_standing(standing.to_text())


@pytest.mark.parametrize("text", ["", "PENDING", "PENDING:1:2", "COMPLETE:x", "SWEEPING:1", "COMPLETE:1:2"])
def test_what_somebody_else_wrote_is_refused(text: str) -> None:
    """A guess would call a view complete that is not."""
    with pytest.raises(BugError):
        read_standing(text)


def test_a_view_is_pending_while_one_of_its_partitions_is() -> None:
    """Figures are of those that are; another view's count for nothing."""
    fields = {
        b"a.1|t|0": b"COMPLETE:100",
        b"a.1|t|1": b"PENDING:50:5:20",
        b"a.1|t|2": b"PENDING:70:1:10",
        b"b.1|t|0": b"COMPLETE:7",
    }

    assert Standing(True, 70, 6, 30) == standing_of("a.1", fields)
    assert Standing(False, 7) == standing_of("b.1", fields)
    assert UNKNOWN == standing_of("c.1", fields)
