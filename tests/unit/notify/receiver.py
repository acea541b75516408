"""A real HTTP receiver on loopback that checks signatures with the library, and answers as it is told."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from schemas.config import Destination
from schemas.rule import Alert, alert_id

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes....").decode()

Answer = Callable[[dict[str, Any]], web.StreamResponse]


@dataclass(slots=True)
class Receiver:
    """What came in: ids in the order of arrival, bodies of what was accepted."""

    url: str = ""
    answer: Answer = field(default=lambda _: web.Response(status=204))
    ids: list[str] = field(default_factory=list)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    timestamps: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Check the signature, note the alert, answer."""
        body = await request.read()
        verified = Webhook(SECRET).verify(body, dict(request.headers))
        assert isinstance(verified, dict)
        self.ids.append(request.headers["webhook-id"])
        self.timestamps.append(request.headers["webhook-timestamp"])
        self.bodies.append(body)
        response = self.answer(verified)
        if 200 <= response.status < 300:
            self.accepted.append(json.loads(body)["data"])
        return response

    def accepted_ids(self) -> list[str]:
        """Return the ids of what was accepted."""
        return [alert["id"] for alert in self.accepted]


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver until the block ends."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def destination(url: str, **settings: Any) -> Destination:
    """Return a destination that may go to loopback."""
    return Destination.model_validate({"url": url, "secret": SECRET, "allow_private_addresses": True, **settings})


def alert(number: int, *, key: Any = None, **fields: Any) -> Alert:
    """Return an alert; each number has its own id."""
    key = {"id": str(number)} if key is None else key
    position = f"{number:045d}"
    values: dict[str, Any] = {
        "id": alert_id("big", 1, "bills", key, position),
        "rule": "big",
        "rule_version": 1,
        "severity": "warning",
        "title": "Große",
        "table": "bills",
        "key": key,
        "op": "update",
        "position": position,
        "ts": "2026-11-20T19:45:57.123456Z",
        "values": {"n": number},
        "origin": ("src", 0, 0, number),
        "late": False,
    }
    return Alert(**{**values, **fields})
