"""Logs: JSON lines with names and counts; what could carry a row's value is cut."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from schemas.errors import SinkUnavailable
from streams.logs import configure_logs

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logs of a stage into a text; the set-up of before is put back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(stream=stream, stage="lake", slot=0)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_an_event_with_fields_and_who_says_it(lines: Lines) -> None:
    """One JSON object per line."""
    structlog.get_logger("streams.x").info("committed", rows=5)

    [line] = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "committed", "rows": 5, "stage": "lake", "slot": 0, "level": "info"}


def test_the_text_of_a_foreign_exception_is_left_out(lines: Lines) -> None:
    """A decoder quotes what it could not read."""
    log = structlog.get_logger()
    try:
        int("patient 42")
    except ValueError:
        log.exception("step_failed")

    [line] = lines()
    assert line["error"] == "ValueError"
    assert line["at"][-1].startswith("test_logs.py:")
    assert "patient 42" not in json.dumps(line)


def test_our_own_errors_keep_message_kind_and_hint(lines: Lines) -> None:
    """They never hold a value."""
    structlog.get_logger().warning("waiting", exc_info=SinkUnavailable("Redis is away", hint="look"))

    [line] = lines()
    assert ("Redis is away", "look", "unavailable") == (line["message"], line["hint"], line["kind"])


def test_bytes_become_their_length_and_long_texts_are_cut(lines: Lines) -> None:
    """Whoever logs a payload by mistake logs its size."""
    structlog.get_logger().info("x", value=b"secret", nested=[b"secret"], text="s" * 10_000)

    [line] = lines()
    assert line["value"] == "<6 bytes>"
    assert line["nested"] == ["<6 bytes>"]
    assert len(line["text"]) < 600


def test_other_libraries_speak_up_only_when_something_is_wrong(lines: Lines) -> None:
    """In the same form as ours."""
    logging.getLogger("faust").info("hello")
    logging.getLogger("faust").warning("odd")

    [line] = lines()
    assert ("odd", "faust", "lake") == (line["event"], line["logger"], line["stage"])
