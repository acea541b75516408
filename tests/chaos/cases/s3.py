"""Case 7: an S3 that answers errors, loses its answers and is restarted while something is uploaded.

Every change must be in the lake once, and no object may be left that nothing refers to, once the sweep has been.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from schemas.config import LakeConfig
from sinks.lake.commit import LakeTable
from sinks.lake.storage import open_catalog
from sinks.lake.table import load_table
from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import go_through
from tests.chaos.stand import Stand
from tests.chaos.tables import TABLES
from tests.faults.manners import Manner
from tests.faults.s3_answers import ALL, WRITES
from tests.oracles import Verdict
from tests.oracles.stray import check_no_stray
from tests.services import wait_until
from tests.workloads.installation import NAMESPACE

SHARE = 0.1
SECONDS = 8.0
DOWN_SECONDS = 0.5
AN_HOUR_LATER, TWO_HOURS_LATER = 4_000.0, 8_000.0  # what is an orphan now, and what is deleted then


def fail(stand: Stand) -> None:
    """Have a tenth of all requests answered with 500 and 503."""
    _answer(stand, Manner.REJECT, ALL)


def lose(stand: Stand) -> None:
    """Have a tenth of all writes done, and their answers lost."""
    _answer(stand, Manner.FAIL_AFTER_WRITE, WRITES)


def restart(stand: Stand) -> None:
    """Kill the server while something is being written, and start it again."""
    answers = stand.wired.s3_answers
    wait_until(lambda: answers.writing, "something is being written", deadline_seconds=60, poll_seconds=0.0005)
    stand.wired.s3.kill()
    time.sleep(DOWN_SECONDS)
    stand.wired.s3.start()


def _answer(stand: Stand, manner: Manner, methods: frozenset[str]) -> None:
    answers = stand.wired.s3_answers
    before = answers.did[manner]
    answers.put(manner, share=SHARE, methods=methods)
    stand.wait(SECONDS)
    answers.put(Manner.TAKE)
    if answers.did[manner] == before:
        stand.troubles.append(f"S3: {manner} of a tenth met nobody")


WAYS = {"500 and 503 on a tenth": fail, "answers lost after the write": lose, "restart in mid upload": restart}


def plant(stand: Stand) -> None:
    """Go through the ways, in an order of the seed."""
    go_through(stand, WAYS)
    stand.sample()


def check(stand: Stand) -> list[Verdict]:
    """Sweep as a worker would some hours later; then every object is one that its table refers to."""
    wire = stand.wired
    catalog = f"sqlite:///{stand.installation.warehouse}/catalog.db"
    config = LakeConfig.model_validate({
        **wire.lake(catalog), "namespace": NAMESPACE, "s3_endpoint": wire.s3.endpoint, "sweep_grace_seconds": 0,
    })  # fmt: skip
    verdicts = []
    for name in TABLES:
        table = load_table(open_catalog(config), NAMESPACE, name)
        clocks = [0.0]
        lake = LakeTable(
            table, snapshots_kept=config.snapshots_kept, sweep_grace_seconds=0, clock=partial(_later, clocks)
        )
        found = len(wire.files().find(table.location()))
        for later in (AN_HOUR_LATER, TWO_HOURS_LATER):
            clocks.append(later)
            lake.sweep()
        files = wire.files().find(table.location())
        verdicts.append(check_no_stray(name, stand.installation.warehouse, NAMESPACE, wire.storage(), files, found))
    return verdicts


def _later(clocks: list[float]) -> float:
    return time.time() + clocks[-1]


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: each way twice, or a hundred times."""
    changes = figure(scale, tiny=4_000, small=30_000, night=1_000_000)
    faults = figure(scale, tiny=3, small=6, night=300)
    return [Plan("", changes, faults, plant, check, wired=True, per_second=800.0, drain_seconds=120.0)]


CASE = Case(7, "S3: 500 and 503 on a tenth, answers lost after the write, restart in mid upload", plans, minutes=2)
