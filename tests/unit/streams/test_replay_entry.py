"""Whether a replay that runs still holds, by how its table is registered."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ConfigurationError
from schemas.evolution import Evolved, Found
from schemas.replay import Replay, ReplayedTopic
from schemas.table import TableEntry, TableSpec
from schemas.types import ColumnType, Kind
from streams.replay_entry import applied, why_not
from streams.tables import TableDirectory

TOPIC = "clinic.public.patients"
REPLAY = Replay(generation=7, asked="all", at="then", topics={TOPIC: ReplayedTopic(id="id", ranges={0: (0, 9)})})
SPEC = TableSpec.model_validate({"table": "patients", "topics": [TOPIC], "columns": {"id": "long", "name": "string"}})


def directory(**changes: Any) -> TableDirectory:
    """Return the tables, with the replay in one's entry, and changes of that entry."""
    return TableDirectory({"patients": TableEntry(spec=SPEC, replay=REPLAY).model_copy(update=changes)})


def test_a_replay_goes_on_as_long_as_it_is_registered_with_its_spec() -> None:
    """What verbs keep beside it, and what workers find of its columns, is no other spec."""
    tables = directory(paused="by hand", resumed=3, schema_version=4)
    columns = {"age": [Found(type=ColumnType(Kind.LONG))]}
    found = Evolved(table="patients", slot="s", revision=1, columns=columns)
    tables.update({found.key: found.encoded()})

    assert "age" in tables.unmasked("patients").spec.columns
    assert SPEC == applied(tables.unmasked("patients")) == applied(directory()["patients"])
    assert why_not(tables, SPEC, REPLAY) is None


def test_under_another_spec_nothing_more_is_emitted() -> None:
    """A mask that was applied meanwhile holds for what is still to be read."""
    masked = {"id": "long", "name": {"type": "string", "mask": "hash"}}
    spec = TableSpec.model_validate({**SPEC.model_dump(mode="json"), "columns": masked})

    stop = why_not(directory(spec=spec), SPEC, REPLAY)

    assert stop is not None
    assert "spec_changed" == stop.reason


@pytest.mark.parametrize(
    "tables",
    [TableDirectory(), directory(replay=None), directory(replay=REPLAY.model_copy(update={"generation": 8}))],
)
def test_one_that_was_given_up_emits_nothing_more(tables: TableDirectory) -> None:
    """Also where its table is gone, or another one was begun since."""
    stop = why_not(tables, SPEC, REPLAY)

    assert stop is not None
    assert "replay_given_up" == stop.reason


def test_an_entry_that_cannot_be_read_may_say_anything() -> None:
    """A newer release may have written a mask there."""
    tables = directory()
    tables.update({b"patients": b'{"v": 99}'})

    with pytest.raises(ConfigurationError):
        why_not(tables, SPEC, REPLAY)
