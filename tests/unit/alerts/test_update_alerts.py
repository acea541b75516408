"""Rules that compare with what was: what fires, what is remembered, and what no repeat fires again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.transport.chunk import Group
from schemas.errors import PoisonRecord
from schemas.rule import alert_id
from schemas.table import RuleStart, view_of
from tests.unit.alerts.chain import VIEW, Chain, row
from tests.unit.alerts.updates import HIGH, NAMES, Bench, entry_of, keys

CHANGED = {"rule": "changed", "kind": "change", "of": ["status", "level"], "view": VIEW}
CRITICAL = {"rule": "critical", "kind": "transition", "of": "status", "to": ["critical"], "view": VIEW}


async def test_a_change_rule_fires_where_a_value_is_not_what_it_was() -> None:
    """Of one of its columns; another column's change is not its business, and null is a value."""
    bench, chain = Bench(entry_of(CHANGED)), Chain()
    await bench.feed(*[chain.update(key, row(status="ok", level="1.00")) for key in range(6)])

    alerts = await bench.feed(
        chain.update(0, row(status="ok", level="1.00", note="new")),
        chain.update(1, row(status="bad", level="1.00")),
        chain.update(2, row(status=None, level="1.00")),
        chain.update(3, row(status="ok", level="1.50")),
        chain.update(4, None),
        first=6,
    )

    assert [1, 2, 3, 4] == keys(alerts)


async def test_a_row_that_was_not_there_was_null() -> None:
    """So an insert changes what it brings, unless the rule asks for updates alone."""
    only = {**CHANGED, "rule": "only", "when": "op = 'update'"}
    bench, chain = Bench(entry_of(CHANGED, only)), Chain()

    alerts = await bench.feed(
        chain.update(0, row(status="ok")), chain.update(1, row()), chain.update(0, row(level="2"))
    )

    assert [("changed", "insert"), ("changed", "update"), ("only", "update")] == sorted(
        (alert["rule"], alert["op"]) for alert in alerts
    )


async def test_what_is_not_known_on_one_side_has_not_changed() -> None:
    """Neither when it becomes unknown nor when it is known again; another column of the rule still counts."""
    bench, chain = Bench(entry_of(CHANGED)), Chain()
    await bench.feed(chain.update(0, row(status="ok")), chain.update(1, row(status="ok")))

    alerts = await bench.feed(
        chain.update(0, row(), unavailable=["status"]),
        chain.update(0, row(status="bad")),
        chain.update(0, row(status="worse")),
        chain.update(1, row(level="9.00"), unavailable=["status"]),
        first=2,
    )

    assert [(0, 5), (1, 6)] == [(int(alert["key"]["id"]), int(alert["position"])) for alert in alerts]


async def test_a_transition_goes_from_some_values_to_others() -> None:
    """Either end may be left out, null is a value like others, and staying is no transition."""
    rules: list[dict[str, Any]] = [
        {"rule": "to", "kind": "transition", "of": "status", "to": ["critical", "dead"], "view": VIEW},
        {"rule": "from", "kind": "transition", "of": "status", "from": ["stable", None], "view": VIEW},
        {"rule": "both", "kind": "transition", "of": "level", "from": [1], "to": ["2.50", None], "view": VIEW},
    ]
    bench, chain = Bench(entry_of(*rules)), Chain()

    fired = []
    for status, level in [
        ("stable", "1.00"), ("stable", "2.50"), ("critical", "1.00"), ("dead", None), (None, None), ("x", "1.00"),
    ]:  # fmt: skip
        update = chain.update(0, row(status=status, level=level))
        fired.append(sorted(a["rule"] for a in await bench.feed(update, first=chain.position - 1)))

    assert [["from"], ["both"], ["from", "to"], ["both", "to"], [], ["from"]] == fired


async def test_values_and_conditions_see_the_columns_of_the_view_and_the_key() -> None:
    """Before and after, in the forms of the contract; the alert says which view's."""
    rule = {
        **CHANGED,
        "when": "after.level > before.level AND key.id < 5 AND ts > TIMESTAMPTZ '2026-01-01 00:00:00Z'",
        "values": {"was": "before.level", "is": "after.level", "id": "key.id"},
    }
    bench, chain = Bench(entry_of(rule)), Chain()
    for key in (1, 7):
        await bench.feed(chain.update(key, row(level="1.00")), first=key)

    alerts = await bench.feed(*[chain.update(key, row(level="2.00")) for key in (1, 7)], first=8)

    assert [{"was": "1.00", "is": "2.00", "id": "1"}] == [alert["values"] for alert in alerts]
    assert (VIEW, {"id": "1"}, "update", False) == tuple(alerts[0][name] for name in ("view", "entity", "op", "late"))
    assert alert_id("changed", 1, "patients", {"id": "1"}, alerts[0]["position"]) == alerts[0]["id"]


async def test_two_entities_that_one_change_updates_have_alerts_of_their_own() -> None:
    """A row that leaves one entity for another: same row, same position."""
    moved = {"position": "1" * 45, "bucket": 0}
    for view, ids in (({"entity_key": ["ward"]}, 2), ({}, 1)):
        bench, chain = Bench(entry_of(CHANGED, view=view)), Chain()
        updates = [msgspec.json.decode(chain.update(key, row(status="ok"), **moved)) for key in (1, 2)]

        alerts = await bench.feed(*[msgspec.json.encode({**each, "key": {"id": "7"}}) for each in updates])

        assert ids == len({alert["id"] for alert in alerts})


async def test_snapshots_and_replays_fire_nothing() -> None:
    """They are no news."""
    bench, chain = Bench(entry_of(CHANGED, CRITICAL, HIGH)), Chain()

    alerts = await bench.feed(
        chain.update(0, row(status="critical", level="9.00"), snapshot=True),
        chain.update(1, row(status="critical", level="9.00"), replay=True),
    )

    assert [] == alerts


async def test_an_update_that_comes_again_counts_once() -> None:
    """Within a run, in a later one and after a restart; another bucket and another incarnation count by themselves."""
    bench, chain = Bench(entry_of(CHANGED)), Chain()
    updates = [chain.update(0, row(level=f"{at}.00")) for at in range(1, 5)]
    other = Chain(incarnation="b")
    await bench.feed(updates[0], updates[1], updates[0], updates[1])

    repeated = await bench.feed(updates[1], updates[2], first=4)
    again = Bench(entry_of(CHANGED), writer=bench.writer)
    alerts = await again.feed(updates[2], updates[3], other.update(0, row(level="7.00")), updates[0], first=6)

    assert (2, 1) == (len(bench.alerts()) - len(repeated) - len(alerts), len(repeated))
    assert ["4", "1"] == [alert["position"].lstrip("0") for alert in alerts]
    assert (3, 2) == (bench.stage.counters()["repeats_dropped"], again.stage.counters()["repeats_dropped"])


async def test_updates_of_another_version_of_the_view_are_not_judged() -> None:
    """They have other columns; what the topic still holds of them is passed over."""
    bench, chain = Bench(entry_of(CHANGED, view={"version": 2})), Chain()

    assert [] == await bench.feed(chain.update(0, row(status="ok")))


async def test_a_rule_ignores_what_was_there_before_it() -> None:
    """Below its start neither fires nor is remembered; the rule beside it, which is older, fires."""
    new = RuleStart(topic_id="id-1", offsets=[3])
    entry = entry_of({**CHANGED, "rule": "old"}, CHANGED, HIGH, starts={"changed": new, "high": new})
    bench, chain = Bench(entry), Chain()

    alerts = await bench.feed(*[chain.update(0, row(level=level)) for level in ("7", "5", "5.60", "7", "8")])

    assert {"old": 5, "changed": 2, "high": 1} == {
        rule: sum(alert["rule"] == rule for alert in alerts) for rule in ("old", "changed", "high")
    }


async def test_the_start_of_a_topic_that_was_made_anew_does_not_count() -> None:
    """Its offsets are others; nor does a start reach a partition that was not there then."""
    start = RuleStart(topic_id="id-0", offsets=[3])
    bench, chain = Bench(entry_of(CHANGED, starts={"changed": start})), Chain()

    assert 1 == len(await bench.feed(chain.update(0, row(level="7"))))
    assert 0 == RuleStart(topic_id="id-1", offsets=[3]).first("id-1", 1)


async def test_reading_begins_where_the_first_rule_starts() -> None:
    """What no rule judges is not read; where some is, or an offset is committed further on, nothing is left out."""
    old, new = (RuleStart(topic_id="id-1", offsets=[offset]) for offset in (40, 70))
    bench = Bench(entry_of(CHANGED, CRITICAL, starts={"changed": old, "critical": new}))

    async def start(committed: int | None, low: int = 0) -> int | None:
        assignment = await bench.assignment()
        assignment.committed, assignment.low = committed, low
        found = (await bench.stage.starts([assignment])).get(assignment)
        assert found is None or isinstance(found, int)
        return found

    assert (40, 60, 40, None) == (await start(None), await start(None, 60), await start(10), await start(50))
    bench.tables["patients"] = entry_of(CHANGED, CRITICAL, starts={"critical": new})
    assert (None, None) == (await start(None), await start(10))


async def test_a_rule_without_a_view_has_one_of_the_columns_that_it_uses() -> None:
    """Named by table and rule, of the row; its updates are read in the lane of updates."""
    entry = entry_of({"rule": "moved", "kind": "change", "of": "ward", "when": "after.status <> 'gone'"})
    view = entry.spec.features[-1]
    bench, chain = Bench(entry), Chain(view=view.view, version=view.version)
    topic = NAMES.features(view.view)

    await bench.feed(chain.update(0, {"ward": "a", "status": "x"}), view=view.view)

    assert view_of(entry.spec, entry.spec.rules[0]) == view.view
    assert (["ward", "status"], None) == (view.columns, view.entity_key)
    assert ([topic], "updates") == (bench.stage.topics(), bench.stage.lane_of(topic))
    assert [0] == keys(bench.alerts())


async def test_a_record_that_is_no_update_is_named_and_goes_to_quarantine() -> None:
    """The transport finds it by halving; its error holds nothing of it."""
    bench, chain = Bench(entry_of(CHANGED)), Chain()
    read = msgspec.json.decode(chain.update(0, row(level="1.00")))
    for broken in (
        b"{}", b"[", b'"secret"', b"\xff", *(msgspec.json.encode({**read, **wrong}) for wrong in WRONG),
    ):  # fmt: skip
        run = await bench.run(chain.update(1, row()))
        run._messages[0]._value = broken  # type: ignore[attr-defined] # noqa: SLF001 - a record that a fake cannot make
        with pytest.raises(PoisonRecord, match="value 0") as raised:
            await bench.stage.step(Group([run], bench.consumer))
        assert "secret" not in str(raised.value)

        await bench.stage.on_poison(run, raised.value)

    assert 4 + len(WRONG) == len([r for r in bench.writer.records if r.topic == NAMES.quarantine])


WRONG: list[dict[str, Any]] = [
    {"number": -1},
    {"number": 2**63},
    {"bucket": "secret"},
    {"incarnation": None},
    {"ts": "secret"},
    {"after": {"level": "secret"}},
    {"after": [1]},
    {"unavailable": "secret"},
]


async def test_a_table_whose_rules_are_refused_is_paused_on_the_view_as_well() -> None:
    """With the reason; a corrected rule sets it going again."""
    bench, chain = Bench(entry_of(CHANGED)), Chain()
    bad = entry_of(CHANGED)
    broken = bad.spec.rules[0].model_copy(update={"of": ["nothing"]})
    bench.tables["patients"] = bad.model_copy(update={"spec": bad.spec.model_copy(update={"rules": [broken]})})
    await bench.stage.tables_changed({"patients"})

    await bench.stage.step(Group([await bench.run(chain.update(0, row(level="1")))], bench.consumer))

    assert "nothing" in bench.consumer.paused[NAMES.features(VIEW)].message
    bench.tables["patients"] = entry_of(CHANGED)
    await bench.stage.tables_changed({"patients"})
    assert {} == bench.consumer.paused
