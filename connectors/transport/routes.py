"""Which lane reads which topic: by name, or by a pattern that begins with `^`, as librdkafka takes it."""

from __future__ import annotations

import re
import threading

from schemas.errors import ConfigurationError

PATTERN_MARK = "^"


class Routes:
    """Topics and patterns, each of one lane. Changed from any thread, read by the owning one."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._lanes: dict[str, str] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], str]] = {}
        self._matched: dict[str, str] = {}

    def add(self, lane: str, topics: list[str]) -> None:
        """Give `topics` to `lane`.

        Raises:
            ConfigurationError: another lane has one of them, or a pattern cannot be read.
        """
        with self._lock:
            for topic in topics:
                other = self._owner(topic)
                if other not in (None, lane):
                    raise ConfigurationError(
                        f"topic {topic} is of lane {other} already", hint="one lane for each topic"
                    )
            for topic in topics:
                if topic.startswith(PATTERN_MARK):
                    self._patterns[topic] = (_pattern(topic), lane)
                else:
                    self._lanes[topic] = lane

    def remove(self, topics: list[str]) -> None:
        """Take `topics`, names or patterns as they were added, away; unknown ones are passed over."""
        with self._lock:
            for topic in topics:
                self._lanes.pop(topic, None)
                self._patterns.pop(topic, None)
            self._matched.clear()

    def subscription(self) -> list[str]:
        """Return what the consumer is to subscribe to."""
        with self._lock:
            return sorted({*self._lanes, *self._patterns})

    def lane_of(self, topic: str) -> str | None:
        """Return the lane of a topic: that of its name before that of a pattern."""
        with self._lock:
            lane = self._lanes.get(topic) or self._matched.get(topic)
            if lane is None:
                lane = next((each for pattern, each in self._patterns.values() if pattern.search(topic)), None)
                if lane is not None:
                    self._matched[topic] = lane
            return lane

    def _owner(self, topic: str) -> str | None:
        if topic.startswith(PATTERN_MARK):
            known = self._patterns.get(topic)
            return known[1] if known else None
        return self._lanes.get(topic)


def _pattern(topic: str) -> re.Pattern[str]:
    try:
        return re.compile(topic)
    except re.error as error:
        raise ConfigurationError(
            f"{topic!r} is no pattern: {error}", hint="a regular expression that begins with ^"
        ) from error
