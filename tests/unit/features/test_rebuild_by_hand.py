"""What a rebuild by hand is refused for before anything is asked, and when the lake has what a log has lost."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config import Config
from schemas.errors import TableStopped
from schemas.table import TableEntry
from sinks.lake.stand import Stand
from streams.place import begins_late, is_gone, lake_lacks
from streams.rebuild_by_hand import OutputLog, plan_rebuild

SPEC: dict[str, Any] = {"table": "patients", "topics": ["clinic.patients"], "key": ["id"], "columns": {"id": "long"}}
VIEW = {"view": "latest", "entity": "patient", "columns": ["id"]}
TOPIC = "headgate.changes.patients"


@pytest.mark.parametrize(
    ("spec", "paused", "view", "reason", "hint"),
    [
        ({}, None, None, "no_features", "tables list"),
        ({"features": [VIEW]}, None, "wards", "no_view", "it has latest"),
        ({"features": [VIEW]}, "new key", None, "paused", "tables resume patients"),
    ],
)
def test_what_cannot_be_filled_again_is_refused(
    spec: dict[str, Any], paused: str | None, view: str | None, reason: str, hint: str
) -> None:
    """With what there is instead, or what to do first."""
    entry = TableEntry.model_validate({"spec": SPEC | spec, "paused": paused})
    with pytest.raises(TableStopped) as refused:
        plan_rebuild(Config(), entry, view)

    assert reason == refused.value.reason
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("low", "high", "stand", "says"),
    [
        (0, 100, None, ""),
        (10, 100, None, "the lake has nothing of it"),
        (10, 100, Stand(TOPIC, "id", 10), ""),
        (10, 100, Stand(TOPIC, "id", 9), "the lake ends at 9"),
        (10, 10, Stand(TOPIC, "id", 9), ""),  # what is gone is a transaction's marker
        (10, 100, Stand(TOPIC, "another", 50), "the lake has read another topic"),
        (10, 100, Stand("headgate.changes.others", "id", 50), "the lake has read another topic"),
    ],
)
def test_the_lake_must_reach_to_where_a_log_begins(low: int, high: int, stand: Stand | None, says: str) -> None:
    """Of the same life of the same topic."""
    assert says == lake_lacks(OutputLog(TOPIC, 0, "id", low, high), stand, transactional=True)


@pytest.mark.parametrize(("first", "says"), [(None, ""), (0, ""), (7, "the lake begins at 7")])
def test_a_lake_that_began_later_than_its_topic_has_not_all(first: int | None, says: str) -> None:
    """One that noted nothing is trusted: it is of a build before."""
    assert says == begins_late(Stand(TOPIC, "id", 50, first=first))
    assert "" == begins_late(None)


def test_a_log_whose_only_record_was_a_marker_has_lost_nothing() -> None:
    """Without transactions there are no markers, so it was a record."""
    log = OutputLog(TOPIC, 0, "id", 1, 1)

    assert (False, True) == tuple(is_gone(log, 0, transactional=each) for each in (True, False))
