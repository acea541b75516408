"""What inference comes to: a spec, and for each column what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.inference.choice import Sure
from schemas.risk import Risk
from schemas.table import TableSpec


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a column is proposed as it is; of `seen` values so many were null, and so many not sent by the source."""

    type: str
    encoding: str | None
    sure: Sure
    why: str
    seen: int
    nulls: int
    unavailable: int
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A spec, and what it rests on. `source` is the source's name of the table, `records` how many were sampled.

    `warnings` are about the spec, `risks` about the source: values that it may lose, order that it does not say.
    Of `signals` all rows tell the connector what to do: a table that it reads, and that nobody else wants as one.
    `is_defined` where a schema-change topic says the table's columns. `operations` counts changes by Debezium's words.
    `event_time` is the column that may say when a row's event was.
    """

    spec: TableSpec
    source: str
    connector: str
    has_schema: bool
    records: int
    columns: dict[str, Evidence]
    warnings: list[str] = field(default_factory=list)
    risks: list[Risk] = field(default_factory=list)
    signals: bool = False
    is_defined: bool = False
    operations: Mapping[str, int] = field(default_factory=dict)
    event_time: str | None = None

    @property
    def summary(self) -> str:
        """What was recognised, in a few words."""
        said = [f"{self.spec.format} of {self.connector}" if self.connector else self.spec.format]
        defined = "defined by the schema-change topic" if self.is_defined else "no schema block"
        said.append("schema block" if self.has_schema else defined)
        said.append(f"key {', '.join(self.spec.key)}" if self.spec.key else "no key")
        if self.signals:
            said.append("rows that are signals to the connector")
        return ", ".join(said)
