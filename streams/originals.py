"""The own bytes of quarantined records: from their entry, else from the source topic where they were read at first.

What is sealed there is opened with the keys of the configuration; without them the source topic is asked.
"""

from __future__ import annotations

import base64
from typing import NamedTuple, Self

import msgspec

from connectors.captured import OneRecord
from connectors.transport.chunk import Headers
from connectors.transport.history import Known
from connectors.transport.pick import Picker
from schemas.config import Config
from sinks.quarantine import Quarantined
from streams.mask_keys import mask_keys_of
from streams.registration import open_admin
from streams.resume import book_of
from streams.sealing import Sealing
from streams.settings import client_settings, is_embedded


class Original(NamedTuple):
    """A record as its source wrote it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    time_ms: int = -1  # Kafka's, where it was read at first

    @property
    def nbytes(self) -> int:
        """How many bytes it has, about."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(text or b"") for _, text in self.headers)

    def read_at(self, origin: tuple[str, int, int, int]) -> OneRecord:
        """Return it as a decoder takes it."""
        return OneRecord(origin[0], origin[2], origin[3], self.key, self.value, self.headers, self.time_ms)


class Originals:
    """Gives the originals of entries, one at a time; leaving it closes what it opened."""

    def __init__(self, config: Config) -> None:
        """Ask nothing yet."""
        self._config, self._picker = config, Picker(client_settings(config))
        self._sealing = Sealing(mask_keys_of(config.masks))
        self._known: dict[str, dict[int, Known]] | None = None
        self._ids: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._picker.__exit__()

    def of(self, entry: Quarantined) -> Original | None:
        """Return the original of an entry; None where neither the entry nor the source topic has it any more.

        Raises:
            SourceUnavailable: the broker does not answer.
            ConfigurationError: it does not let this user read the topic.
        """
        entry = self._sealing.opened(entry)
        if entry.is_whole and not entry.sealed:
            headers = [(name, _bytes(text)) for name, text in entry.headers]
            return Original(_bytes(entry.key), _bytes(entry.value), headers, _time_ms(entry))
        if not self._is_as_it_was(entry):
            return None
        topic, _, partition, offset = entry.origin
        found = self._picker.pick(topic, partition, offset)
        return None if found is None else Original(found.key, found.value, list(found.headers), found.timestamp_ms)

    def _is_as_it_was(self, entry: Quarantined) -> bool:
        """Tell whether a topic is still the one where the record was read: else its offsets are others.

        An entry that names no id says the generation alone, which rises also where the same topic is read again.
        """
        topic, generation, partition, _ = entry.origin
        if is_embedded(self._config):
            return True
        if topic not in self._ids:
            self._ids[topic] = open_admin(self._config).ids_now([topic]).get(topic, "")
        if entry.topic_id:
            return entry.topic_id == self._ids[topic]
        if self._known is None:
            self._known = book_of(self._config, "normalize").load()
        known = self._known.get(topic, {}).get(partition)
        return known is not None and (known.topic_id, known.generation) == (self._ids[topic], generation)


def _time_ms(entry: Quarantined) -> int:
    return -1 if isinstance(entry.time_ms, msgspec.UnsetType) else entry.time_ms


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
