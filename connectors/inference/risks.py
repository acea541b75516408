"""What the records of a table give away of values that are lost at the source, and of order that is weak there.

None of it can be undone here. It is said with the proposed spec, for who reads the rows should know.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from connectors.formats.traps import NULL_OR_DEFAULT, Trap, schema_traps
from connectors.formats.zero_keys import is_lost_key
from connectors.inference.base import Fields, Sample
from schemas.risk import Risk, RiskName

_OWN_SCALE = "io.debezium.data.VariableScaleDecimal"
_LISTED = frozenset({_OWN_SCALE, "org.apache.kafka.connect.data.Decimal", "io.debezium.time.ZonedTimestamp"})
_PLAIN_LISTED = frozenset({"boolean", "double"})
_POSTGRESQL = "postgresql"
_ORDERED_BY_OFFSET = "so a key must stay in one partition, and what is sent again is applied again"
WEAK_ORDERS: dict[str, tuple[str, str]] = {  # what it means of which tool, and how it is settled there
    "maxwell": (
        f"changes say no position and are ordered by commit time and offset, {_ORDERED_BY_OFFSET}",
        "set output_binlog_position=true",
    ),
    "canal": (
        f"changes are ordered by the second of their event, Canal's batch and the offset, {_ORDERED_BY_OFFSET}",
        "Canal says no more",
    ),
    "dms": (
        f"changes say no place that is known in a log and are ordered by commit time and offset, {_ORDERED_BY_OFFSET}",
        "set IncludeTransactionDetails, which helps with MySQL and PostgreSQL",
    ),
    "dynamodb": (
        "changes by way of Kinesis have no SequenceNumber and are ordered by time and offset, " + _ORDERED_BY_OFFSET,
        "read the table's own stream, or ask for MICROSECOND precision",
    ),
}


class Risks:
    """What was seen of one table."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self._traps: dict[tuple[str, str], Trap] = {}
        self._out_of_line: dict[str, None] = {}
        self._said: dict[Risk, None] = {}
        self._last: Fields | None = None

    def saw(self, sample: Sample) -> None:
        """Look at one change."""
        if sample.weak:
            self._said[Risk(RiskName.WEAK_ORDER, case=WEAK_ORDERS[sample.weak])] = None
        if sample.fields is not None and sample.fields is not self._last:
            self._last = sample.fields
            self._traps |= {(trap.column, trap.name): trap for trap in schema_traps(sample.fields)}
            if sample.connector == _POSTGRESQL:
                self._out_of_line |= dict.fromkeys(_large(sample.fields))
        if sample.op == "d" and sample.connector == _POSTGRESQL and sample.key and sample.before:
            others = [value for name, value in sample.before.items() if name not in sample.key]
            if is_lost_key(sample.key.values(), others):
                self._said[Risk(RiskName.ZERO_KEY)] = None

    def told(self, nulls: Mapping[str, int], objects: Container[str]) -> list[Risk]:
        """Return the risks, each once, with the columns that it is about.

        `nulls` are how many each column had: one of them proves that none is replaced by a default. `objects` are the
        columns whose values carry a scale of their own, as numbers of any size do.
        """
        traps = list(self._traps.values())
        if any(trap.name == NULL_OR_DEFAULT and nulls.get(trap.column) for trap in traps):
            traps = [trap for trap in traps if trap.name != NULL_OR_DEFAULT]
        found: dict[RiskName, list[str]] = {}
        for trap in traps:
            found.setdefault(RiskName(trap.name), []).append(trap.column)
        large = [name for name in nulls if name in self._out_of_line or name in objects]
        if large:
            found[RiskName.OUT_OF_LINE] = large
        return [*self._said, *(Risk(name, tuple(columns)) for name, columns in found.items())]


def _large(fields: Fields) -> Iterable[str]:
    """Yield the columns whose types PostgreSQL may store out of line, and for which nothing says so."""
    for name, field in fields.items():
        inner = field.get("items") if field.get("type") == "array" else None
        listed = isinstance(inner, dict) and (inner.get("name") in _LISTED or inner.get("type") in _PLAIN_LISTED)
        if listed or field.get("name") == _OWN_SCALE:
            yield name
