"""Metrics: one table of names, bounded labels, and a page that is made from it."""

from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.metrics import METRICS, OTHER_TABLES, TABLES_MAX, metrics_page, stage_registry

ROOT = Path(__file__).parents[3]


def status(tables: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A status with these tables."""
    return {
        "stage": "lake",
        "state": "running",
        "started_at": "2026-11-20T00:00:00+00:00",
        "assigned": 0,
        "tables": tables,
        **fields,
    }


def samples(snapshot: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return the values of our metrics by name and last label."""
    text = generate_latest(stage_registry(lambda: snapshot)).decode()
    return {
        (sample.name, list(sample.labels.values())[-1]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("headgate_")
    }


def test_docs_list_every_metric() -> None:
    """docs/metrics.md is what the code makes of its table."""
    assert metrics_page() == (ROOT / "docs" / "metrics.md").read_text()


def test_every_metric_of_the_table_is_served() -> None:
    """And nothing that is not in the table."""
    row = {
        "table": "t",
        "lag": 1,
        "freshness_seconds": 1,
        "silence_seconds": 1,
        "oldest_unfinished_seconds": 1,
        "paused": "x",
        "parked": {"records": 1, "bytes": 80},
    }
    error = {"kind": "bug", "message": "m", "hint": "", "at": "2026-11-20T00:00:00+00:00"}
    held = ["buffered_rows", "buffered_bytes", "outbox_entries", "outbox_bytes"]

    more = {
        "last_error": error,
        "quarantined": [{"table": "t", "reason": "bug", "count": 1}],
        "emitted": [{"table": "t", "operation": "insert", "count": 1}],
    }

    served = {name for name, _ in samples(status([row], counters=dict.fromkeys(held, 2.0) | {"rows": 1.0}, **more))}

    assert {metric.name for metric in METRICS} == served


def test_quarantined_records_are_counted_by_table_and_reason() -> None:
    """Tables beyond the bound add up."""
    rows = [{"table": f"t{n:04d}", "reason": "bug", "count": 2} for n in range(TABLES_MAX + 10)]

    text = generate_latest(stage_registry(lambda: status([], quarantined=rows))).decode()

    assert 'headgate_quarantined_total{reason="bug",stage="lake",table="t0007"} 2.0' in text
    assert f'headgate_quarantined_total{{reason="bug",stage="lake",table="{OTHER_TABLES}"}} 20.0' in text


def test_changes_are_counted_by_table_and_operation() -> None:
    """So that they can be held against what the source counts."""
    rows = [{"table": "t", "operation": "delete", "count": 3}]

    text = generate_latest(stage_registry(lambda: status([], emitted=rows))).decode()

    assert 'headgate_emitted_total{operation="delete",stage="lake",table="t"} 3.0' in text


def test_tables_beyond_the_bound_share_one_label() -> None:
    """Lag adds up; of ages the worst is shown."""
    rows = [{"table": f"t{n:04d}", "lag": 1, "freshness_seconds": float(n)} for n in range(TABLES_MAX + 10)]

    seen = samples(status(rows))

    assert seen["headgate_lag_records", OTHER_TABLES] == 10
    assert seen["headgate_freshness_seconds", OTHER_TABLES] == TABLES_MAX + 9
    assert sum(1 for name, _ in seen if name == "headgate_lag_records") == TABLES_MAX + 1


def test_a_table_of_several_topics_is_one_series() -> None:
    """Two series with the same labels would break the scrape."""
    rows = [{"table": "t", "lag": 1, "freshness_seconds": 5.0}, {"table": "t", "lag": 2, "freshness_seconds": 3.0}]

    seen = samples(status(rows))

    assert (seen["headgate_lag_records", "t"], seen["headgate_freshness_seconds", "t"]) == (3, 5)


def test_what_is_parked_is_shown_in_records() -> None:
    """Bytes are in the status."""
    seen = samples(status([{"table": "t", "parked": {"records": 3, "bytes": 900}}, {"table": "u", "parked": None}]))

    assert 3 == seen["headgate_parked_records", "t"]
    assert ("headgate_parked_records", "u") not in seen


def test_what_is_not_known_is_not_shown() -> None:
    """None is neither 0 nor NaN."""
    seen = samples(status([{"table": "t", "lag": None}]))

    assert ("headgate_lag_records", "t") not in seen


def test_a_stage_that_waits_is_not_up() -> None:
    """`headgate_up` is what an alarm looks at."""
    assert samples({**status([]), "state": "waiting"})["headgate_up", "lake"] == 0


def test_what_is_held_now_is_no_counter() -> None:
    """A counter that falls looks like a restart."""
    seen = samples(status([], counters={"rows": 5.0, "buffered_rows": 2.0}))

    assert seen["headgate_buffered_rows", "lake"] == 2
    assert {"rows"} == {what for name, what in seen if name == "headgate_work_total"}
