"""The webhook: signatures, what each status means, Retry-After, redirects, odd answers, and secrets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from schemas.config import Destination
from schemas.errors import ConfigurationError
from sinks.webhook import Attempt, Verdict, WebhookSink, judge, read_retry_after
from tests.unit.notify.receiver import SECRET, Receiver, alert, destination, receiving

NOW = 1_795_203_957.0


async def deliver(url: str, **settings: Any) -> Attempt:
    """Send one alert to `url`."""
    sink = WebhookSink("ops", destination(url, **settings))
    await sink.start()
    try:
        return await sink.deliver(alert(1))
    finally:
        await sink.close()


async def test_an_alert_is_delivered_signed_under_its_own_id(receiver: Receiver) -> None:
    """The receiver checks with the standardwebhooks library, with time, and finds the alert in `data`."""
    attempt = await deliver(receiver.url)

    assert Attempt(Verdict.DELIVERED, "status_204", status=204) == attempt
    assert [alert(1).id] == receiver.ids
    assert ("Große", {"n": 1}) == (receiver.accepted[0]["title"], receiver.accepted[0]["values"])
    assert b'{"type":"headgate.alert","timestamp":"2026-11-20T19:45:57.123456Z","data":{' in receiver.bodies[0]
    assert 60 > abs(int(receiver.timestamps[0]) - time.time())


async def test_every_attempt_carries_the_same_id_and_body(receiver: Receiver) -> None:
    """So that a receiver can drop what it has."""
    sink = WebhookSink("ops", destination(receiver.url))
    await sink.start()
    for _ in range(3):
        await sink.deliver(alert(1))
    await sink.close()

    assert (1, 1, 3) == (len(set(receiver.ids)), len(set(receiver.bodies)), len(receiver.ids))


MEANING = {
    200: Verdict.DELIVERED,
    202: Verdict.DELIVERED,
    299: Verdict.DELIVERED,
    301: Verdict.RETRY,
    302: Verdict.RETRY,
    307: Verdict.RETRY,
    308: Verdict.RETRY,
    304: Verdict.RETRY,
    400: Verdict.PERMANENT,
    401: Verdict.PERMANENT,
    403: Verdict.PERMANENT,
    404: Verdict.PERMANENT,
    413: Verdict.PERMANENT,
    408: Verdict.RETRY,
    425: Verdict.RETRY,
    429: Verdict.RETRY,
    410: Verdict.GONE,
    422: Verdict.PERMANENT,
    500: Verdict.RETRY,
    502: Verdict.RETRY,
    503: Verdict.RETRY,
    504: Verdict.RETRY,
    599: Verdict.RETRY,
}


@pytest.mark.parametrize("status", MEANING)
async def test_what_each_status_means(receiver: Receiver, status: int) -> None:
    """Over the wire, not only in the table."""
    receiver.answer = lambda _: web.Response(status=status)

    attempt = await deliver(receiver.url)

    assert (MEANING[status], f"status_{status}") == (attempt.verdict, attempt.reason)


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """It would carry a signed alert to wherever the answer points."""
    receiver.answer = lambda _: web.Response(status=307, headers={"Location": receiver.url})

    await deliver(receiver.url)

    assert 1 == len(receiver.ids)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read(receiver: Receiver, status: int) -> None:
    """Where it has a meaning."""
    receiver.answer = lambda _: web.Response(status=status, headers={"Retry-After": "17"})

    assert 17.0 == (await deliver(receiver.url)).retry_after_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("999999", 3_600.0),
        ("9" * 5_000, 3_600.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 10**6, usegmt=True), 3_600.0),
        ("Fri, 99 Foo 2026 10:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after_in_all_its_forms(text: str | None, seconds: float | None) -> None:
    """A number or a date, capped; anything else says nothing."""
    assert seconds == read_retry_after(text, now=NOW)


def test_retry_after_of_another_status_is_passed_over() -> None:
    """A 500 with one is a 500."""
    assert judge(500, "17", now=NOW).retry_after_seconds is None


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again(receiver: Receiver) -> None:
    """The limit is the destination's."""

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async with _server(slow) as url:
        attempt = await deliver(url, timeout_seconds=0.2)

    assert Attempt(Verdict.RETRY, "timeout") == attempt


async def test_an_answer_that_drips_counts_by_its_status(receiver: Receiver) -> None:
    """Nobody waits for the rest of it, and it is not sent again."""
    released = asyncio.Event()

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await released.wait()
        return response

    async with _server(dripping) as url:
        attempt = await asyncio.wait_for(deliver(url, timeout_seconds=60), 20)
        released.set()

    assert Attempt(Verdict.DELIVERED, "status_200", status=200) == attempt


async def test_a_connection_that_is_reset_is_tried_again() -> None:
    """Before an answer, in the middle of the request."""

    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(resets, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        attempt = await deliver(f"http://127.0.0.1:{port}/")

    assert Attempt(Verdict.RETRY, "connection") == attempt


async def test_an_endless_answer_is_cut_off(receiver: Receiver) -> None:
    """Its status is all that counts."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 * 2**20:
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    async with _server(endless) as url:
        attempt = await deliver(url)

    assert Verdict.DELIVERED is attempt.verdict
    assert 32 * 2**20 > sent


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000]
)
async def test_an_answer_that_is_not_http_is_tried_again(answer: bytes) -> None:
    """Whatever it is, nothing is raised."""

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        attempt = await deliver(f"http://127.0.0.1:{port}/")

    assert Verdict.RETRY is attempt.verdict


async def test_nobody_listening_is_tried_again() -> None:
    """Refused at once."""
    async with receiving() as receiver:
        url = receiver.url

    assert Attempt(Verdict.RETRY, "connection") == await deliver(url)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "example.org", "https://", "http://[::1", ""])
def test_a_url_that_is_none_is_a_mistake_of_the_configuration(url: str) -> None:
    """Told when the worker starts."""
    with pytest.raises(ConfigurationError, match=r"notify\.ops\.url"):
        WebhookSink("ops", destination(url))


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_ä", "whsec_a"])
def test_a_secret_that_is_none_is_a_mistake_of_the_configuration_and_is_not_repeated(secret: str) -> None:
    """Told without it."""
    with pytest.raises(ConfigurationError, match=r"notify\.ops\.secret") as raised:
        WebhookSink("ops", destination("https://example.org/x", secret=secret))

    assert raised.value.__cause__ is None
    assert not secret.removeprefix("whsec_") or f"{secret}'" not in str(raised.value)


def test_the_secret_is_masked_wherever_the_destination_is_shown() -> None:
    """In logs, errors and dumps."""
    shown = destination("https://example.org/x")

    assert SECRET not in f"{shown!r} {shown} {shown.model_dump_json()}"
    assert isinstance(shown, Destination)


def _server(handler: Any) -> Any:
    """Run one handler on loopback."""
    from contextlib import asynccontextmanager  # noqa: PLC0415  # only here

    @asynccontextmanager
    async def run() -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()

    return run()
