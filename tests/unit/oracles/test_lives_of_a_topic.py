"""What the source remembers of a topic that was cut or made anew, and what its oracle then asks for."""

from __future__ import annotations

import json
from typing import Any

from tests.chaos.made import Maker
from tests.unit.oracles.test_oracles_of_chaos import PARTITION, SEED, TABLE, asked, changed, output_of


def test_what_retention_took_is_not_due_and_what_lies_behind_it_names_nothing_before() -> None:
    """A reader that names a change of the gap, or that still brings one, is found."""
    maker = Maker("pg", SEED, lambda *record: None, keys_max=200)  # noqa: ARG005
    maker.make(2_000)
    whole = output_of(maker.history)
    maker.history.logs[TABLE][PARTITION].gone = range(60, 90)
    cut = [record for record in whole if json.loads(record.value or b"")["source"]["origin"][3] not in range(60, 90)]
    first = next(n for n, record in enumerate(cut) if json.loads(record.value or b"")["source"]["origin"][3] >= 90)

    def forget(value: dict[str, Any]) -> None:
        value["source"]["previous"] = None

    right = [*cut[:first], changed(cut[first], forget), *cut[first + 1 :]]

    assert asked(maker.history, right).holds
    assert maker.history.changes(TABLE, PARTITION) == len(right) < len(whole)
    assert "previous is" in asked(maker.history, cut).differences[0]
    assert "too much" in asked(maker.history, whole).differences[0]


def test_a_topic_made_anew_is_another_life_beside_the_one_before() -> None:
    """Offsets begin again, and each life is asked for apart."""
    maker = Maker("pg", SEED, lambda *record: None, keys_max=200)  # noqa: ARG005
    maker.make(1_000)
    before = list(maker.history.expected(TABLE, PARTITION))
    maker.history.begin_anew(TABLE)
    maker.make(200)
    after = list(maker.history.expected(TABLE, PARTITION))

    assert before == list(maker.history.expected(TABLE, PARTITION, 0))
    assert after == list(maker.history.expected(TABLE, PARTITION, 1))
    assert 0 == after[0].offset
    assert [0, 1] == maker.history.generations[TABLE]
