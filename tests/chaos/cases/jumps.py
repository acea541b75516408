"""Case 14: topics that are not what was read before: made anew, enlarged, cut by retention, all under load.

NORMALIZE stops with the reason and the verb that decides; after the decision nothing is missing or doubled.
The source goes on with rows whose earlier changes were read, or sends again what was lost: all ends must be the source.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.stand import Stand
from tests.oracles.clients import independent_admin
from tests.services import wait_until

ANEW, ENLARGED, CUT = "orders", "readings", "documents"
PARTITIONS = 8  # of the table that has four
ANEW_DECISION = ("--anew",)
SAID_SECONDS = 60.0
FOUND_CODE = 1
UNREAD_RECORDS = 40
BATCH = 200


def plant(stand: Stand) -> None:
    """Do all of it, with stages that run and with NORMALIZE stopped."""
    for number in range(stand.plan.faults):
        (shorter, enlarge, longer, cut)[number % 4](stand)
        stand.wait(1)


def shorter(stand: Stand) -> None:
    """Make a topic anew under a NORMALIZE that runs: its offsets lie beyond the new end."""
    stand.fault(f"{ANEW} is made anew, shorter than it was")
    _do(stand, lambda: _make_anew(stand, longer=False))
    _decided(stand, ANEW, "made anew", *ANEW_DECISION)


def longer(stand: Stand) -> None:
    """Make a topic anew while NORMALIZE is stopped: its offsets lie within the new log."""
    stand.fault(f"{ANEW} is made anew while nobody looks, longer than it was")
    _do(stand, lambda: _make_anew(stand, longer=True))
    stand.workers.wait_runs(stand.workers.start("normalize"))
    _decided(stand, ANEW, "made anew", *ANEW_DECISION)


def enlarge(stand: Stand) -> None:
    """Give a topic more partitions: keys move to others, and nobody needs to decide."""
    if len(stand.source.history.logs[ENLARGED]) < PARTITIONS:
        stand.fault(f"{ENLARGED} has {PARTITIONS} partitions")
        _do(stand, lambda: stand.source.enlarge(ENLARGED, PARTITIONS))


def cut(stand: Stand) -> None:
    """Delete records that NORMALIZE has not read; the source sends them again once somebody has decided."""
    stand.fault(f"retention takes of {CUT} what was not read")
    _stop(stand)
    lost: dict[int, range] = {}
    _do(stand, lambda: _cut(stand, lost))
    stand.workers.wait_runs(stand.workers.start("normalize"))
    _decided(stand, CUT, "records are gone", "--from", "earliest")
    _do(stand, lambda: _send_again(stand, lost))


def _decided(stand: Stand, table: str, reason: str, *decision: str) -> None:
    """Return once NORMALIZE has said why it stopped, told the choices, and was told to go on."""
    wait_until(lambda: reason in _paused(stand, table), f"status says {reason}", deadline_seconds=SAID_SECONDS)
    stand.say(f"{table}: {_paused(stand, table)}")
    if (code := stand.workers.verb("tables", "resume", table)) != FOUND_CODE:
        stand.troubles.append(f"resume {table} without a decision: exit code {code}")
    # It is looked at again, and must come to the same end; that nothing was read meanwhile the oracles say.
    wait_until(lambda: reason in _paused(stand, table), f"{table} is held again", deadline_seconds=SAID_SECONDS)
    if code := stand.workers.verb("tables", "resume", table, *decision):
        stand.troubles.append(f"resume {table} {' '.join(decision)}: exit code {code}")
    wait_until(lambda: not _paused(stand, table), f"{table} goes on", deadline_seconds=SAID_SECONDS)
    if decision == ANEW_DECISION:
        said = re.findall(r"is read from its beginning as generation (\d+)", stand.installation.log.read_text())
        stand.source.history.generations[table][-1] = int(said[-1])


def _paused(stand: Stand, table: str) -> str:
    """Return why a table stands still in NORMALIZE, "" where it does not."""
    (worker,) = stand.workers.running("normalize")
    rows = stand.workers.status(worker).get("tables", [])
    return " ".join(json.dumps([row["paused"], row["hint"]]) for row in rows if row["table"] == table and row["paused"])


def _do(stand: Stand, work: Callable[[], None]) -> None:
    """Have the source's thread do something between two batches, and return when it has."""
    done = threading.Event()

    def whole() -> None:
        work()
        done.set()

    stand.feeder.do(whole)
    while not done.is_set():
        stand.wait(0.2)


def _stop(stand: Stand) -> None:
    (worker,) = stand.workers.running("normalize")
    if code := stand.workers.end(worker)[0]:
        stand.troubles.append(f"normalize ended with {code}")


def _read_up(stand: Stand) -> None:
    """Return once NORMALIZE has committed all that the topic to be made anew holds."""
    stand.source.flush()
    logs = stand.source.history.logs[ANEW]
    wait_until(
        lambda: all(_committed(stand, ANEW).get(number) == len(log) for number, log in enumerate(logs)),
        f"{ANEW} is read", deadline_seconds=SAID_SECONDS,
    )  # fmt: skip


def _make_anew(stand: Stand, *, longer: bool) -> None:
    """Make it anew once all of it is read: what nobody had read would be lost with it. For `longer` NORMALIZE stops."""
    _read_up(stand)
    if longer:
        _stop(stand)
    before = [len(log) for log in stand.source.history.logs[ANEW]]
    stand.source.make_anew(ANEW)
    while longer and any(len(log) <= size for log, size in zip(stand.source.history.logs[ANEW], before, strict=True)):
        stand.source.make(BATCH)
    stand.source.flush()


def _cut(stand: Stand, lost: dict[int, range]) -> None:
    """Make records, and delete half of those of one partition that nobody has read."""
    committed, log = _committed(stand, CUT)[0], stand.source.history.logs[CUT][0]
    while len(log) < committed + UNREAD_RECORDS:
        stand.source.make(BATCH)
    lost[0] = range(committed, (committed + len(log)) // 2)
    stand.source.take(CUT, 0, lost[0])


def _send_again(stand: Stand, lost: dict[int, range]) -> None:
    for partition, offsets in lost.items():
        stand.source.repeat(CUT, partition, offsets.start, offsets.stop)


def _committed(stand: Stand, table: str) -> dict[int, int]:
    """Return what NORMALIZE has committed of a table's topic, by partition."""
    group, _ = stand.groups()["normalize"]
    with independent_admin(stand.kafka.address) as admin:
        found = admin.list_group_offsets(group)[group]
    topic = stand.source.topic(table)
    return {place.partition: at.offset for place, at in found.items() if place.topic == topic}


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures: all four, once or many times."""
    changes = figure(scale, tiny=4_000, small=20_000, night=200_000)
    faults = figure(scale, tiny=4, small=4, night=20)
    return [Plan("", changes, faults, plant, supervised=False, per_second=1_000.0, drain_seconds=120.0)]


CASE = Case(14, "topics made anew, enlarged, cut by retention", plans, minutes=2)
