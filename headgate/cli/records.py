"""Records for a verb that looks at them: of a file, of standard input or of a topic, as often as it needs them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.captured import OneRecord
    from schemas.config import Config

STDIN = "-"
_IN_MEMORY_BYTES_MAX = 64 * 1024 * 1024  # of standard input that is read twice; more of it goes to a file

Records = Callable[[], Iterator["OneRecord"]]


@contextmanager
def opened(
    file: str | None, topic: str | None, last: int | None, settings: Config | None, *, twice: bool
) -> Iterator[Records]:
    """Give a function that yields the records one by one from their start; standard input is kept if read `twice`.

    Calling it raises, where the records begin or go on:

    Raises:
        ConfigurationError: there is no such file or topic, or a line is no record.
        SourceUnavailable: Kafka does not answer.
    """
    if topic is not None:
        assert settings is not None, "a topic is read as the configuration says"
        yield lambda: _of_topic(topic, last, settings)
    elif file == STDIN and twice:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES_MAX) as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            yield lambda: _of_kept(kept)
    elif file == STDIN:
        yield lambda: _of_lines(sys.stdin.buffer, "standard input")
    else:
        assert file is not None, "a file or a topic"
        yield lambda: _of_file(file)


def _of_kept(kept: IO[bytes]) -> Iterator[OneRecord]:
    kept.seek(0)
    yield from _of_lines(kept, "standard input")


def _of_lines(lines: IO[bytes], name: str) -> Iterator[OneRecord]:
    from connectors.captured import read_captured

    yield from read_captured(lines, name=name)


def _of_file(file: str) -> Iterator[OneRecord]:
    try:
        with Path(file).open("rb") as lines:
            yield from _of_lines(lines, file)
    except OSError as exc:
        raise ConfigurationError(f"{file}: {exc.strerror}", hint="name a file, or - for standard input") from exc


def _of_topic(topic: str, last: int | None, settings: Config) -> Iterator[OneRecord]:
    from connectors.captured import OneRecord
    from connectors.transport.scan import scan
    from streams.registration import open_admin
    from streams.settings import client_settings

    admin = open_admin(settings)
    if topic not in admin.describe([topic]):
        raise ConfigurationError(f"there is no topic {topic}", hint="look at its name, and at kafka.bootstrap")
    for read in scan(topic, client_settings(settings), admin, last=last, headers=True):
        at = read.timestamp_ms
        yield OneRecord(topic, read.partition, read.offset, read.key, read.value, read.headers, at)
