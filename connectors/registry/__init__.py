"""Schema registries: from the id in a record's frame to the schema that it was written with.

Promise: `schema` returns what the registry has under an id, asked for once, for ids are never given to another schema.
Where the registry denies the id, that is said of the record; where it is away or answers as no registry does, nothing
is said of the record: `RegistryUnavailable` makes its stage wait and try again. It blocks: call it where decoding runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from connectors.formats.reasons import Rejection
from connectors.registry.apis import apicurio, confluent
from connectors.registry.http import Client
from connectors.wire import Framing, Registered, SchemaId
from schemas.config import RegistryConfig

DENIED_SECONDS = 30.0  # a copy of a registry learns of an id later than records come with it
DENIED_MAX = 10_000


class Registry:
    """One registry and what is known of it."""

    def __init__(self, config: RegistryConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare to ask; nothing is asked yet.

        Raises:
            ConfigurationError: a certificate or key cannot be read.
        """
        self._client, self._clock = Client(config), clock
        self._config = config
        self._known: dict[SchemaId, Registered] = {}
        self._denied: dict[SchemaId, tuple[float, Rejection]] = {}

    @property
    def framing(self) -> Framing:
        """How the records are framed whose schemas are here."""
        config = self._config
        return Framing(config.id_size, config.ids_in, config.inflated_bytes_max)

    def schema(self, schema_id: SchemaId) -> Registered:
        """Return the schema of an id.

        Raises:
            Rejection: `unknown_schema`, where the registry has none; asked anew after half a minute.
            RegistryUnavailable: it does not answer; nothing is known of the id.
        """
        found = self._known.get(schema_id)
        if found is not None:
            return found
        until, refusal = self._denied.get(schema_id, (0.0, None))
        if refusal is not None and self._clock() < until:
            raise Rejection(refusal.reason, refusal.message)
        ask = confluent if self._config.api == "confluent" else apicurio
        try:
            found = ask(self._client, schema_id, self._config)
        except Rejection as exc:
            if len(self._denied) >= DENIED_MAX:
                self._denied.clear()
            self._denied[schema_id] = (self._clock() + DENIED_SECONDS, exc)
            raise
        self._denied.pop(schema_id, None)
        self._known[schema_id] = found
        return found

    def close(self) -> None:
        """Close the connections; what is known stays known."""
        self._client.close()


def registry_of(config: RegistryConfig | None) -> Registry | None:
    """Return the registry of a configuration, None where it has none.

    Raises:
        ConfigurationError: a certificate or key of it cannot be read.
    """
    return None if config is None else Registry(config)


__all__ = ["Registry", "registry_of"]
