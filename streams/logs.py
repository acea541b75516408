"""Structured logs: an event name and fields on stderr, as JSON lines, or coloured on a terminal.

Fields are names, counts, positions and durations. Values of rows have no place here, so what could carry one by
accident is cut: bytes become their length, and of a foreign exception only its type and its place are kept.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from schemas.errors import HeadgateError
from schemas.shown import shown, shown_json

TEXT_MAX = 500
_FOREIGN_LEVEL = logging.WARNING  # other libraries speak up only when something is wrong
_FRAMES = 3

Event = MutableMapping[str, Any]


def configure_logs(*, stream: TextIO | None = None, console: bool | None = None, **bound: str | int) -> None:
    """Send all logs of this process, ours and other libraries', to `stream`, with `bound` (stage, slot …) on each line.

    `console` chooses coloured lines over JSON; left out, a terminal gets them.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty() if console is None else console
    shared = [
        structlog.contextvars.merge_contextvars,
        _bind(bound),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_exception,
        cut_values,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(on_terminal=on_terminal)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_FOREIGN_LEVEL)
    logging.getLogger("headgate").setLevel(logging.INFO)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=_factory,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _factory(*names: str) -> logging.Logger:
    """Return our logger, whatever module asks: only its level differs from the foreign ones'."""
    return logging.getLogger(".".join(["headgate", *names[:1]]))


def _renderer(*, on_terminal: bool) -> Any:
    if on_terminal:
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(_as_json, ensure_ascii=False, default=_length_or_type)


def _as_json(event: Event, **options: Any) -> str:
    return shown_json(json.dumps(event, **options))


def _bind(fields: Mapping[str, str | int]) -> Any:
    def bind(_logger: Any, _method: str, event: Event) -> Event:
        return {**fields, **event}

    return bind


def name_exception(_logger: Any, _method: str, event: Event) -> Event:
    """Replace `exc_info` by `error`, `at` and, where the error is ours, its message and hint.

    The text of a foreign exception may repeat a value of a row (decoders quote what they cannot read): left out.
    """
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given is True else given[1]
    if error is None:
        return event
    event["error"] = type(error).__name__
    event["at"] = _where(error)
    if isinstance(error, HeadgateError):
        event["message"], event["hint"], event["kind"] = error.message, error.hint, error.kind.value
    return event


def _where(error: BaseException) -> list[str]:
    """Return the innermost frames as file:line, without any local variable."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}:{code.co_name}")
        trace = trace.tb_next
    return frames[-_FRAMES:]


def cut_values(_logger: Any, _method: str, event: Event) -> Event:
    """Cut long texts, show control characters by their numbers, and replace bytes by their length."""
    for name, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[name] = _length_or_type(value)
        elif isinstance(value, str):
            more = f"… ({len(value)} characters)" if len(value) > TEXT_MAX else ""
            event[name] = shown(value[:TEXT_MAX]) + more
    return event


def _length_or_type(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"
