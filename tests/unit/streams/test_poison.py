"""Quarantine for stages that write no topic of their own: FEATURES and LAKE."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.transport.chunk import Run
from schemas.config import read_config
from schemas.errors import PoisonRecord, SinkUnavailable
from schemas.topics import TopicNames
from streams.poison import Quarantine
from streams.stage import BaseStage
from streams.tables import TableDirectory
from streams.wiring import MAIN_LANE, Parts, Wired, wire
from tests.unit.fakes import Message, Writer, assignment_of, run_of

CONFIG = read_config("", name="headgate.yaml")
BROKEN = PoisonRecord("broken_value", "no change of the contract")


class Stage(BaseStage):
    """A stage that notes when it stops, and may fail to."""

    name = "lake"

    def __init__(self, writer: Writer, failure: Exception | None = None) -> None:
        super().__init__()
        self.counts["commits"] = 2
        self._writer, self._failure = writer, failure

    async def stop(self) -> None:
        self._writer.lives.append("stage stopped")
        if self._failure is not None:
            raise self._failure

    def topics(self) -> list[str]:
        return []

    async def step(self, group: Any) -> None:
        raise AssertionError("nothing comes")


class Lanes:
    """A consumer that remembers what it calls with a record that nobody could get through."""

    arrived_total = 0

    def lane(self, name: str, topics: list[str], step: Any, **options: Any) -> Lanes:
        if name == MAIN_LANE:
            given = options["on_poison"]
            self.on_poison = getattr(given, "__wrapped__", given)  # what is called in turns with the lane of loads
        return self


def _wired(writer: Writer, failure: Exception | None = None) -> Wired:
    stage = Stage(writer, failure)
    quarantine = Quarantine(CONFIG, names=TopicNames(), stage=stage, writer=writer, clock=lambda: 1.0)
    return Wired(stage, quarantine)


async def _put(wired: Wired, error: BaseException) -> None:
    assert wired.quarantine is not None
    await wired.quarantine.put(run_of(assignment_of(partition=3), 7, [b"{"]), error)


async def test_what_is_put_aside_is_counted_by_its_reason_beside_what_the_stage_counts() -> None:
    """`status`, the metrics and the line of the stop show it, as they do for NORMALIZE and ALERTS."""
    wired = _wired(writer := Writer())

    await _put(wired, BROKEN)
    await _put(wired, BROKEN)
    await _put(wired, KeyError("x"))

    assert {"commits": 2, "quarantined_broken_value": 2, "quarantined_bug": 1} == wired.counters()
    entry = writer.records[0]
    assert ("headgate.quarantine", "lake", "patients", ["headgate.changes.patients", 0, 3, 7]) == (
        entry.topic, *(entry.content[name] for name in ("stage", "table", "origin")),
    )  # fmt: skip


async def test_what_could_not_be_written_is_not_counted() -> None:
    """The transport tries again, and counts it then."""
    wired = _wired(Writer(SinkUnavailable("away")))

    with pytest.raises(SinkUnavailable):
        await _put(wired, BROKEN)
    await _put(wired, BROKEN)

    assert 1 == wired.counters()["quarantined_broken_value"]


@pytest.mark.parametrize("failure", [None, SinkUnavailable("away")])
async def test_the_producer_is_closed_after_the_stage_however_that_ended(failure: Exception | None) -> None:
    """It was opened once, when the first record came."""
    wired = _wired(writer := Writer(), failure)
    await _put(wired, BROKEN)
    await _put(wired, BROKEN)

    with pytest.raises(SinkUnavailable) if failure else nullcontext():
        await wired.stop()

    assert ["opened", "stage stopped", "closed"] == writer.lives


async def test_a_producer_that_nobody_needed_is_never_opened() -> None:
    """A healthy FEATURES or LAKE has no connection for it."""
    wired = _wired(writer := Writer())

    await wired.stop()

    assert ["stage stopped"] == writer.lives


@pytest.mark.parametrize("name", ["features", "lake"])
def test_the_stages_without_a_topic_are_wired_with_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lane calls is what the stage's counters and its stop know of."""
    monkeypatch.setattr("streams.wiring.map_large_pieces", lambda: None)  # it is for a process of its own
    lanes: Any = Lanes()
    admin: Any = SimpleNamespace(watermarks=None)

    wired = wire(name, Parts(CONFIG, TopicNames(), TableDirectory(), lanes, admin, f"{name}-0"))

    assert wired.quarantine is not None
    assert wired.quarantine.put == lanes.on_poison


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("\u20ac" * 300_000, b"v" * 150_000),
        ("\x01" * 200_000, b"{"),
        ("name", b'{"source":{"origin":["%s",0,0,1]}}' % (b"t" * 1_048_350)),
    ],
)
async def test_an_entry_of_quarantine_is_never_too_large_for_its_topic(name: str, value: bytes) -> None:
    """Whatever a record's headers or a change's origin say: an entry that cannot be written would end the worker."""
    writer = Writer()
    quarantine = Quarantine(CONFIG, names=TopicNames(), stage=Stage(writer), writer=writer, clock=lambda: 1.0)
    run = Run(assignment_of(), [Message(7, b"k", value, [(name, b"")])])

    await quarantine.put(run, BROKEN)

    entry = writer.records[0].content
    assert (None, len(value), ["headgate.changes.patients", 0, 0, 7]) == (
        entry["value"],
        entry["value_bytes"],
        entry["origin"],
    )
