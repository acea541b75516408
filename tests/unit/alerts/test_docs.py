"""What docs/alerts.md shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.config import read_config
from schemas.document import read_document
from schemas.table import TableEntry, TableSpec, own_view_name
from sinks.webhook import WebhookSink
from streams.rule_views import with_own_views
from streams.rules import RuleEngine
from tests.unit.alerts.chain import Chain
from tests.unit.alerts.updates import Bench

PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"


def blocks() -> list[str]:
    """Return the page's blocks of YAML."""
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_rules_of_the_page_compile() -> None:
    """All of them, with the columns that the page gives."""
    rules = RuleEngine().compile(read_document(blocks()[0], TableSpec, name="alerts.md"))

    assert ["potassium-high", "turned-critical", "removed"] == [rule.rule for rule in rules.rules]


async def test_the_rules_that_compare_fire_as_the_page_says() -> None:
    """On the views that they read, one of them made by its rule."""
    engine = RuleEngine()
    spec = with_own_views(read_document(blocks()[1], TableSpec, name="alerts.md"), engine)
    own, latest = own_view_name(spec, "ward-changed"), "latest_result"
    bench = Bench(TableEntry(spec=spec))
    version = next(view.version for view in spec.features if view.view == own)
    wards, results = Chain(view=own, version=version), Chain(view=latest)

    moves = [wards.update(1, {"ward": ward}) for ward in ("a", "b", "b", None)]
    readings = [("stable", "5.0"), ("critical", "6.1"), ("critical", "5.7"), ("stable", "6.2"), ("dead", "5.4")]
    updates = [results.update(1, {"status": status, "potassium": level}) for status, level in readings]
    updates.append(results.update(1, {"status": "critical", "potassium": "6.3"}))
    fired = [*await bench.feed(*moves, view=own), *await bench.feed(*updates, view=latest)]

    assert [
        ("ward-changed", 2, {"from": "a", "to": "b"}),
        ("ward-changed", 4, {"from": "b", "to": None}),
        ("turned-critical", 2, {}),
        ("potassium-high", 2, {}),
        ("potassium-high", 6, {}),
    ] == [(alert["rule"], int(alert["position"]), alert["values"]) for alert in fired]


def test_the_destination_of_the_page_can_be_used() -> None:
    """Its URL and its secret are of the right form."""
    config = read_config(blocks()[2], name="alerts.md")

    assert "ward" == WebhookSink("ward", config.notify["ward"]).name
