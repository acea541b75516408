"""The NOTIFY stage against a real receiver: what is sent, what waits, what is given up, and in which order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import msgspec
import pytest
from aiohttp import web

from connectors.transport.chunk import Assignment, Group, Run
from schemas.config import Config
from schemas.errors import PoisonRecord, SinkUnavailable
from schemas.rule import Alert
from schemas.topics import TopicNames
from sinks.webhook import WebhookSink
from streams.notify import NotifyStage
from streams.portion import PORTION_RECORDS_MAX
from streams.retry import LATER_SECONDS, TROUBLED_AFTER
from tests.services import until
from tests.unit.fakes import Consumer, Message, Writer
from tests.unit.notify.receiver import Receiver, alert, destination, receiving

NAMES = TopicNames("hg")
START = 1_795_203_957.0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that says 204 until told otherwise."""
    async with receiving() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting step looks at the test's clock often."""
    monkeypatch.setattr("streams.notify.LOOK_SECONDS", 0.005)


class Bench:
    """A stage with fakes around it, a clock to turn, and a sink that is real."""

    def __init__(self, url: str, *, name: str = "ops", **settings: Any) -> None:
        config = Config.model_validate({"notify": {name: destination(url, **{"quick_attempts": 1, **settings})}})
        self.now = START
        self.writer, self.consumer = Writer(), Consumer()
        sink = WebhookSink(name, config.notify[name])  # by the true clock: the receiver refuses old signatures
        self.stage = NotifyStage(
            config,
            destination=name,
            names=NAMES,
            writer=self.writer,
            consumer=self.consumer,
            sink=sink,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    async def __aenter__(self) -> Self:
        await self.stage.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stage.stop()

    def run(self, *alerts: Alert) -> Run:
        """Return a run of the alerts' topic."""
        messages = [
            Message(at, msgspec.json.encode([a.table, a.key]), msgspec.json.encode(a)) for at, a in enumerate(alerts)
        ]
        return Run(Assignment("x", NAMES.alerts, 0), messages)

    def waiting_run(self) -> Run:
        """Return what was written to the retry topic so far as a run of it, and forget it."""
        records = [record for record in self.writer.records if record.topic == NAMES.alerts_retry]
        self.writer.records = [record for record in self.writer.records if record not in records]
        messages = [Message(at, record.key, record.value) for at, record in enumerate(records)]
        return Run(Assignment("y", NAMES.alerts_retry, 0), messages)

    async def step(self, *runs: Run) -> Group:
        """Hand over a group."""
        group = Group(list(runs), self.consumer)
        await self.stage.step(group)
        return group

    async def step_as_time_passes(self, run: Run) -> Group:
        """Hand over a group while the clock runs, a thousand times as fast as the true one."""
        step = asyncio.create_task(self.step(run))
        while not step.done():
            self.now += 5
            await asyncio.wait([step], timeout=0.005)
        return await step

    def written(self, topic: str) -> list[dict[str, Any]]:
        """Return the values written to `topic`."""
        return [record.content for record in self.writer.records if record.topic == topic]


def answer_by_number(status_of: Callable[[int], int]) -> Callable[[dict[str, Any]], web.StreamResponse]:
    """Answer with a status by the number of the alert."""
    return lambda body: web.Response(status=status_of(body["data"]["values"]["n"]))


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


async def test_a_webhook_that_is_down_for_a_while_loses_nothing(receiver: Receiver) -> None:
    """All alerts wait in the retry topic, and come later under the ids that they had."""
    alerts = [alert(n) for n in range(20)]
    receiver.answer = lambda _: web.Response(status=503)
    async with Bench(receiver.url) as bench:
        group = await bench.step(bench.run(*alerts))
        assert ([], 20) == (group.unanswered(), len(bench.written(NAMES.alerts_retry)))

        for _ in range(3):  # still down
            await bench.step_as_time_passes(bench.waiting_run())
        receiver.answer = lambda _: web.Response(status=200)
        await bench.step_as_time_passes(bench.waiting_run())

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())
    assert set(receiver.ids) == set(receiver.accepted_ids())
    assert ([], []) == (bench.written(NAMES.alerts_retry), bench.written(NAMES.alerts_dead))


async def test_what_waits_says_what_it_waits_for(receiver: Receiver) -> None:
    """Destination, when it is due, how often it was tried and since when; the same as header."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))

    waiting, record = bench.written(NAMES.alerts_retry)[0], bench.writer.records[0]
    expected = {
        "destination": "ops",
        "attempts": 1,
        "first_failed_at": int(START * 1000),
        "reason": "status_500",
        "due": int((START + LATER_SECONDS[0]) * 1000),
        "v": 1,
    }
    assert expected == {name: value for name, value in waiting.items() if name != "alert"}
    assert alert(1).id == waiting["alert"]["id"]
    assert {"headgate.destination": b"ops", "headgate.due": str(expected["due"]).encode()} == record.headers


async def test_retry_after_is_honoured(receiver: Receiver) -> None:
    """The alert, and every other one to this destination, waits as long as the receiver asked."""
    receiver.answer = lambda _: web.Response(status=429, headers={"Retry-After": "200"})
    async with Bench(receiver.url, quick_attempts=3) as bench:
        await bench.step(bench.run(alert(1)))
        await bench.step(bench.run(alert(2)))

    dues = [waiting["due"] / 1000 - START for waiting in bench.written(NAMES.alerts_retry)]
    assert [alert(1).id] == receiver.ids
    assert [200.0, 200.0] == dues


async def test_what_waits_is_not_sent_before_it_is_due(receiver: Receiver) -> None:
    """The step holds the record until then."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))
        receiver.answer = lambda _: web.Response(status=200)
        step = asyncio.create_task(bench.step(bench.waiting_run()))
        await asyncio.sleep(0)
        bench.now = START + LATER_SECONDS[0] - 0.1
        await asyncio.wait([step], timeout=0.3)
        assert (False, 1) == (step.done(), len(receiver.ids))

        bench.now = START + LATER_SECONDS[0]
        await asyncio.wait_for(step, 5)

    assert 2 == len(receiver.ids)


async def test_waiting_ends_when_the_partition_leaves(receiver: Receiver) -> None:
    """Quickly, without a word of done: its next owner waits on."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))
        run = bench.waiting_run()
        step = asyncio.create_task(bench.step(run))
        await until(lambda: bench.stage._steps == 1)  # noqa: SLF001 - nothing public says it
        await bench.stage.on_leaving([run.assignment])
        await asyncio.wait_for(step, 0.9)

    assert ([run], False) == (bench.consumer.given_up, run.answered)


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


async def test_an_alert_is_given_up_when_its_time_is_over(receiver: Receiver) -> None:
    """To the dead letters, with what it failed by, how often, and since when."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url, retry_for_seconds=600) as bench:
        await bench.step(bench.run(alert(1)))
        rounds = 1
        while not bench.written(NAMES.alerts_dead):
            await bench.step_as_time_passes(bench.waiting_run())
            rounds += 1
            assert rounds < 10

    letter = bench.written(NAMES.alerts_dead)[0]
    assert ("expired: status_500", rounds, int(START * 1000)) == (
        letter["reason"],
        letter["attempts"],
        letter["first_failed_at"],
    )
    assert 600_000 <= letter["dead_at"] - letter["first_failed_at"] < 900_000


async def test_a_receiver_that_is_gone_stops_its_destination(receiver: Receiver) -> None:
    """One alert to the dead letters; the others stay in their topic, and nothing more is sent."""
    receiver.answer = answer_by_number(lambda n: 410 if n == 1 else 200)
    key = {"id": "same"}
    async with Bench(receiver.url) as bench:
        run = bench.run(*[alert(n, key=key) for n in range(4)])
        await bench.step(run)
        await bench.step(bench.run(alert(9)))

    assert [0, 1] == [json.loads(body)["data"]["values"]["n"] for body in receiver.bodies]
    assert ["status_410"] == [letter["reason"] for letter in bench.written(NAMES.alerts_dead)]
    assert {NAMES.alerts, NAMES.alerts_retry} == set(bench.consumer.paused)
    assert (2, 1) == (sum(map(len, bench.consumer.done_runs)), len(bench.consumer.done_runs))


async def test_a_dead_webhook_stops_no_other_destination(receiver: Receiver) -> None:
    """One stage each: one hangs, the other delivers."""
    alerts = [alert(n) for n in range(10)]
    async with receiving() as closed:
        dead_url = closed.url
    async with Bench(dead_url, name="dead") as dead, Bench(receiver.url) as alive:
        await asyncio.gather(dead.step(dead.run(*alerts)), alive.step(alive.run(*alerts)))

    assert (10, 10) == (len(receiver.accepted), len(dead.written(NAMES.alerts_retry)))


async def test_a_receiver_in_trouble_is_left_alone_for_a_while(receiver: Receiver) -> None:
    """After some failures in a row nothing is tried in vain; all of it waits, and comes when the receiver is back."""
    receiver.answer = lambda _: web.Response(status=500)
    alerts = [alert(n, key={"id": "same"}) for n in range(50)]
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(*alerts))
        assert (TROUBLED_AFTER, 50) == (len(receiver.ids), len(bench.written(NAMES.alerts_retry)))

        receiver.answer = lambda _: web.Response(status=200)
        bench.now += max(LATER_SECONDS)
        await bench.step(bench.waiting_run())

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())


async def test_nothing_is_done_when_the_retry_topic_cannot_be_written(receiver: Receiver) -> None:
    """The alerts come again: delivered twice at worst, never lost."""
    receiver.answer = answer_by_number(lambda n: 500 if n == 1 else 200)
    async with Bench(receiver.url) as bench:
        bench.writer.failures = [SinkUnavailable("away")]
        run = bench.run(alert(0), alert(1))
        with pytest.raises(SinkUnavailable):
            await bench.step(run)
        assert ([], False) == (bench.consumer.done_runs, run.answered)

        await bench.step(run)

    assert ([alert(0).id] * 2, 1) == (receiver.accepted_ids(), len(bench.written(NAMES.alerts_retry)))


async def test_a_stop_finishes_what_is_being_sent_and_says_nothing_of_the_rest() -> None:
    """What was not begun is given up; what was delivered is done."""
    release = asyncio.Event()

    async with receiving() as receiver:
        take = receiver.take

        async def slow(request: web.Request) -> web.StreamResponse:
            response = await take(request)
            await release.wait()
            return response

        app = web.Application()
        app.router.add_post("/hook", slow)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bench = Bench(f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
        await bench.stage.start()
        run = bench.run(*[alert(n, key={"id": "same"}) for n in range(3)])
        step = asyncio.create_task(bench.step(run))
        await until(lambda: len(receiver.ids) == 1)
        stop = asyncio.create_task(bench.stage.stop())
        await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(asyncio.gather(step, stop), 5)
        await runner.cleanup()

    assert ([alert(0, key={"id": "same"}).id], [1]) == (receiver.ids, [len(each) for each in bench.consumer.done_runs])
    assert ([run], False) == (bench.consumer.given_up, run.answered)


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

    assert {"notify-ops": [NAMES.alerts], "notify-ops-retry": [NAMES.alerts_retry]} == {
        n: t for n, (t, _) in lanes.items()
    }
