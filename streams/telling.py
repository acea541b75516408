"""What a worker writes of itself to `headgate.status`: its state every few seconds, its end at its end.

Nothing depends on it: where Kafka is away, or the state cannot be made, nothing is written, and the stage goes on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from connectors.transport.lossy import LossyWriter
from schemas.config import Config
from schemas.errors import HeadgateError
from schemas.topics import TopicNames
from schemas.versions import STATUS
from streams.settings import client_settings

END_SECONDS_MAX = 1.0
STATE_BYTES_MAX = 256 * 1024

_ENCODE = msgspec.json.Encoder().encode

log = structlog.get_logger("streams.telling")


class Teller:
    """Writes what `state` says under the slot's name; `ready` is set once the topic is there, as we make it."""

    def __init__(self, config: Config, slot_name: str, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write nothing yet."""
        self.ready = False
        self._key = slot_name.encode()
        self._topic = TopicNames(config.kafka.topic_prefix).status
        self._bytes_max = min(STATE_BYTES_MAX, config.kafka.message_bytes_max // 2)
        self._writer = LossyWriter(client_settings(config), message_bytes_max=config.kafka.message_bytes_max)
        self._state = state
        self._failing = False

    def tell(self) -> None:
        """Write the state as it is now; never waits and never raises."""
        if not self.ready:
            return
        try:
            value = encoded(self._state(), bytes_max=self._bytes_max)
        except Exception as error:  # noqa: BLE001  nobody must fail because its state could not be told
            if not self._failing:
                log.warning("status_not_told", error=type(error).__name__)
            self._failing = True
            return
        self._failing = False
        self._writer.write(self._topic, self._key, value)

    def end(self, failure: BaseException | None) -> None:
        """Take the state away after a clean end; after another one leave a last one that says why. Waits a moment."""
        if not self.ready:
            return
        if failure is None:
            self._writer.write(self._topic, self._key, None)
        else:
            state, self._state = self._state, lambda: {**state(), "state": "failed", "last_error": said_of(failure)}
            self.tell()
        self._writer.close(END_SECONDS_MAX)


def said_of(failure: BaseException) -> dict[str, str]:
    """Return what may be told of the error that ended a worker."""
    if isinstance(failure, HeadgateError):
        return {"kind": failure.kind.value, "message": failure.message, "hint": failure.hint, "at": ""}
    return {"kind": "bug", "message": type(failure).__name__, "hint": "look at its log", "at": ""}


def encoded(state: Mapping[str, Any], *, bytes_max: int) -> bytes:
    """Return the record's value, at most `bytes_max` long: where the tables are too many, those in trouble come first.

    `tables_left_out` counts the others.
    """
    told = {"v": STATUS.writes, "host": socket.gethostname(), **state}
    value = _ENCODE(told)
    tables = sorted(state.get("tables", []), key=lambda row: (not row.get("paused"), -(row.get("lag") or 0)))
    left = len(tables)
    while len(value) > bytes_max and left:
        left //= 2
        value = _ENCODE({**told, "tables": tables[:left], "tables_left_out": len(tables) - left})
    return value
