"""Each toxic at work, between a real client and a server that sends back what it gets. No time is asserted."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from tests.faults import DOWN, UP, Bandwidth, Cut, Direction, HalfOpen, Latency, Proxy, Reset, Slice, Toxic
from tests.services.waiting import free_port, wait_until

LONG = bytes(range(256)) * 400  # of more than one read
ANSWER_SECONDS = 20.0  # far more than anything takes
SILENCE_SECONDS = 0.3


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what it gets; `got` is all of it, `over` how many connections have ended, and how."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.got = bytearray()
        self.over: list[str] = []

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        try:
            while data := self.request.recv(65_536):
                self.server.got += data
                self.request.sendall(data)
        except OSError as error:
            self.server.over.append(type(error).__name__)
        else:
            self.server.over.append("end")


def serving(port: int = 0) -> Iterator[Echo]:
    """Run a server until it is left."""
    with Echo(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server of this test."""
    yield from serving()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with Proxy(echo.address, seed=7) as running:
        yield running


def connected(proxy: Proxy) -> closing[socket.socket]:
    """Return a connection through the proxy."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=ANSWER_SECONDS)
    return closing(client)


def received(client: socket.socket, size: int) -> bytes:
    """Return so many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < size and (part := client.recv(size - len(data))):
        data += part
    return bytes(data)


def echoed(client: socket.socket, data: bytes) -> bytes:
    """Send `data`, and return what comes back of it."""
    sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
    sender.start()
    try:
        return received(client, len(data))
    finally:
        sender.join(ANSWER_SECONDS)


def is_silent(client: socket.socket) -> bool:
    """Say whether nothing comes, not even an end."""
    client.settimeout(SILENCE_SECONDS)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(ANSWER_SECONDS)
    return False


@pytest.mark.parametrize(
    "toxics",
    [(), (Latency(0.02, 0.02),), (Bandwidth(2_000_000),), (Slice(),), (Latency(0.01), Slice(3), Bandwidth(1_000_000))],
    ids=["none", "latency", "bandwidth", "slice", "all three"],
)
@pytest.mark.parametrize("directions", [(UP,), (DOWN,), (UP, DOWN)])
def test_what_only_delays_passes_every_byte(
    proxy: Proxy, toxics: tuple[Toxic, ...], directions: tuple[Direction, ...]
) -> None:
    """Both ways, at the length of several reads; and each toxic has touched something."""
    proxy.put(*toxics, directions=directions)

    with connected(proxy) as client:
        assert echoed(client, LONG) == LONG

    assert {type(toxic).__name__ for toxic in toxics} == set(proxy.hits)


def test_an_end_passes_in_both_directions(proxy: Proxy, echo: Echo) -> None:
    """A client that has said all still hears the answer; then both connections are over."""
    with connected(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)

        assert received(client, 100) == b"last words"
        wait_until(lambda: echo.over == ["end"], "the server sees the end")
        wait_until(lambda: proxy.standing == 0, "the proxy forgets the connection")


def test_a_toxic_is_switched_while_a_connection_stands(proxy: Proxy) -> None:
    """What it holds back goes on at once when it goes, and nothing is lost."""
    with connected(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.put(Latency(3_600.0))
        client.sendall(b"held back")
        assert is_silent(client)
        proxy.clear()
        assert received(client, 9) == b"held back"
        assert echoed(client, b"after") == b"after"

    assert proxy.connections == 1


def test_a_cut_of_the_request_tears_it(proxy: Proxy, echo: Echo) -> None:
    """The service gets half a message, both ends see an end, and the next connection meets the same."""

    def ended(times: int) -> bool:
        return len(echo.over) == times

    with proxy.having(Cut(), directions=(UP,)):
        for turn in (1, 2):
            with connected(proxy) as client:
                client.sendall(b"12345678")

                assert received(client, 100) in {b"", b"1234"}  # the half may be sent back before the end
                wait_until(partial(ended, turn), "the server sees the end")
    with connected(proxy) as client:
        assert echoed(client, b"whole") == b"whole"
    assert bytes(echo.got) == b"12341234whole"


def test_a_reset_of_the_answer_comes_after_the_deed(proxy: Proxy, echo: Echo) -> None:
    """The service has it all, the client gets a RST: who sends it again must not double it."""
    with connected(proxy) as client:
        assert echoed(client, b"first") == b"first"
        proxy.put(Reset(), directions=(DOWN,))
        client.sendall(b"done, not answered")
        with pytest.raises(ConnectionResetError):
            received(client, 1)
    wait_until(lambda: bytes(echo.got) == b"firstdone, not answered", "the server has it")
    wait_until(lambda: echo.over == ["ConnectionResetError"], "the server's connection is reset too")


def test_a_reset_of_the_request_comes_before_the_deed(proxy: Proxy, echo: Echo) -> None:
    """The service has nothing of it."""
    with connected(proxy) as client:
        assert echoed(client, b"first") == b"first"
        proxy.put(Reset(), directions=(UP,))
        client.sendall(b"lost")
        with pytest.raises(ConnectionResetError):
            received(client, 1)
    wait_until(lambda: echo.over, "the server's connection is over")
    assert bytes(echo.got) == b"first"


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_half_open_connection_is_silent_and_never_goes_on_with_a_hole(
    proxy: Proxy, echo: Echo, direction: Direction
) -> None:
    """Nothing comes and nothing ends while it lasts; afterwards it is reset, and new ones work."""
    with connected(proxy) as client:
        assert echoed(client, b"first") == b"first"
        with proxy.having(HalfOpen(), directions=(direction,)):
            client.sendall(b"swallowed")
            wait_until(lambda: proxy.hits["HalfOpen"] == 1, "it is swallowed")
            assert is_silent(client)
            assert echo.over == []
        with pytest.raises(ConnectionResetError):
            received(client, 1)
    assert bytes(echo.got) == (b"first" if direction is UP else b"firstswallowed")
    with connected(proxy) as client:
        assert echoed(client, b"anew") == b"anew"


def test_half_open_swallows_an_end_too(proxy: Proxy, echo: Echo) -> None:
    """A client that goes is not missed by the service."""
    with connected(proxy) as client:
        assert echoed(client, b"first") == b"first"
        proxy.put(HalfOpen())
    wait_until(lambda: proxy.hits["HalfOpen"] == 1, "the end is swallowed")
    assert (1, []) == (proxy.standing, echo.over)
    proxy.clear()
    wait_until(lambda: echo.over == ["ConnectionResetError"], "the server hears of it")


def test_down_refuses_and_up_comes_back_on_the_same_port(proxy: Proxy) -> None:
    """As a service that is restarted."""
    with connected(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.down()
        with pytest.raises(ConnectionResetError):
            received(client, 1)
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
    proxy.up()
    with connected(proxy) as client:
        assert echoed(client, b"after") == b"after"


def test_a_service_that_is_away_is_seen_as_away_and_found_again() -> None:
    """The proxy can be there first, and outlives the service."""
    port = free_port()
    with Proxy(f"127.0.0.1:{port}") as proxy:
        with pytest.raises(ConnectionResetError), connected(proxy) as client:
            received(client, 1)
        for _ in serving(port):
            with connected(proxy) as client:
                assert echoed(client, b"there") == b"there"
