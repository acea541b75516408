"""A schema registry in the test's own process: a real HTTP server with Confluent's paths, and Apicurio's.

It can be killed and started again on its port, and told to answer in another manner. What is registered stays.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from tests.services.certificates import Authority, Certificate
from tests.services.waiting import free_port

Manner = Literal["right", "error", "denied", "slow", "html", "busy"]
Like = Literal["confluent", "apicurio 2", "apicurio 3"]
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered schema."""

    number: int
    subject: str
    version: int
    text: str
    kind: str = "AVRO"
    references: tuple[dict[str, Any], ...] = ()

    @property
    def guid(self) -> str:
        """An id that is the same in all registries: made of the schema."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.kind}{self.text}{self.references}"))

    def confluent(self) -> dict[str, Any]:
        """Say it as Confluent's API does: the kind is left out for Avro."""
        kind = {} if self.kind == "AVRO" else {"schemaType": self.kind}
        references = {"references": list(self.references)} if self.references else {}
        return {"schema": self.text, **kind, **references}


@dataclass(slots=True)
class Asked:
    """A request: its path, and who asked."""

    path: str
    authorization: str | None


@dataclass(slots=True)
class SchemaRegistry:
    """The registry; use it in a `with`, or `start` and `kill` it."""

    manner: Manner = "right"
    slow_seconds: float = 1.0
    authorization: str | None = None  # what a request must bring
    tls: Certificate | None = None
    clients: Authority | None = None  # who must have signed the certificates of clients
    port: int = 0
    refusals: dict[str, str] = field(default_factory=dict)  # by subject, why it takes no further schema
    kept: dict[str, str] = field(default_factory=dict)  # by subject, the compatibility that it was told
    like: Like = "confluent"  # whose answers they are, where these differ; tests/integration/test_real_registry.py
    asked: list[Asked] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The address of Confluent's API; Apicurio's is at `/apis/registry/v2` and `/v3` below it."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        handler = type("Handler", (_Handler,), {"registry": self})
        self.port = self.port or free_port()  # which nobody takes while it is killed
        server = ThreadingHTTPServer((HOST, self.port), handler)
        server.daemon_threads = True
        if self.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            if self.clients is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.clients.ca_file)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def kill(self) -> None:
        """Stop listening; nothing is done if nothing listens."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def register(
        self,
        subject: str,
        text: str,
        *,
        kind: str = "AVRO",
        references: tuple[dict[str, Any], ...] = (),
        number: int = 0,
    ) -> Entry:
        """Return the entry of a schema: that of one registered before, if it is the same; else with the next number."""
        with self._lock:
            same = [e for e in self.entries if (e.text, e.kind, e.references) == (text, kind, references)]
            own = [entry for entry in self.entries if entry.subject == subject]
            for entry in same:
                if entry.subject == subject:
                    return entry
            number = number or (same[0].number if same else 1 + max((e.number for e in self.entries), default=0))
            entry = Entry(number, subject, len(own) + 1, text, kind, references)
            self.entries.append(entry)
            return entry

    def found(self, suits: Callable[[Entry], bool]) -> Entry | None:
        """Return the first entry that suits."""
        return next((entry for entry in self.entries if suits(entry)), None)


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    registry: SchemaRegistry

    def do_GET(self) -> None:
        """Answer a look-up."""
        self._answer(lambda path: self._apicurio(path) if path[:2] == ["apis", "registry"] else self._confluent(path))

    def do_POST(self) -> None:
        """Answer a registration, or whether there may be one."""
        document = self._document()
        self._answer(lambda path: self._register(path, document))

    def do_PUT(self) -> None:
        """Keep what a subject is told."""
        document = self._document()
        self._answer(lambda path: self._keep(path, document))

    def _document(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        found: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
        return found

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, work: Callable[[list[str]], tuple[int, Any]]) -> None:
        registry = self.registry
        registry.asked.append(Asked(self.path, self.headers.get("Authorization")))
        status = 200
        body: Any = None
        match registry.manner:
            case "error":
                status, body = 500, {"error_code": 50001, "message": "Error in the backend data store"}
            case "busy":
                status, body = 503, "busy"
            case "denied":
                status, body = 404, {"error_code": 40403, "message": "Schema not found"}
            case "html":
                self._send(404, b"<html>nothing here</html>", "text/html")
                return
            case "slow":
                time.sleep(registry.slow_seconds)
        if registry.authorization not in (None, self.headers.get("Authorization")):
            status, body = 401, {"error_code": 401, "message": "Unauthorized"}
        if body is None:
            status, body = work([unquote(name) for name in urlsplit(self.path).path.strip("/").split("/")])
        raw = body.text.encode() if isinstance(body, Entry) else json.dumps(body).encode()
        # Apicurio says no kind to who does not ask for it.
        told = isinstance(body, Entry) and registry.like == "confluent"
        self._send(status, raw, "application/json", kind=body.kind if told else "")

    def _send(self, status: int, body: bytes, content_type: str, *, kind: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if kind:
            self.send_header("X-Registry-ArtifactType", kind)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # who asked did not wait
            self.close_connection = True

    def _confluent(self, path: list[str]) -> tuple[int, Any]:
        found = self.registry.found
        match path:
            case ["schemas", "ids", number]:
                entry = found(lambda e: str(e.number) == number)
                return (200, entry.confluent()) if entry else _missing(40403, "Schema not found")
            case ["schemas", "guids", guid]:
                entry = found(lambda e: e.guid == guid)
                return (200, entry.confluent()) if entry else _missing(40403, "Schema not found")
            case ["subjects", subject, "versions", version]:
                named = [e for e in self.registry.entries if e.subject == subject]
                named = [e for e in named if str(e.version) == version] if version != "latest" else named[-1:]
                entry = named[0] if named else None
                if entry is None:
                    return _missing(40402, "Version not found")
                return 200, {"subject": subject, "version": entry.version, "id": entry.number, **entry.confluent()}
            case ["subjects"]:
                return 200, sorted({entry.subject for entry in self.registry.entries})
            case _:
                return _missing(404, "HTTP 404 Not Found")

    def _register(self, path: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        match path:
            case ["compatibility", "subjects", subject, "versions"]:
                if self.registry.found(lambda entry: entry.subject == subject) is None:
                    return _missing(40401, f"Subject '{subject}' not found.")
                why = self._why_not(subject, document["schema"])
                said: dict[str, dict[str, Any]] = {"confluent": {"messages": [why] if why else []}, "apicurio 3": {}}
                said["apicurio 2"] = {"reason": why}
                return 200, {"is_compatible": why is None, **said[self.registry.like]}
            case ["subjects", subject, "versions"]:
                if (why := self._why_not(subject, document["schema"])) is not None:
                    begin = "Schema being registered is incompatible"
                    if self.registry.like != "confluent":
                        begin = "io.apicurio.registry.rules.RuleViolationException"
                    return 409, {"error_code": 409, "message": f"{begin}: {why}"}
                entry = self.registry.register(
                    subject,
                    document["schema"],
                    kind=document.get("schemaType") or "AVRO",
                    references=tuple(document.get("references") or ()),
                )
                return 200, {"id": entry.number}
            case _:
                return _missing(404, "HTTP 404 Not Found")

    def _keep(self, path: list[str], document: dict[str, Any]) -> tuple[int, Any]:
        match path:
            case ["config", subject]:
                self.registry.kept[subject] = document["compatibility"]
                return 200, document
            case _:
                return _missing(404, "HTTP 404 Not Found")

    def _why_not(self, subject: str, text: str) -> str | None:
        """Say why a subject does not take a schema; one that it has it takes."""
        known = self.registry.found(lambda entry: (entry.subject, entry.text) == (subject, text))
        return None if known else self.registry.refusals.get(subject)

    def _apicurio(self, path: list[str]) -> tuple[int, Any]:
        """Answer by its API: a group is always `default`, an artifact is a subject, and both numbers are one."""
        found = self.registry.found
        match path[3:]:
            case ["ids", "globalIds" | "contentIds", number, *rest]:
                entry = found(lambda e: str(e.number) == number)
            case ["groups", "default", "artifacts", subject, "versions", version, *rest]:
                entry = found(lambda e: e.subject == subject and str(e.version) == version)
            case _:
                return 404, {"error_code": 404, "message": "RESTEASY003210: no resource", "name": "NotFoundException"}
        if entry is None:
            return 404, {"error_code": 404, "message": "No artifact", "name": "ArtifactNotFoundException"}
        if rest == ["references"]:
            return 200, [
                {"groupId": None, "artifactId": each["subject"], "version": str(each["version"]), "name": each["name"]}
                for each in entry.references
            ]
        wanted = ["content"] if path[2] == "v3" and "groups" in path else []
        return (200, entry) if rest == wanted else _missing(405, "HTTP 405 Method Not Allowed")


def _missing(code: int, message: str) -> tuple[int, Any]:
    return 404 if code > 405 else code, {"error_code": code, "message": message}
