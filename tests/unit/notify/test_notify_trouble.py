"""The NOTIFY stage and receivers in trouble: slow, silent, down, gone; and a stage that must stop meanwhile."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiohttp import web

from schemas.errors import SinkUnavailable
from schemas.topics import RETRY_DELAYS_SECONDS
from streams.notify import PARALLEL
from streams.retry import TROUBLED_AFTER
from tests.services import until
from tests.unit.notify.bench import NAMES, START, Bench, answer_by_number
from tests.unit.notify.receiver import Receiver, alert, receiving

pytestmark = pytest.mark.usefixtures("impatient")


async def test_a_webhook_that_is_down_for_a_while_loses_nothing(receiver: Receiver) -> None:
    """All alerts wait in the retry topic, and come later under the ids that they had."""
    alerts = [alert(n) for n in range(20)]
    receiver.answer = lambda _: web.Response(status=503)
    async with Bench(receiver.url) as bench:
        group = await bench.step(bench.run(*alerts))
        assert ([], 20) == (group.unanswered(), len(bench.waiting()))

        for _ in range(3):  # still down
            await bench.step_as_time_passes(bench.waiting_run())
        receiver.answer = lambda _: web.Response(status=200)
        await bench.step_as_time_passes(bench.waiting_run())

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())
    assert set(receiver.ids) == set(receiver.accepted_ids())
    assert ([], []) == (bench.waiting(), bench.written(NAMES.alerts_dead))


async def test_retry_after_is_honoured(receiver: Receiver) -> None:
    """The alert, and every other one to this destination, waits as long as the receiver asked."""
    receiver.answer = lambda _: web.Response(status=429, headers={"Retry-After": "200"})
    async with Bench(receiver.url, quick_attempts=3) as bench:
        await bench.step(bench.run(alert(1)))
        await bench.step(bench.run(alert(2)))

    dues = [waiting["due"] / 1000 - START for waiting in bench.waiting()]
    assert [alert(1).id] == receiver.ids
    assert [200.0, 200.0] == dues


async def test_a_short_retry_after_is_honoured_by_every_sender(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the alert that was told so waits in place: that one is sent then, the others wait elsewhere."""
    paused, go_on, pauses = asyncio.Event(), asyncio.Event(), list[tuple[float, bool]]()
    receiver.answer = lambda _: web.Response(status=429, headers={"Retry-After": "1"})
    async with Bench(receiver.url, quick_attempts=3) as bench:
        really_pause = bench.stage._pause_between  # noqa: SLF001 - by the true clock: the test's would fall behind it

        async def pause(seconds: float) -> None:
            began = time.monotonic()
            await really_pause(seconds)
            pauses.append((seconds, time.monotonic() - began > 0.9))
            paused.set()
            await go_on.wait()

        monkeypatch.setattr(bench.stage, "_pause_between", pause)
        first = asyncio.create_task(bench.step(bench.run(alert(1))))
        await paused.wait()
        await bench.step(bench.run(*[alert(n) for n in range(2, 5)]))
        assert [alert(1).id] == receiver.ids

        receiver.answer = lambda _: web.Response(status=204)
        bench.now += 1
        go_on.set()
        await first

    assert [(1.0, True)] == pauses
    assert [alert(1).id] == receiver.accepted_ids()
    assert [alert(n).id for n in range(2, 5)] == [waiting["alert"]["id"] for waiting in bench.waiting()]


async def test_waiting_ends_when_the_partition_leaves(receiver: Receiver) -> None:
    """Quickly, without a word of done: its next owner waits on."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(alert(1)))
        run = bench.waiting_run()
        step = asyncio.create_task(bench.step(run))
        await until(lambda: bench.stage._steps == 1)  # noqa: SLF001 - nothing public says it
        await bench.stage.on_leaving([run.assignment])
        await asyncio.wait_for(step, 20)

    assert ([run], False) == (bench.consumer.given_up, run.answered)


async def test_an_alert_is_given_up_when_its_time_is_over(receiver: Receiver) -> None:
    """To the dead letters, with what it failed by, how often, and since when."""
    receiver.answer = lambda _: web.Response(status=500)
    async with Bench(receiver.url, retry_for_seconds=600) as bench:
        await bench.step(bench.run(alert(1)))
        rounds = 1
        while not bench.written(NAMES.alerts_dead):
            await bench.step_as_time_passes(bench.waiting_run())
            rounds += 1
            assert rounds < 20

    letter = bench.written(NAMES.alerts_dead)[0]
    assert ("expired: status_500", int(START * 1000)) == (letter["reason"], letter["first_failed_at"])
    assert letter["attempts"] in {rounds - 1, rounds}, "its end may come while the receiver rests"
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
    assert {NAMES.alerts, NAMES.alerts_redrive, *NAMES.all_alerts_retry("ops")} == set(bench.consumer.paused)
    assert (2, 1) == (sum(map(len, bench.consumer.done_runs)), len(bench.consumer.done_runs))


async def test_a_dead_webhook_stops_no_other_destination(receiver: Receiver) -> None:
    """One stage each: one hangs, the other delivers."""
    alerts = [alert(n) for n in range(10)]
    async with receiving() as closed:
        dead_url = closed.url
    async with Bench(dead_url, name="dead") as dead, Bench(receiver.url) as alive:
        await asyncio.gather(dead.step(dead.run(*alerts)), alive.step(alive.run(*alerts)))

    assert (10, 10) == (len(receiver.accepted), len(dead.waiting()))


async def test_a_receiver_in_trouble_is_left_alone_for_a_while(receiver: Receiver) -> None:
    """After some failures in a row nothing is tried in vain; all of it waits, and comes when the receiver is back."""
    receiver.answer = lambda _: web.Response(status=500)
    alerts = [alert(n, key={"id": "same"}) for n in range(50)]
    async with Bench(receiver.url) as bench:
        await bench.step(bench.run(*alerts))
        assert (TROUBLED_AFTER, 50) == (len(receiver.ids), len(bench.waiting()))

        receiver.answer = lambda _: web.Response(status=200)
        bench.now += max(RETRY_DELAYS_SECONDS)
        await bench.step(bench.waiting_run())

    assert sorted(a.id for a in alerts) == sorted(receiver.accepted_ids())


async def test_an_alert_that_hangs_is_not_tried_again_in_place() -> None:
    """It moves after one time-out, so that what lies behind it waits no longer than that."""
    tried = 0

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hangs, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Bench(url, quick_attempts=3, timeout_seconds=0.2) as bench:
        await bench.step(bench.run(alert(1)))

    assert (1, ["timeout"]) == (
        bench.stage.counters()["attempts_failed"], [each["reason"] for each in bench.waiting()],
    )  # fmt: skip
    assert tried <= 1, "its time may be over before it is connected"


async def test_topics_share_what_may_be_under_way_at_once() -> None:
    """A connection is not waited for while the time-out of an attempt runs."""
    release, under_way, most = asyncio.Event(), 0, 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await release.wait()
        under_way -= 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/", slow)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Bench(f"http://127.0.0.1:{runner.addresses[0][1]}/") as bench:
        alerts = [alert(n) for n in range(3 * PARALLEL)]
        several = [asyncio.create_task(bench.step(bench.run(*alerts[at::3]))) for at in range(3)]
        await until(lambda: under_way == PARALLEL)
        release.set()
        await asyncio.wait_for(asyncio.gather(*several), 10)
    await runner.cleanup()

    assert (PARALLEL, len(alerts)) == (most, bench.stage.counters()["delivered"])


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

    assert ([alert(0).id] * 2, 1) == (receiver.accepted_ids(), len(bench.waiting()))


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
