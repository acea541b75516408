"""The NOTIFY stage against a real receiver: what is sent, what waits, and in which order."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from connectors.transport.chunk import Assignment, Run
from connectors.transport.ladder import Ladder
from schemas.errors import PoisonRecord, Unavailable
from schemas.failpoints import arm
from schemas.topics import RETRY_DELAYS_SECONDS
from streams.portion import PORTION_RECORDS_MAX
from tests.unit.fakes import Message
from tests.unit.notify.bench import NAMES, START, Bench, answer_by_number
from tests.unit.notify.receiver import Receiver, alert, receiving
from tests.unit.transport.fakes import Events

pytestmark = pytest.mark.usefixtures("impatient")


async def test_every_alert_is_delivered_once_and_the_group_is_done(receiver: Receiver) -> None:
    """More of them than a portion holds."""
    alerts = [alert(n) for n in range(PORTION_RECORDS_MAX + 40)]
    async with Bench(receiver.url) as bench:
        run = bench.run(*alerts)
        group = await bench.step(run)

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())
    assert ([], True) == (group.unanswered(), run.answered)
    assert {"delivered": len(alerts)} == bench.stage.counters()


async def test_alerts_of_one_row_come_in_order_while_others_overtake(receiver: Receiver) -> None:
    """A row whose alerts are slow holds up nobody else's."""
    async with Bench(receiver.url) as bench:
        alerts = [alert(n, key={"id": str(n % 3)}) for n in range(60)]
        await bench.step(bench.run(*alerts))

    for key in range(3):
        numbers = [each["values"]["n"] for each in receiver.accepted if each["key"] == {"id": str(key)}]
        assert list(range(key, 60, 3)) == numbers


async def test_only_what_is_wanted_is_sent(receiver: Receiver) -> None:
    """Not the late ones, nor other severities, nor what is for others; each is counted and done."""
    alerts = [
        alert(1, late=True),
        alert(2, severity="info"),
        alert(3, destinations=["pager"]),
        alert(4, destinations=["ops"]),
        alert(5),
    ]
    async with Bench(receiver.url, severities=["warning", "critical"]) as bench:
        group = await bench.step(bench.run(*alerts))

    assert {4, 5} == {each["values"]["n"] for each in receiver.accepted}
    assert [] == group.unanswered()
    assert (1, 1, 1) == tuple(
        bench.stage.counters()[f"skipped_{why}"] for why in ("late", "severity", "other_destination")
    )


async def test_quick_attempts_come_before_the_retry_topic(receiver: Receiver) -> None:
    """A hiccup of the receiver is over before anybody waits."""
    statuses = [503, 200]
    receiver.answer = lambda _: web.Response(status=statuses.pop(0))
    async with Bench(receiver.url, quick_attempts=3) as bench:
        await bench.step(bench.run(alert(1)))

    assert ([alert(1).id] * 2, []) == (receiver.ids, bench.writer.records)


async def test_what_fails_in_a_delivery_keeps_its_kind(receiver: Receiver) -> None:
    """Something that is away is waited for; as a fault of ours it would end in quarantine after three attempts."""
    arm("notify.before_delivery=raise@1")
    async with Bench(receiver.url) as bench:
        run = bench.run(alert(1))
        try:
            with pytest.raises(Unavailable):
                await bench.step(run)
        finally:
            arm("")
        await bench.step(run)

    assert [alert(1).id] == receiver.ids


async def test_a_record_that_is_no_alert_behind_a_portion_keeps_nothing_from_being_sent(receiver: Receiver) -> None:
    """What is behind it is sent, once, as is what was sent before it; the record alone is put aside."""
    alerts = [alert(n) for n in range(PORTION_RECORDS_MAX + 40)]
    async with Bench(receiver.url) as bench:
        good = bench.run(*alerts)
        values = good.values()
        values.insert(PORTION_RECORDS_MAX + 10, b"no alert")
        run = Run(good.assignment, [Message(at, b"%d" % at, value) for at, value in enumerate(values)])

        async def no_sleep(seconds: float) -> None:
            assert seconds > 0

        await Ladder(
            "x", bench.stage.step, bench.consumer, on_poison=bench.stage.on_poison, report=Events(), sleep=no_sleep
        ).climb([run])

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())
    assert ({"delivered": len(alerts), "quarantined_broken_alert": 1}, True) == (bench.stage.counters(), run.answered)
    assert 1 == len(bench.written(NAMES.quarantine))


async def test_what_waits_says_what_it_waits_for(receiver: Receiver) -> None:
    """Destination, when it is due, how often it was tried and since when; the same as header."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))

    waiting, record = bench.waiting()[0], bench.writer.records[0]
    expected = {
        "destination": "ops",
        "attempts": 1,
        "first_failed_at": int(START * 1000),
        "reason": "status_500",
        "due": int((START + RETRY_DELAYS_SECONDS[0]) * 1000),
        "rounds": 1,
        "status": 500,
        "redriven": None,
        "v": 1,
    }
    assert expected == {name: value for name, value in waiting.items() if name != "alert"}
    assert alert(1).id == waiting["alert"]["id"]
    assert {"headgate.destination": b"ops", "headgate.due": str(expected["due"]).encode()} == record.headers


async def test_what_waits_is_not_sent_before_it_is_due(receiver: Receiver) -> None:
    """The step holds the record until then."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))
        receiver.answer = lambda _: web.Response(status=200)
        step = asyncio.create_task(bench.step(bench.waiting_run()))
        await asyncio.sleep(0)
        bench.now = START + RETRY_DELAYS_SECONDS[0] - 0.1
        await asyncio.wait([step], timeout=0.3)
        assert (False, 1) == (step.done(), len(receiver.ids))

        bench.now = START + RETRY_DELAYS_SECONDS[0]
        await asyncio.wait_for(step, 5)

    assert 2 == len(receiver.ids)


async def test_what_waits_for_others_is_passed_over(receiver: Receiver) -> None:
    """The retry topic is everybody's."""
    async with receiving() as other, Bench(other.url, name="pager") as pager:
        other.answer = lambda _: web.Response(status=500)
        await pager.step(pager.run(alert(1)))
        async with Bench(receiver.url) as bench:
            group = await bench.step(pager.waiting_run())

    assert ([], []) == (group.unanswered(), receiver.ids)


async def test_what_is_refused_for_good_goes_to_the_dead_letters(receiver: Receiver) -> None:
    """With the reason; its neighbours are delivered."""
    receiver.answer = answer_by_number(lambda n: 400 if n == 2 else 200)
    async with Bench(receiver.url) as bench:
        group = await bench.step(bench.run(*[alert(n) for n in range(4)]))

    dead = bench.written(NAMES.alerts_dead)
    assert [("ops", "status_400", 1, alert(2).id)] == [
        (each["destination"], each["reason"], each["attempts"], each["alert"]["id"]) for each in dead
    ]
    assert ({0, 1, 3}, []) == ({each["values"]["n"] for each in receiver.accepted}, group.unanswered())


async def test_a_record_that_is_no_alert_goes_to_quarantine(receiver: Receiver) -> None:
    """It is named by its kind, without its content; a lost one is left to who reads it next."""
    async with Bench(receiver.url) as bench:
        run = Run(Assignment("x", NAMES.alerts, 0), [Message(0, None, b'{"id": "secret"}')])
        with pytest.raises(PoisonRecord) as raised:
            await bench.step(run)
        await bench.stage.on_poison(run, raised.value)
        run.lose()
        await bench.stage.on_poison(run, raised.value)

    assert "secret" not in str(raised.value)
    assert ["broken_alert"] == [each["reason"] for each in bench.written(NAMES.quarantine)]


def test_alerts_that_wait_have_a_lane_of_their_own() -> None:
    """So that waiting holds up no fresh one."""
    bench = Bench("https://example.org/hook")

    lanes = bench.stage.lanes()

    assert [[topic] for topic in bench.stage.topics()] == [topics for topics, _ in lanes.values()]
    assert {NAMES.alerts, NAMES.alerts_redrive, *NAMES.all_alerts_retry("ops")} == set(bench.stage.topics())
