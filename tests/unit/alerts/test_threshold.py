"""Rules that remember: fired once until armed again, whatever is repeated, lost or tried anew."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connectors.transport.chunk import Group
from schemas.errors import SinkUnavailable
from schemas.table import RuleStart
from tests.unit.alerts.chain import VIEW, Chain, row
from tests.unit.alerts.updates import HIGH, NAMES, Bench, entry_of, keys
from tests.unit.fakes import Writer


async def levels(bench: Bench, chain: Chain, *values: str | None, key: int = 0, **fields: Any) -> list[str | None]:
    """Feed an entity's levels one by one; return those that fired."""
    fired: list[str | None] = []
    for value in values:
        update = chain.update(key, row(level=value), **fields)
        fired += [value for _ in await bench.feed(update, first=chain.position)]
    return fired


async def test_a_threshold_fires_once_until_it_is_armed_again() -> None:
    """In the band between the bounds nothing happens; null and a delete in between do what they say."""
    bench, chain = Bench(entry_of(HIGH)), Chain()

    found = await levels(
        bench, chain, "1", "6", "6.10", "7", "5.70", "6.20", "5.50", "6.30", "5.49", "5.90", "6.40", None
    )
    found += await levels(bench, chain, "6.50", "5.00", "6.60")
    bench_two = Bench(entry_of(HIGH), writer=bench.writer)
    await bench_two.feed(chain.update(0, None), first=chain.position)
    found += await levels(bench_two, chain, "6.70")

    assert ["6.10", "6.40", "6.60", "6.70"] == found


async def test_a_falling_threshold_is_the_mirror() -> None:
    """Below, and armed again above."""
    low = {"rule": "low", "kind": "threshold", "of": "level * 2", "below": -1, "rearm_above": 0, "view": VIEW}
    bench, chain = Bench(entry_of(low)), Chain()

    assert ["-1", "-2"] == await levels(bench, chain, "1", "-0.50", "-1", "-3", "0", "-3", "0.01", "-2")


async def test_a_threshold_in_one_run_is_the_same_as_one_by_one() -> None:
    """Several entities, several crossings, in a single group."""
    values = ["5", "7", "8", "5.60", "7", "5", "6.50", "6.80", "1", "9"]
    one, together = Bench(entry_of(HIGH)), Bench(entry_of(HIGH))
    chain, same = Chain(), Chain()
    for at, value in enumerate(values):
        for key in range(3):
            await one.feed(chain.update(key, row(level=str(Decimal(value) - key))), first=3 * at + key)

    alerts = await together.feed(
        *[same.update(key, row(level=str(Decimal(value) - key))) for value in values for key in range(3)]
    )

    assert alerts == one.alerts()
    assert [0, 1, 0, 0, 1, 2] == keys(alerts)


async def test_a_slot_outlives_the_worker() -> None:
    """It is in the state topic, in the partition of the update; the state is gone from there once it is armed again."""
    one, chain = Bench(entry_of(HIGH)), Chain()
    assert ["7"] == await levels(one, chain, "7", "5.60")
    two = Bench(entry_of(HIGH), writer=one.writer)

    assert ["6.20"] == await levels(two, chain, "8", "5", "6.20", "5")

    topic = NAMES.alerts_state(VIEW)
    slots = [r for r in one.writer.records if r.topic == topic and r.key is not None and b"slot" in r.key]
    assert [True, False, True, False] == [record.value is not None for record in slots]
    assert {0} == {record.partition for record in slots}


async def test_snapshots_move_what_is_remembered() -> None:
    """What was beyond the bound in a snapshot is not news when it changes later."""
    bench, chain = Bench(entry_of(HIGH)), Chain()

    assert [] == await levels(bench, chain, "7", snapshot=True)
    assert ["6.10"] == await levels(bench, chain, "8", "5", "6.10")
    assert [] == await levels(bench, chain, "5", snapshot=True)
    assert ["9"] == await levels(bench, chain, "9")


async def test_what_is_not_known_moves_no_threshold() -> None:
    """Neither across the bound nor back."""
    bench, chain = Bench(entry_of(HIGH)), Chain()
    await levels(bench, chain, "7")

    assert [] == await levels(bench, chain, "1", unavailable=["level"])
    assert ["9"] == await levels(bench, chain, "8", "5", "9")


async def test_a_changed_threshold_forgets_what_it_was() -> None:
    """Its slots were of another bound; an entity beyond the new one already has not crossed it."""
    bench, chain = Bench(entry_of(HIGH)), Chain()
    await levels(bench, chain, "7", key=0)
    await levels(bench, chain, "9", key=1)
    bench.tables["patients"] = entry_of({**HIGH, "above": 8.0})
    await bench.stage.tables_changed({"patients"})

    assert ["8.10"] == await levels(bench, chain, "7.50", "8.10", key=0)
    assert [] == await levels(bench, chain, "9.50", key=1)


async def test_nothing_is_remembered_of_a_write_that_failed() -> None:
    """The group comes again and fires then, once."""
    writer = Writer(SinkUnavailable("away"))
    bench, chain = Bench(entry_of(HIGH), writer=writer), Chain()
    run = await bench.run(chain.update(0, row(level="7")))
    with pytest.raises(SinkUnavailable):
        await bench.stage.step(Group([run], bench.consumer))
    assert ([], []) == (bench.alerts(), writer.records)

    await bench.stage.step(Group([run], bench.consumer))

    assert 1 == len(bench.alerts())
    assert [] == await levels(bench, chain, "8")


async def test_nothing_is_remembered_of_a_partition_that_was_lost_in_part() -> None:
    """Its next owner reads all of it."""
    bench, chain = Bench(entry_of(HIGH)), Chain()
    runs = [await bench.run(chain.update(at, row(level="7"), bucket=0), first=at) for at in range(2)]
    runs[1].lose()

    await bench.stage.step(Group(runs, bench.consumer))

    assert ([], [], []) == (bench.alerts(), bench.writer.records, bench.writer.advances)


async def test_without_transactions_alerts_are_durable_before_what_says_so() -> None:
    """A crash in between repeats an alert, and loses none."""

    class Interrupted(Writer):
        """Fails in its second write."""

        async def write(self, runs: Any, work: Any, *, parted: bool = False) -> Any:
            if self.records:
                raise SinkUnavailable("away")
            return await super().write(runs, work, parted=parted)

    bench, chain = Bench(entry_of(HIGH), writer=Interrupted(), guarantee="at_least_once"), Chain()

    with pytest.raises(SinkUnavailable):
        await levels(bench, chain, "7")

    assert {NAMES.alerts} == {record.topic for record in bench.writer.records}


async def test_what_a_removed_rule_remembered_goes_with_the_next_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number at a time; one of the same name that comes later begins anew, and another one's slots stay."""
    monkeypatch.setattr("streams.alerts_of_updates.GIVEN_BACK_MAX", 2)
    other = {**HIGH, "rule": "other"}
    bench, chain = Bench(entry_of(HIGH, other)), Chain()
    for key in range(3):
        await levels(bench, chain, "7", key=key)
    bench.tables["patients"] = entry_of(other)
    await bench.stage.tables_changed({"patients"})
    await levels(bench, chain, "5.80", key=0)
    left = [len((await bench.assignment()).state.of_rule(rule)) for rule in ("high", "other")]
    await levels(bench, chain, "1", key=9)

    assert [1, 3] == left
    written = (await bench.load_states(VIEW, [0]))[0]
    assert [0, 3] == [len(written.of_rule(rule)) for rule in ("high", "other")]
    assert 3 == bench.stage.counts["slots_given_back"]
    bench.tables["patients"] = entry_of(HIGH, other)
    await bench.stage.tables_changed({"patients"})
    assert ["6.50"] == await levels(bench, chain, "6.50", key=0)


async def take_up(bench: Bench, *rules: dict[str, Any], **spec: Any) -> None:
    """Let the table have these rules now."""
    bench.tables["patients"] = entry_of(*rules, **spec)
    await bench.stage.tables_changed({"patients"})


async def test_a_partition_that_is_full_goes_on_once_a_rule_is_removed_or_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What that one remembered counts no more, and is given back; until then nothing is passed over."""
    monkeypatch.setattr("streams.alerts.STATE_BYTES_MAX", 500)
    other = {"rule": "other", "kind": "change", "of": ["status"], "view": VIEW}
    for rules in ([other], [{**HIGH, "above": 6.5}, other]):
        bench, chain = Bench(entry_of(HIGH, other)), Chain()
        for key in range(3):
            await levels(bench, chain, "7", key=key)
        advanced = len(bench.writer.advances)
        last = chain.update(0, row(level="7", status="new"))
        assert [] == await bench.feed(last, first=chain.position)
        assert "state_full" == bench.consumer.paused[NAMES.features(VIEW)].reason
        assert advanced == len(bench.writer.advances)

        await take_up(bench, *rules)
        again = await bench.feed(last, first=chain.position)

        assert (["other"], {}) == ([alert["rule"] for alert in again], bench.consumer.paused)
        written = (await bench.load_states(VIEW, [0]))[0]
        assert (0, 3) == (len(written.of_rule("high")) - (len(rules) == 2), bench.stage.counts["slots_given_back"])


async def test_a_slot_of_another_bound_that_is_given_back_arms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is beyond the new bound already has not crossed it, with its slot or without."""
    monkeypatch.setattr("streams.alerts_of_updates.GIVEN_BACK_MAX", 1)
    bench, chain = Bench(entry_of(HIGH)), Chain()
    for key in range(3):
        await levels(bench, chain, "7", key=key)
    await take_up(bench, {**HIGH, "above": 6.5})

    for key in range(3):
        assert [] == await levels(bench, chain, "8", key=key)


async def test_a_threshold_that_was_armed_where_its_rule_did_not_look_fires_again() -> None:
    """It was edited while ALERTS lagged, or was away for a while: what was before an update says that it is armed."""
    lagging = RuleStart(topic_id="id-1", offsets=[3])
    for gone in ([], [HIGH]):
        bench, chain = Bench(entry_of(HIGH)), Chain()
        assert ["7"] == await levels(bench, chain, "7", key=0)
        await levels(bench, chain, "7", key=1)
        await take_up(bench, *([] if gone else [{**HIGH, "title": "other words"}]), starts={"high": lagging})
        chain.update(0, row(level="5"))
        chain.update(1, None)
        await take_up(bench, {**HIGH, "title": "other words"}, starts={"high": lagging})
        bench.assignments.clear()

        assert ["6.50"] == await levels(bench, chain, "6.50", "8", key=0)
        assert ["6.50"] == await levels(bench, chain, "6.50", "8", key=1)


async def test_a_threshold_stays_fired_over_what_its_rule_did_not_see() -> None:
    """What came back into the band alone, and went beyond again, is no new crossing."""
    bench, chain = Bench(entry_of(HIGH)), Chain()
    assert ["7"] == await levels(bench, chain, "7")
    chain.update(0, row(level="5.80"))

    assert [] == await levels(bench, chain, "7")
    chain.rows.clear()  # Redis was emptied, and is filled again
    assert [] == await levels(bench, chain, "5.80", replay=True)
    assert [] == await levels(bench, chain, "7")


@pytest.mark.parametrize("type_", ["double", "float"])
async def test_what_is_no_number_moves_no_threshold(type_: str) -> None:
    """DuckDB holds NaN above every number: it would fire one kind of threshold, and arm the other."""
    columns = {"id": "long", "ward": "string", "status": "string", "level": type_, "note": "string"}
    low = {"rule": "low", "kind": "threshold", "of": "level", "below": 3, "rearm_above": 4, "view": VIEW}
    bench, chain = Bench(entry_of(HIGH, low, columns=columns)), Chain()
    fired = []
    for value in (5.0, "NaN", 2.0, "NaN", 2.0, 7.0, "NaN", 7.0, 5.0, 8.0):
        alerts = await bench.feed(chain.update(0, row(level=value)), first=chain.position)
        fired += [(alert["rule"], value) for alert in alerts]

    assert [("low", 2.0), ("high", 7.0), ("high", 8.0)] == fired


async def test_updates_of_another_version_of_the_view_are_counted() -> None:
    """They fire nothing: what the view is now is filled anew."""
    bench, chain = Bench(entry_of(HIGH, view={"version": 2})), Chain(version=1)

    assert [] == await levels(bench, chain, "7", "5", "8")
    assert 3 == bench.stage.counters()["other_version_ignored"]
