"""Which addresses are public, and that a name cannot lead a webhook to one that is not."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas.config import Destination
from sinks.addresses import AddressRefused, PublicResolver, check_literal, is_public
from sinks.webhook import Attempt, Verdict, WebhookSink
from tests.unit.notify.receiver import alert, destination, receiving

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    ".".join("0000"),
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "::127.0.0.1",
    "::a00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "not an address",
    "",
]


class Names(AbstractResolver):
    """A resolver that gives each answer once, the last one for ever: a name that rebinds."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the next answer."""
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for each in found
        ]

    async def close(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    """Of both families."""
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    """Loopback, private, link-local, shared, multicast, reserved, metadata; also inside of IPv6."""
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]"])
def test_an_address_written_in_the_url_is_checked_too(host: str) -> None:
    """The client asks no resolver about it."""
    with pytest.raises(AddressRefused) as raised:
        check_literal(URL(f"https://{host}:8443/hook"))

    assert host.strip("[]") not in str(raised.value)


async def test_a_name_with_one_private_address_is_refused() -> None:
    """Whichever of its addresses would have been chosen."""
    with pytest.raises(AddressRefused):
        await PublicResolver(Names(["8.8.8.8", "127.0.0.1"])).resolve("example.org", 443)


async def _attempt(receiver_url: str, resolver: PublicResolver | None, **settings: object) -> Attempt:
    port = URL(receiver_url).port
    to = Destination.model_validate({**destination(f"http://receiver.example:{port}/hook").model_dump(), **settings})
    sink = WebhookSink("ops", to, resolver=resolver)
    await sink.start()
    try:
        return await sink.deliver(alert(1))
    finally:
        await sink.close()


async def test_a_name_that_leads_to_loopback_reaches_nobody() -> None:
    """A receiver listens there, and hears nothing."""
    async with receiving() as receiver:
        attempt = await _attempt(receiver.url, PublicResolver(Names(["127.0.0.1"])), allow_private_addresses=False)

    assert (Attempt(Verdict.RETRY, "address_refused"), []) == (attempt, receiver.ids)


async def test_a_name_that_rebinds_reaches_nobody() -> None:
    """Public when it is asked about first, loopback after: what is connected to is what was checked."""
    resolver = PublicResolver(Names(["192.0.2.1"], ["127.0.0.1"]))
    async with receiving() as receiver:
        attempts = [await _attempt(receiver.url, resolver, allow_private_addresses=False) for _ in range(2)]

    assert ([], {"address_refused"}) == (receiver.ids, {attempt.reason for attempt in attempts})


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/hook", "http://localhost:{port}/hook"])
async def test_loopback_needs_leave(url: str) -> None:
    """By number and by name."""
    async with receiving() as receiver:
        port = URL(receiver.url).port
        attempts = []
        for leave in (False, True):
            sink = WebhookSink("ops", destination(url.format(port=port), allow_private_addresses=leave))
            await sink.start()
            attempts.append(await sink.deliver(alert(1)))
            await sink.close()

    assert "address_refused" == attempts[0].reason
    assert (Verdict.DELIVERED, 1) == (attempts[1].verdict, len(receiver.ids))


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1", "127.0.0.1."])
async def test_numbers_that_only_some_read_as_addresses_reach_nobody(host: str) -> None:
    """Whether the client refuses them or the system's resolver makes loopback of them."""
    async with receiving() as receiver:
        url = f"http://{host}:{URL(receiver.url).port}/hook"
        sink = WebhookSink("ops", destination(url, allow_private_addresses=False))
        await sink.start()
        attempt = await sink.deliver(alert(1))
        await sink.close()

    assert (Verdict.RETRY, []) == (attempt.verdict, receiver.ids)
