"""A receiver of webhooks: verifies signatures by its own reading of the Standard Webhooks rules, keeps what it took.

It can refuse (an answer of 503) or answer in another manner, be down (nobody listens), and comes back on its port.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.faults.manners import Manner
from tests.oracles import Delivery
from tests.services.waiting import free_port

SECRET_PREFIX = "whsec_"
POLL_SECONDS = 0.02


class Webhook:
    """Listens on a port of its own while it is up; `deliveries` holds what it answered with 204."""

    def __init__(self, secret: str) -> None:
        """`secret` as in the configuration, beginning with `whsec_`."""
        self._secret = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._deliveries: list[Delivery] = []
        self.refusing = False
        self.refused = 0
        self.slow_seconds = 0.2
        self.did: Counter[Manner] = Counter()
        self._manner = Manner.TAKE

    def __enter__(self) -> Self:
        """Go up."""
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go down."""
        self.down()

    @property
    def url(self) -> str:
        """Where it listens, or listened last."""
        return f"http://127.0.0.1:{self._port}/alerts"

    @property
    def deliveries(self) -> list[Delivery]:
        """Return what it has taken so far."""
        with self._lock:
            return list(self._deliveries)

    def put(self, manner: Manner) -> None:
        """Answer in this manner from now on; `did` counts."""
        self._manner = manner

    def up(self) -> None:
        """Listen, on the same port as before if there was one."""
        if self._server is not None:
            return
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base class's
                """Print nothing."""

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Print nothing: a client that was killed in the middle of a request is what tests do."""

        self._port = self._port or free_port()  # which nobody takes while it is down
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="webhook", daemon=True
        )
        self._thread.start()

    def down(self) -> None:
        """Stop listening; connections that are open get refusals."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(10)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Take one request, or refuse it with 503; in the manner of the moment."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        manner = Manner.REJECT if self.refusing or self._server is None else self._manner
        with self._lock:
            self.did[manner] += manner is not Manner.TAKE
        if manner is Manner.SLOW:
            time.sleep(self.slow_seconds)
        if manner is Manner.REJECT:
            self.refused += 1
            request.send_response(503)
            request.send_header("Connection", "close")
        else:
            delivery = Delivery(request.headers["webhook-id"], self._is_signed(request.headers, body), json.loads(body))
            with self._lock:
                self._deliveries.append(delivery)
            if manner is Manner.FAIL_AFTER_WRITE:  # no answer, and no more of this connection
                request.close_connection = True
                return
            while manner is Manner.HOLD and self._manner is Manner.HOLD and self._server is not None:
                time.sleep(POLL_SECONDS)
            request.send_response(204)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _is_signed(self, headers: Any, body: bytes) -> bool:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        right = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
        given = [part.split(",", 1) for part in headers.get("webhook-signature", "").split(" ")]
        return any(version == "v1" and hmac.compare_digest(right, signature) for version, signature in given)
