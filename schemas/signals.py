"""How a table's connector is told to take a snapshot, and what it says of it: Debezium's signals and notifications."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.document import Strict

NAME_CHARACTERS_MAX = 500

_Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]


class Signals(Strict):
    """The channels of one connector; what each is called in its settings stands beside it.

    A signal goes to `topic`, or into `table` of the source's database where one says how to reach that. `collection` is
    what the connector calls the table, if not `source_table` or the topic's name behind the server's.
    """

    server: _Name  # topic.prefix
    topic: _Name | None = None  # signal.kafka.topic
    table: _Name | None = None  # signal.data.collection
    notifications: _Name | None = None  # notification.sink.topic.name
    collection: _Name | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.topic is None and self.table is None:
            raise ValueError("signals: name the topic or the table that the connector reads its signals from")
        return self
