"""An S3 that answers as it is told: in front of a real server, some requests fail before it, others behind it.

What a request says is passed on as it came, its path and `Host` too: signatures stay right.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Collection

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.faults.listening import HOST, Listening
from tests.faults.manners import Manner

WRITES = frozenset({"PUT", "POST", "DELETE"})
ALL = frozenset({"GET", "HEAD", *WRITES})
CODES = {500: "InternalError", 503: "SlowDown"}
BODY_BYTES_MAX = 256 * 1024 * 1024
POLL_SECONDS = 0.02
_NOT_OURS_TO_SAY = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_OF_ONE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"})


class S3Answers(Listening):
    """Stands in front of `target`; `did` counts the requests that met a manner other than TAKE, `requests` all."""

    def __init__(self, target: str, *, port: int | None = None, seed: int = 0) -> None:
        """`target` is `http://host:port`."""
        super().__init__(port=port)
        self._target = target
        self._chance = random.Random(seed)
        self._manner, self._share, self._methods = Manner.TAKE, 0.0, ALL
        self._runner: web.ServerRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.slow_seconds = 0.2
        self.requests = 0
        self.writing = 0  # requests that write and are with the server now
        self.did: Counter[Manner] = Counter()

    @property
    def endpoint(self) -> str:
        """`http://host:port`."""
        return f"http://{self.address}"

    def put(self, manner: Manner, *, share: float = 1.0, methods: Collection[str] = ALL) -> None:
        """Answer a share of the requests of these methods in this manner from now on."""
        self._manner, self._share, self._methods = manner, share, frozenset(methods)

    async def open(self) -> None:
        """Begin to listen."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0), skip_auto_headers=_NOT_OURS_TO_SAY,
            timeout=aiohttp.ClientTimeout(total=120),
        )  # fmt: skip
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port, reuse_address=True).start()

    async def close(self) -> None:
        """End everything."""
        assert self._runner is not None, "it listens"
        assert self._session is not None, "it listens"
        self.put(Manner.TAKE)
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        manner = self._manner
        if request.method not in self._methods or self._chance.random() >= self._share:
            manner = Manner.TAKE
        if manner is not Manner.TAKE:
            self.did[manner] += 1
        body = await _body(request)
        if manner is Manner.REJECT:
            return _refusal(self._chance.choice([*CODES]))
        if manner is Manner.SLOW:
            await asyncio.sleep(self.slow_seconds)
        self.writing += request.method in WRITES
        try:
            answer = await self._passed_on(request, body)
        finally:
            self.writing -= request.method in WRITES
        if manner is Manner.FAIL_AFTER_WRITE:
            assert request.transport is not None, "the client waits"
            request.transport.abort()
        while manner is Manner.HOLD and self._manner is Manner.HOLD:  # noqa: ASYNC110 - another thread lets go
            await asyncio.sleep(POLL_SECONDS)
        return answer

    async def _passed_on(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        assert self._session is not None, "it listens"
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in _OF_ONE_CONNECTION
        )
        url = URL(self._target + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=io.BytesIO(body) if body else None, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError:  # the server is away, or went away: so does the connection
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        kept = CIMultiDict(
            (name, value)
            for name, value in answer.headers.items()
            if name.lower() not in _OF_ONE_CONNECTION and (request.method == "HEAD" or name.lower() != "content-length")
        )
        return web.Response(status=answer.status, reason=answer.reason, headers=kept, body=content or None)


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        assert len(body) <= BODY_BYTES_MAX, "a test's object is small"
    return bytes(body)


def _refusal(status: int) -> web.Response:
    """Return the error that S3 gives with a status."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{CODES[status]}</Code><Message>try later</Message></Error>'
    )
    return web.Response(status=status, body=text.encode(), content_type="application/xml")
