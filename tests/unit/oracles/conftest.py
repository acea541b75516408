"""The history that faults are planted in."""

from __future__ import annotations

import pytest

from tests.oracles import RowEvent, expected_rows
from tests.workloads.ledger_of_changes import LedgerOfChanges
from tests.workloads.model import KEYS, Model

SEED = 20261121


@pytest.fixture(scope="session")
def history() -> list[RowEvent]:
    """A history with everything in it: key changes, swaps, rollbacks, interleaved commits."""
    print(f"seed {SEED}")
    model, ledger = Model(SEED, out_of_line_bytes=64), LedgerOfChanges()
    for step in [*model.initial(5), *model.steps(900)]:
        ledger.follow(step)
    for table in KEYS:
        assert model.rows[table] == expected_rows(ledger.events, table)
    return ledger.events
