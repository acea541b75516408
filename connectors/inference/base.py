"""What a format contributes to inference: of one record, the rows of which tables it shows.

A format's sampler is one module that ends in a class with the members of `Sampler`, and one line in
`connectors/inference/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from connectors.formats.base import Records

Fields = Mapping[str, Mapping[str, Any]]  # of a schema of Kafka Connect, by name


class SampledRecord(Records, Protocol):
    """A record as `connectors.captured.OneRecord` has it: a run of one."""

    topic: str
    key: bytes | None
    value: bytes | None


class Sample(msgspec.Struct, gc=False):
    """One change of a row. Values are as msgspec decodes JSON, with `Decimal` for numbers that have a point.

    `table` is what the source calls it, with its schema or database; `origin` tells apart tables of one name, such as
    those of two servers. `key_columns` are None where the record does not say, and empty for a table without a key.
    `row` is what a decoder will read as the row after the change; `before` serves where there is no other.
    `fields` and `key_fields` are the schema that came with row and key, the same object while it does not change.
    `dialect` is that of connectors/formats/defaults.py: of `plain` and `bson` all columns have that encoding. There
    `types` may hold the types that the source states, by column and as a spec writes them; the same object as above.
    """

    table: str
    origin: str
    op: str
    connector: str = ""
    key_columns: tuple[str, ...] | None = None
    key: dict[str, Any] | None = None
    row: dict[str, Any] | None = None
    before: dict[str, Any] | None = None
    fields: Fields | None = None
    key_fields: Fields | None = None
    dialect: str = "postgresql"
    types: Mapping[str, str] | None = None
    apart: frozenset[str] = frozenset()  # columns whose values may differ by their type alone
    weak: str = ""  # the tool that could say the order better, in `WEAK_ORDERS` of risks.py
    parts: frozenset[str] = frozenset()  # columns of which the change says a part, and not the whole


class Sampler(Protocol):
    """Reads the records of one format for inference; it keeps what it has learned from one record to the next."""

    @property
    def format(self) -> str:
        """What `format:` of the proposed specs says."""

    @property
    def by_topic(self) -> bool:
        """Whether a topic holds one table: its decoder does not look at the record to tell tables apart."""

    def samples(self, record: SampledRecord) -> Sequence[Sample]:
        """Return what a record shows; nothing of what is no change of a row, or cannot be read. Never raises."""
