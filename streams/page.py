"""What `headgate status` shows, over HTTP: as JSON and as a page. Kafka is read only where somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from aiohttp import web

from schemas.errors import HeadgateError
from schemas.shown import shown
from streams.workers import WorkerState, stage_sums, table_sums

READ_SECONDS = 5.0  # how old an answer may be
_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{text-align:left;padding:.2em 1em;unicode-bidi:isolate}"
)
_STAGE = ("stage", "workers", "not_there", "partitions", "lag", "paused_tables")
_TABLE = ("stage", "table", "topic", "workers", "partitions", "lag", "freshness_seconds", "silence_seconds", "paused")


class Installation:
    """Serves `/workers` and `/`; `read` asks Kafka, by one thread at a time."""

    def __init__(self, read: Callable[[], list[WorkerState]], stages: Sequence[str]) -> None:
        """Read nothing yet."""
        self._read, self._stages = read, stages
        self._reading = asyncio.Lock()
        self._workers: list[WorkerState] = []
        self._read_at = float("-inf")

    def routes(self) -> list[web.RouteDef]:
        """Return what a server adds to its own."""
        return [web.get("/workers", self._json), web.get("/", self._html)]

    async def workers(self) -> list[WorkerState]:
        """Return what all workers said, at most `READ_SECONDS` ago.

        Raises:
            SourceUnavailable: Kafka does not answer.
            ConfigurationError: it refuses to.
        """
        async with self._reading:
            if time.monotonic() - self._read_at > READ_SECONDS:
                self._workers = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
            return self._workers

    async def _json(self, request: web.Request) -> web.Response:
        try:
            return web.json_response([worker.document() for worker in await self.workers()])
        except HeadgateError as error:
            return web.json_response({"error": error.message, "hint": error.hint}, status=503)

    async def _html(self, request: web.Request) -> web.Response:
        try:
            text, status = page(await self.workers(), self._stages), 200
        except HeadgateError as error:
            text, status = framed(f"<p>{_text(error.message)}</p><p>{_text(error.hint)}</p>"), 503
        return web.Response(text=text, status=status, content_type="text/html")


def page(workers: Sequence[WorkerState], stages: Sequence[str]) -> str:
    """Return the page: stages, workers with what is wrong, tables."""
    rows = [
        (each.stage, f"{each.instance}-{each.slot}", each.status.get("host"), _state(each), _wrong(each))
        for each in workers
    ]
    return framed(
        "<h2>Stages</h2>"
        + _html_table(_STAGE, ([row[name] for name in _STAGE] for row in stage_sums(workers, stages))),
        "<h2>Workers</h2>" + _html_table(("stage", "slot", "host", "state", "error"), rows),
        "<h2>Tables</h2>" + _html_table(_TABLE, ([row[name] for name in _TABLE] for row in table_sums(workers))),
    )


def framed(*parts: str) -> str:
    """Return a whole page around parts that are HTML; it loads itself anew."""
    head = f'<meta charset="utf-8"><meta http-equiv="refresh" content="{READ_SECONDS:.0f}"><title>Headgate</title>'
    return f"<!doctype html><html><head>{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"


def _state(worker: WorkerState) -> str:
    return f"gone since {worker.since}" if worker.state == "gone" else worker.state


def _wrong(worker: WorkerState) -> str:
    error = worker.status.get("last_error")
    return f"{error.get('message')} ({error.get('hint')})" if isinstance(error, dict) else ""


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(each.replace('_', ' '))}</th>" for each in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(each)}</td>' for each in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.1f}"
        case list():
            return _text(", ".join(map(str, value)))
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    """Return what a browser shows as it is: names come from files and records."""
    return escape(shown(text))
