"""What is written to tables that change, without a database: the same for the same seed, and only what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.workloads.changing_sources import SOURCES, ChangingSource
from tests.workloads.changing_tables import CHANGES, REVISION, TABLES
from tests.workloads.changing_writer import Writer


class Notebook(ChangingSource):
    """Takes down what is run; each statement changes as many rows as it says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.statements: list[tuple[str, Sequence[Any]]] = []

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Take it down."""
        self.statements.append((statement, list(values)))
        return statement.count("(%s") if statement.startswith("insert") else 1

    def commit(self) -> None:
        """Have nothing to commit."""

    def follow(self) -> None:
        """Have nobody who follows."""


def written(source: str, seed: int) -> tuple[Writer, Notebook]:
    """Let some rows flow."""
    notebook = Notebook(source)
    writer = Writer(notebook, seed)
    writer.write(50)
    writer.follow()
    assert CHANGES == tuple(writer.flow(500))
    writer.touch_silent()
    return writer, notebook


@pytest.mark.parametrize("source", SOURCES)
def test_equal_seeds_write_the_same(source: str) -> None:
    """And others something else."""
    statements = written(source, 7)[1].statements

    assert statements == written(source, 7)[1].statements
    assert statements != written(source, 8)[1].statements


@pytest.mark.parametrize("source", SOURCES)
def test_all_columns_of_the_end_are_written(source: str) -> None:
    """The specs of the end name what the writer then writes, and what is gone it does not write any more."""
    writer, _ = written(source, 7)

    assert set(TABLES) == set(writer.live)
    for name, live in writer.live.items():
        assert set(TABLES[name].in_the_end) == {*TABLES[name].key, *live.values, REVISION}
        assert not TABLES[name].gone.keys() & TABLES[name].in_the_end.keys()


@pytest.mark.parametrize("source", SOURCES)
def test_each_change_is_made_once_in_the_words_of_its_database(source: str) -> None:
    """With rows before, between and behind them."""
    _, notebook = written(source, 7)
    wanted = [each.format(publication="") for change in CHANGES for each in change.statements[source]]
    made = [number for number, (statement, _) in enumerate(notebook.statements) if statement in wanted]

    assert wanted == [notebook.statements[number][0] for number in made]
    assert made[0] > 50
    assert made[-1] < len(notebook.statements) - 1


@pytest.mark.parametrize("source", SOURCES)
def test_rows_that_changed_without_a_word_are_touched_and_no_others(source: str) -> None:
    """After that, each row was written under a schema that has all its cells."""
    writer, _ = written(source, 7)

    assert 0 < writer.touched < sum(len(live.written) for live in writer.live.values())
    assert all(change >= live.silent for live in writer.live.values() for change in live.written.values())
