"""Changes of tables that say `format: avro`: their schemas registered, and what is written by them.

The subjects are `<topic>-key` and `<topic>-value`. A registry is asked once for each version of a table's columns: by
`apply` whether it takes the schemas, before anything is written, and by NORMALIZE for their ids, before a change is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from connectors.contract_wire import ChangeReader, ChangeWriter
from connectors.registry import registry_of
from connectors.registry.subjects import Subjects, incompatible
from schemas.config import Config
from schemas.contract import Contract, contract_of
from schemas.contract_avro import avro_key_schema, avro_value_schema
from schemas.errors import ConfigurationError, TableStopped
from schemas.masked import masked_spec
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames


class OutputForms:
    """How one worker writes changes: to which topics, and what makes Avro of them, by the tables' entries."""

    def __init__(self, config: Config, names: TopicNames) -> None:
        """Ask nothing yet."""
        self._config, self.names = config, names
        self._subjects: Subjects | None = None
        self._known: dict[str, tuple[TableEntry, ChangeWriter]] = {}
        self._refused: dict[str, tuple[TableEntry, TableStopped]] = {}

    def of(self, entry: TableEntry) -> ChangeWriter:
        """Return what writes a table's changes; it blocks where its schemas are not registered yet.

        Raises:
            TableStopped: the registry does not take them.
            ConfigurationError: there is no registry, or none that takes schemas.
            RegistryUnavailable: it does not answer.
        """
        known = self._known.get(entry.spec.table)
        if known is None or known[0] is not entry:
            known = self._known[entry.spec.table] = (entry, self._registered(entry))
        return known[1]

    async def register(self, entries: Iterable[TableEntry], *, once: bool = False) -> dict[str, TableStopped]:
        """Have the schemas of tables registered whose changes are Avro, before a transaction needs them.

        Return by table why they are not; that is asked `once` of an entry where what is refused goes on to come.

        Raises what `of` does, but for `TableStopped`.
        """
        refused: dict[str, TableStopped] = {}
        for entry in entries:
            table = entry.spec.table
            if entry.spec.output.format != "avro" or self._is_of(entry, self._known.get(table)):
                continue
            if not once or not self._is_of(entry, self._refused.get(table)):
                self._refused.pop(table, None)
                try:
                    await asyncio.to_thread(self.of, entry)
                except TableStopped as stop:
                    self._refused[table] = (entry, stop)
                else:
                    continue
            refused[table] = self._refused[table][1]
        return refused

    @staticmethod
    def _is_of(entry: TableEntry, known: tuple[TableEntry, Any] | None) -> bool:
        return known is not None and known[0] is entry

    def _registered(self, entry: TableEntry) -> ChangeWriter:
        if self._subjects is None:
            self._subjects = subjects_of(self._config, entry.spec.table)
        topic = self.names.changes(entry.spec.table)
        contract = contract_of(masked_spec(entry.spec), topic=topic, schema_version=entry.schema_version)
        ids = {side: self._subjects.register(subject, schema) for side, subject, schema in _schemas(contract)}
        return ChangeWriter(contract, ids["value"], ids.get("key"))


def reader_of(config: Config) -> ChangeReader:
    """Return what gives the JSON of changes in either form."""
    return ChangeReader(registry_of(config.registry), config.limits)


def check_outputs(config: Config, specs: Mapping[str, TableSpec]) -> None:
    """Check that the registry takes the schemas of tables whose changes are Avro; nothing is written anywhere.

    Raises:
        TableStopped: it does not take one, with the reason that it gives and what can be done.
        ConfigurationError: there is no registry, or two columns would have one name.
        RegistryUnavailable: it does not answer.
    """
    wanted = {table: spec for table, spec in specs.items() if spec.output.format == "avro"}
    if not wanted:
        return
    names = TopicNames(config.kafka.topic_prefix)
    with closing(subjects_of(config, min(wanted))) as subjects:
        for table, spec in wanted.items():
            for _, subject, schema in _schemas(contract_of(masked_spec(spec), topic=names.changes(table))):
                if (why := subjects.refusal(subject, schema)) is not None:
                    raise incompatible(subject, why)


def subjects_of(config: Config, table: str) -> Subjects:
    """Return the registry's subjects.

    Raises:
        ConfigurationError: the configuration has no registry, or one of another API; `table` needs it.
    """
    if config.registry is None:
        raise ConfigurationError(
            f"{table}: output: format: avro needs a schema registry, and the configuration has none",
            hint="write `registry: {urls: […]}` into it; docs/registry.md",
        )
    return Subjects(config.registry)


def _schemas(contract: Contract) -> list[tuple[str, str, dict[str, Any]]]:
    """Return side, subject and schema of a table's values, and of its keys if it has any."""
    key = avro_key_schema(contract)
    found = [("value", f"{contract.topic}-value", avro_value_schema(contract))]
    return found if key is None else [("key", f"{contract.topic}-key", key), *found]
