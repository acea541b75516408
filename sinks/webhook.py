"""Alerts delivered to one webhook, signed by the Standard Webhooks rules (standardwebhooks.com).

Promise: every attempt carries the alert's own id and the same body, so a receiver can drop what it has; the answer says
what became of it as data, and no answer of a receiver, however odd, raises. Redirects are not followed, and no address
that is not public is connected to without leave. Nothing of the receiver's answer but its status is kept.
"""

from __future__ import annotations

import asyncio
import binascii
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

import aiohttp
import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError
from yarl import URL

from schemas.config import Destination
from schemas.errors import ConfigurationError
from schemas.rule import Alert
from sinks.addresses import AddressRefused, PublicResolver, check_literal

EVENT_TYPE = "headgate.alert"
ANSWER_BYTES_MAX = 4 * 1024
DRAIN_SECONDS = 0.5
RETRY_AFTER_SECONDS_MAX = 3_600.0
USER_AGENT = "headgate-webhook/1"

_WORTH_ANOTHER_TRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_SAYS_WHEN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_ENCODER = msgspec.json.Encoder()


class Verdict(StrEnum):
    """What an attempt means for the alert."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PERMANENT = "permanent"  # this alert will never be taken
    GONE = "gone"  # none will: the receiver wants no more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: what it means, a short reason (`status_503`, `timeout`), when the receiver wants the next one.

    `status` is that of the answer, if there was one.
    """

    verdict: Verdict
    reason: str
    retry_after_seconds: float | None = None
    status: int | None = None


class WebhookSink:
    """One destination; `name` is how logs and errors call it, since its URL may be a secret."""

    def __init__(
        self,
        name: str,
        destination: Destination,
        *,
        parallel: int = 16,
        clock: Callable[[], float] = time.time,
        resolver: PublicResolver | None = None,
    ) -> None:
        """Check the destination; nothing is opened yet.

        Raises:
            ConfigurationError: its URL or its secret cannot be used; neither is repeated.
        """
        self.name = name
        self._destination, self._parallel, self._clock, self._resolver = destination, parallel, clock, resolver
        self._url = _url(name, destination)
        self._signer = _signer(name, destination)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the client; no connection is made before the first alert."""
        guarded = not self._destination.allow_private_addresses
        connector = aiohttp.TCPConnector(
            limit=self._parallel,
            use_dns_cache=False,  # each connection is made to an address that was just checked
            resolver=(self._resolver or PublicResolver()) if guarded else None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._destination.timeout_seconds),
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
            auto_decompress=False,  # an answer is looked at no further than its status
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the client and its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def deliver(self, alert: Alert) -> Attempt:
        """Send the alert once and return what came of it."""
        assert self._session is not None, "start comes first"
        body = alert_body(alert)
        now = datetime.fromtimestamp(self._clock(), UTC)
        headers = {
            "webhook-id": alert.id,
            "webhook-timestamp": str(math.floor(now.timestamp())),
            "webhook-signature": self._signer.sign(alert.id, now, body.decode()),
        }
        try:
            if not self._destination.allow_private_addresses:
                check_literal(self._url)
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                attempt = judge(response.status, response.headers.get("Retry-After"), now=self._clock())
                await _drain(response)
                return attempt
        except AddressRefused:
            return Attempt(Verdict.RETRY, "address_refused")
        except TimeoutError:
            return Attempt(Verdict.RETRY, "timeout")
        except aiohttp.ClientSSLError:
            return Attempt(Verdict.RETRY, "tls")
        except (aiohttp.ClientError, OSError, ValueError):
            # ValueError: what aiohttp raises of answers that are hardly HTTP.
            return Attempt(Verdict.RETRY, "connection")


def alert_body(alert: Alert) -> bytes:
    """Return the body of the request: the same bytes at every attempt."""
    return _ENCODER.encode({"type": EVENT_TYPE, "timestamp": alert.ts, "data": alert})


def judge(status: int, retry_after: str | None, *, now: float) -> Attempt:
    """Return what a status means; pure."""
    reason = f"status_{status}"
    if 200 <= status < 300:  # noqa: PLR2004  # RFC 9110, 15.3
        return Attempt(Verdict.DELIVERED, reason, status=status)
    if status == HTTPStatus.GONE:
        return Attempt(Verdict.GONE, reason, status=status)
    if 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY:  # noqa: PLR2004  # RFC 9110, 15.5
        return Attempt(Verdict.PERMANENT, reason, status=status)
    asked = read_retry_after(retry_after, now=now) if status in _SAYS_WHEN else None
    return Attempt(Verdict.RETRY, reason, asked, status)


def read_retry_after(text: str | None, *, now: float) -> float | None:
    """Return the seconds that `Retry-After` asks for, number or date, at most an hour; None if it says nothing."""
    text = (text or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_SECONDS_MAX)  # too many digits are infinity, no error
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - now, 0.0), RETRY_AFTER_SECONDS_MAX)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short answer to its end, so that the connection can be used again.

    Close on one that is longer, broken or slow: the status has said what there is to say.
    """
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await response.content.read(ANSWER_BYTES_MAX)
    except (aiohttp.ClientError, OSError):  # OSError: also a TimeoutError
        response.close()
        return
    if not response.content.at_eof():
        response.close()


def _url(name: str, destination: Destination) -> URL:
    try:
        url = URL(destination.url)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"notify.{name}.url is no http or https address", hint="write https://host/path")
    return url


def _signer(name: str, destination: Destination) -> Webhook:
    try:
        return Webhook(destination.secret.get_secret_value())
    except (binascii.Error, ValueError, EmptyWebhookSecretError):
        raise ConfigurationError(
            f"notify.{name}.secret is not what Standard Webhooks wants",
            hint="whsec_ and base64 of 24 to 64 random bytes",
        ) from None  # the library's error may repeat the secret
