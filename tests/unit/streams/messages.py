"""A stand-in for the messages that runs hold."""

from __future__ import annotations


class Message:
    """The part of a Kafka message that a run reads."""

    def __init__(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        self._offset, self._key, self._value = offset, key, value

    def __len__(self) -> int:
        return len(self._value or b"")

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_795_219_394_000
