"""ALERTS reads no change by an older spec, and rules are bound to the types of now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.transport.chunk import Group
from schemas.change import HEADER_SCHEMA_VERSION
from schemas.errors import PoisonRecord
from schemas.table import TableEntry, TableSpec
from tests.unit.alerts import updates
from tests.unit.alerts.chain import VIEW, Chain
from tests.unit.alerts.chain import row as row_of
from tests.unit.alerts.test_alerts_stage import NAMES, Bench, value

RULE = {"rule": "big", "when": "after.amount > 100", "values": {"amount": "after.amount"}}


def entry(version: int, amount: str, when: str = RULE["when"], *, table: str = "bills") -> TableEntry:  # type: ignore[assignment]
    """Return a table in a schema version."""
    columns = {"id": "long", "amount": amount, "note": "string"}
    spec = {"table": table, "topics": ["t"], "key": ["id"], "columns": columns, "rules": [{**RULE, "when": when}]}
    return TableEntry(spec=TableSpec.model_validate(spec), schema_version=version)


def of_version(version: int) -> dict[str, Any]:
    """Return what makes messages say a schema version."""
    return {"headers": [(HEADER_SCHEMA_VERSION, b"%d" % version)]}


def row(amount: Any) -> dict[str, Any]:
    """Return a row with an amount."""
    return {"id": "1", "amount": amount, "note": "n"}


async def catch_up(bench: Bench, now: TableEntry) -> None:
    """Take up a table as it is now."""
    bench.tables["bills"] = now
    await bench.stage.tables_changed({"bills"})


async def test_a_version_that_is_met_is_taken_up_and_rules_read_its_types() -> None:
    """What is older in the same group is read as it is now."""
    bench = Bench(entry(1, "int"))
    bench.stage.gate.catch_up = lambda: catch_up(bench, entry(2, "long"))
    old = bench.run(value(0, after=row(500)), value(1, after=row(5)), **of_version(1))
    new = bench.run(value(2, after=row("5000000000")), first=2, assignment=old.assignment, **of_version(2))
    alerts = await bench.step(old, new)

    assert ["500", "5000000000"] == [alert["values"]["amount"] for alert in alerts]


async def test_a_version_that_nobody_knows_pauses_the_table() -> None:
    """Where it stands."""
    bench = Bench(entry(1, "int"))
    run = bench.run(value(0, after=row(500)), **of_version(2))

    assert [] == await bench.step(run)
    assert "schema_unknown" == bench.consumer.paused[NAMES.changes("bills")].reason
    assert [(0, 0)] == bench.consumer.seeks


async def test_a_rule_that_no_longer_binds_pauses_its_table_alone() -> None:
    """Until somebody writes it for the new type; the worker and other tables go on."""
    bench = Bench(entry(1, "int"), entry(1, "int", table="orders"))
    bench.stage.gate.catch_up = lambda: catch_up(bench, entry(2, "string"))
    other = bench.run(value(0, after=row(600)), table="orders", **of_version(1))
    run = bench.run(value(0, after=row("a text")), **of_version(2))
    alerts = await bench.step(run, other)

    assert ["orders"] == [alert["table"] for alert in alerts]
    paused = bench.consumer.paused[NAMES.changes("bills")]
    assert "rules_refused" == paused.reason
    assert "rule big: when" in paused.message
    await catch_up(bench, entry(2, "string", "TRY_CAST(after.amount AS DECIMAL(12,2)) > 100"))
    assert {} == bench.consumer.paused
    again = bench.run(value(0, after=row("a text")), value(1, after=row("500")), **of_version(2))
    assert ["orders", "bills"] == [alert["table"] for alert in await bench.step(again)]


CHANGED = {"rule": "changed", "kind": "change", "of": ["level"], "view": VIEW}


def wider_entry() -> TableEntry:
    """Return the table of `updates` with a column that has become a text."""
    columns = {"id": "long", "ward": "string", "status": "string", "level": "string", "note": "string"}
    return updates.entry_of(CHANGED, columns=columns).model_copy(update={"schema_version": 2})


async def test_an_update_of_a_spec_that_is_not_known_yet_is_read_by_it() -> None:
    """Updates say no schema version: what cannot be read may be of the next one."""
    bench, chain = updates.Bench(updates.entry_of(CHANGED)), Chain()

    async def take_up() -> None:
        bench.tables["patients"] = wider_entry()
        await bench.stage.tables_changed({"patients"})

    bench.stage.gate.catch_up = take_up
    await bench.feed(chain.update(1, row_of(level="1.00")))
    alerts = await bench.feed(chain.update(1, row_of(level="a text")), first=1)

    assert [{"id": "1"}] == [alert["key"] for alert in alerts]


async def test_an_update_that_no_spec_reads_is_named() -> None:
    """It goes to quarantine."""
    bench, chain = updates.Bench(updates.entry_of(CHANGED)), Chain()
    with pytest.raises(PoisonRecord):
        await bench.feed(chain.update(1, row_of(level="a text")))


async def test_a_value_that_only_became_a_text_has_not_changed() -> None:
    """The update of before has a number, or another text, for the same."""
    bench, chain = updates.Bench(wider_entry()), Chain()
    alerts = await bench.feed(chain.update(1, row_of(level=5)), chain.update(1, row_of(level="5")))

    assert 1 == len(alerts)  # the insert


def refused_entry() -> TableEntry:
    """Return the table of `updates` with a threshold on a column that has become a text."""
    columns = {"id": "long", "ward": "string", "status": "string", "level": "string", "note": "string"}
    return updates.entry_of(updates.HIGH, columns=columns).model_copy(update={"schema_version": 2})


async def test_a_rule_that_is_refused_in_the_middle_of_a_step_passes_over_nothing() -> None:
    """The group is put back, whether a record of it made the worker look, or the tables changed beside it."""
    bench, chain = updates.Bench(updates.entry_of(updates.HIGH)), Chain()

    async def take_up() -> None:
        bench.tables["patients"] = refused_entry()
        await bench.stage.tables_changed({"patients"})

    bench.stage.gate.catch_up = take_up
    await bench.feed(chain.update(1, row_of(level="5.00")))
    advanced = len(bench.writer.advances)
    alerts = await bench.feed(chain.update(1, row_of(level="7.00")), chain.update(2, row_of(level="a text")), first=1)

    assert ([], advanced) == (alerts, len(bench.writer.advances))
    assert "rules_refused" == bench.consumer.paused[NAMES.features(VIEW)].reason
    assert [1] == [offset for _, offset in bench.consumer.sought]


async def test_a_table_that_changes_while_a_step_waits_is_judged_as_it_is_then() -> None:
    """What was asked before the wait no longer holds."""
    bench, chain = updates.Bench(updates.entry_of(updates.HIGH)), Chain()
    bench.tables["patients"] = refused_entry()
    run = await bench.run(chain.update(1, row_of(level="7.00")))
    lock = bench.stage._engine_free  # noqa: SLF001 - a group in its evaluation holds it
    await lock.acquire()
    changed = asyncio.create_task(bench.stage.tables_changed({"patients"}))
    await asyncio.sleep(0)  # it stands ahead
    step = asyncio.create_task(bench.stage.step(Group([run], bench.consumer)))
    await asyncio.sleep(0)
    lock.release()
    await asyncio.gather(changed, step)

    assert ([], []) == (bench.alerts(), bench.writer.advances)
    assert "rules_refused" == bench.consumer.paused[NAMES.features(VIEW)].reason
