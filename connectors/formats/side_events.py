"""Events in a table's topic that are no changes of rows: messages, and changes of a schema, by the table's policies.

All others (heartbeats, tombstones, ends of transactions, …) are counted and passed over: they say nothing that somebody
may want to see before the table goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

from connectors.formats.reasons import Rejection
from schemas.batch import Decoded
from schemas.errors import TableStopped
from schemas.table import TableSpec

SCHEMA_CHANGE, MESSAGE = "schema_change", "message"
_WHAT = {
    SCHEMA_CHANGE: ("schema_changes", "the schema was changed at the source"),
    MESSAGE: ("messages", "the source's application wrote a message"),
}


def take_side_events(
    spec: TableSpec, skipped: dict[int, str], rejected: dict[int, Rejection], decoded: Decoded
) -> None:
    """Move events from `skipped` to `rejected`, by index, where the table wants them kept, or stop the table at one.

    A stop that comes earlier stays the table's stop. Changes of the schema before it are noted in `decoded`.
    """
    if not skipped:
        return
    policies = {SCHEMA_CHANGE: spec.schema_changes, MESSAGE: spec.messages}
    definitions = sorted(index for index, name in skipped.items() if name == SCHEMA_CHANGE)
    wanted = {index: name for index, name in sorted(skipped.items()) if policies.get(name, "ignore") != "ignore"}
    for index, name in wanted.items():
        if policies[name] == "quarantine":
            del skipped[index]
            rejected.setdefault(index, Rejection(name, f"{_WHAT[name][1]}, which `{_WHAT[name][0]}: quarantine` keeps"))
    _stop(wanted, policies, decoded)
    end = decoded.stop_index
    decoded.definitions = definitions if end is None else [index for index in definitions if index < end]


def _stop(wanted: Mapping[int, str], policies: Mapping[str, str], decoded: Decoded) -> None:
    first = next((index for index, name in wanted.items() if policies[name] == "pause"), None)
    if first is None or (decoded.stop_index is not None and decoded.stop_index <= first):
        return
    key, what = _WHAT[wanted[first]]
    decoded.stop_index = first
    decoded.stop = TableStopped(
        wanted[first],
        what,
        hint=f"see the record by `headgate decode`; to go on, write `{key}: ignore` into the spec, or `quarantine`, "
        "which keeps such records, with whatever else the change asks for, and apply it",
    )
