"""Contracts by what people name on the command line: a registered table, a spec's file, a contract's file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.contract import CONTRACT_BYTES_MAX, Contract, contract_of, read_contract
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.evolution import in_force
from schemas.masked import masked_spec
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames

if TYPE_CHECKING:
    from streams.tables import TableDirectory

_SPECS = frozenset({".yaml", ".yml"})
_CONTRACTS = frozenset({".json"})


def is_file(name: str) -> bool:
    """Tell whether an argument means a file: it has a slash, or the ending of one."""
    return os.sep in name or Path(name).suffix in _SPECS | _CONTRACTS


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody named: its contract, and the spec that this is of, as it runs; None for a contract's file."""

    contract: Contract
    spec: TableSpec | None = None


def contracts_of(
    arguments: Sequence[str], tables_with: Callable[[str], TableDirectory], topics: TopicNames
) -> list[Named]:
    """Return the contracts that files and tables have, in their order.

    `tables_with` returns the registered tables, of which the one asked for is one; it is called for tables alone. A
    spec beside a table is taken as it would run there: with what workers found of its columns.

    Raises:
        ConfigurationError: a file cannot be read; and what `tables_with` raises.
    """
    running = {name: tables_with(name) for name in arguments if not is_file(name)}
    beside = next(iter(running.values()), None)
    return [
        _of_entry(running[name][name], topics) if name in running else _of_file(Path(name), beside, topics)
        for name in arguments
    ]


def _of_file(path: Path, beside: TableDirectory | None, topics: TopicNames) -> Named:
    try:
        with path.open("rb") as file:
            data = file.read(CONTRACT_BYTES_MAX + 1)
        if path.suffix in _CONTRACTS:
            return Named(read_contract(data, name=str(path)))
        spec = read_document(data.decode(), TableSpec, name=str(path))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{path} cannot be read: {type(exc).__name__}",
            hint="name a registered table, the YAML file of a spec, or TABLE.value.schema.json",
        ) from exc
    entry = TableEntry(spec=spec)
    return _of_entry(entry if beside is None else in_force(entry, beside.evolved(spec.table).values()), topics)


def _of_entry(entry: TableEntry, topics: TopicNames) -> Named:
    spec, topic = masked_spec(entry.spec), topics.changes(entry.spec.table)
    return Named(contract_of(spec, topic=topic, schema_version=entry.schema_version), spec)
