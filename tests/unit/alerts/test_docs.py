"""What docs/alerts.md shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.config import read_config
from schemas.document import read_document
from schemas.table import TableSpec
from sinks.webhook import WebhookSink
from streams.rules import RuleEngine

PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"


def blocks() -> list[str]:
    """Return the page's blocks of YAML."""
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_rules_of_the_page_compile() -> None:
    """All of them, with the columns that the page gives."""
    rules = RuleEngine().compile(read_document(blocks()[0], TableSpec, name="alerts.md"))

    assert ["potassium-high", "turned-critical", "removed"] == [rule.rule for rule in rules.rules]


def test_the_destination_of_the_page_can_be_used() -> None:
    """Its URL and its secret are of the right form."""
    config = read_config(blocks()[1], name="alerts.md")

    assert "ward" == WebhookSink("ward", config.notify["ward"]).name
