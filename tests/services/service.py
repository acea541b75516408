"""What every service of the tests can do, however it runs."""

import http.client
import json
import time
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from tests.services.runner import Runner, ServiceFailed

# Of the databases that we start.
USER = "headgate"
PASSWORD = "headgate"
DATABASE = "headgate"


class Service:
    """One server: where it is, and the handle to stop, crash or freeze it. Ports and data outlive a restart."""

    name = "service"
    ready_seconds = 60.0
    grace_seconds = 15.0

    def __init__(self, runner: Runner | None) -> None:
        """Take charge of `runner`; None for a server that the environment names and that others run."""
        self._runner = runner

    @property
    def address(self) -> str:
        """What a client is given."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether a client would be served now."""
        raise NotImplementedError

    @property
    def runner(self) -> Runner:
        """The handle of the process or container.

        Raises:
            ServiceFailed: the environment gave the address: its server is not ours to stop.
        """
        if self._runner is None:
            raise ServiceFailed(f"{self.name} at {self.address} was given by the environment: it is not ours to stop")
        return self._runner

    @property
    def is_ours(self) -> bool:
        """Whether this test process started it and may stop it."""
        return self._runner is not None

    def start(self) -> Self:
        """Start it and return once it answers.

        Raises:
            ServiceFailed: it ended, or did not answer within `ready_seconds`; the message has the end of its log.
        """
        if self._runner is not None:
            self._runner.start()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return once it answers."""
        ends_at = time.monotonic() + self.ready_seconds
        while not self.answers():
            if self._runner is not None and not self._runner.runs():
                raise ServiceFailed(f"{self.name} ended while starting:\n{self._runner.log_tail()}")
            if time.monotonic() > ends_at:
                tail = self._runner.log_tail() if self._runner is not None else "is it the right address?"
                raise ServiceFailed(f"{self.name} at {self.address} does not answer:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in good order; its data stay."""
        self.runner.stop(grace_seconds=self.grace_seconds)

    def kill(self) -> None:
        """End it as a crash would; its data stay as they are on disk."""
        self.runner.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        self.runner.pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.runner.resume()

    def restart(self) -> None:
        """Stop, start, and return once it answers again, at the same address."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it for good and forget its data, if it is ours."""
        if self._runner is not None:
            self._runner.close()


class WebService(Service):
    """A server at `http://host:port`; where the address leaves the port out, it is `own_port`."""

    own_port = 0
    call_seconds = 60.0

    def __init__(self, address: str, runner: Runner | None) -> None:
        """Be at `address`."""
        super().__init__(runner)
        parts = urlsplit(address)
        assert parts.hostname, f"{self.name}: http://host:port is wanted"
        self._host = parts.hostname
        self._port = parts.port or self.own_port

    @property
    def address(self) -> str:
        """`http://host:port`."""
        return f"http://{self._host}:{self._port}"

    def call(self, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
        """One call with a document of JSON, or without: status and body of the answer.

        Raises:
            OSError: there was no answer.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self.call_seconds)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, {"Content-Type": "application/json", "Accept": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class DatabaseServer(Service):
    """A server of databases at `<scheme>://user:password@host:port/database`; what an address leaves out is as ours."""

    scheme = ""
    own_port = 0

    def __init__(self, url: str, runner: Runner | None) -> None:
        """Be at `url`."""
        super().__init__(runner)
        parts = urlsplit(url)
        assert parts.hostname, f"{self.name}: {self.scheme}://user:password@host:port/database is wanted"
        self.host = parts.hostname
        self.port = parts.port or self.own_port
        self.user = unquote(parts.username or USER)
        self.password = unquote(parts.password or PASSWORD)
        self.database = parts.path.lstrip("/") or DATABASE

    @classmethod
    def own_url(cls, port: int) -> str:
        """Return the address of a server that we start."""
        return f"{cls.scheme}://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"

    @property
    def address(self) -> str:
        """`<scheme>://user:password@host:port/database`."""
        return self.url(self.database)

    def url(self, database: str) -> str:
        """Return the address of another database of the same server."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        return f"{self.scheme}://{user}:{password}@{self.host}:{self.port}/{database}"
