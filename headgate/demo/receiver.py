"""The demo's webhook receiver: takes alerts, checks their signature as any receiver should, and drops repeats by id."""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

_BODY_BYTES_MAX = 1024 * 1024


class AlertReceiver:
    """A receiver by the Standard Webhooks rules; `alerts` are the distinct ones, in the order of their arrival."""

    def __init__(self) -> None:
        """Make a secret; nothing listens yet."""
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.alerts: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it takes alerts."""
        return f"http://127.0.0.1:{self._port}/alerts"

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.add_routes([web.post("/alerts", self._take)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening; repeatable."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.text()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
            document = json.loads(body)
        except (WebhookVerificationError, ValueError):
            self.counts["refused"] += 1
            return web.Response(status=401, text="the signature does not fit\n")
        identity = request.headers["webhook-id"]
        self.counts["repeated" if identity in self.alerts else "taken"] += 1
        self.alerts.setdefault(identity, document.get("data", document))
        return web.Response(status=204)
