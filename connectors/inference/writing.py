"""A proposal as YAML that people keep and edit: what `headgate run --apply` reads, with comments on what is a guess."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from connectors.inference.choice import Sure
from connectors.inference.proposal import Evidence, Proposal
from schemas.risk import Risk
from schemas.shown import shown_yaml

_COMMENTED = frozenset({Sure.MEDIUM, Sure.LOW})


def as_yaml(proposal: Proposal, more: Iterable[Risk] = ()) -> str:
    """Return the document of one table; what is a default is left out. `more` are risks that the spec itself shows."""
    spec = proposal.spec
    risks = [*proposal.risks, *more]
    lines = [
        f"# {proposal.records} records of {_line(proposal.source)}: {_line(proposal.summary)}",
        *(f"# look at: {_line(warning)}" for warning in proposal.warnings),
        *(f"# {risk.level}: {_line(str(risk))} [{risk.name}]" for risk in risks),
        *([f"# event time of a view may be: {_line(proposal.event_time)}"] if proposal.event_time else []),
        f"table: {_flow(spec.table)}",
        f"topics: {_flow(spec.topics)}",
        f"format: {_flow(spec.format)}",
        *([f"source_table: {_flow(spec.source_table)}"] if spec.source_table else []),
        *([f"key: {_flow(spec.key)}"] if spec.key else []),
        "columns:",
        *(f"  {_flow(name)}: {_column(evidence)}" for name, evidence in proposal.columns.items()),
    ]
    return "\n".join(lines) + "\n"


def _column(evidence: Evidence) -> str:
    wanted: Any = evidence.type
    if evidence.encoding is not None:
        wanted = {"type": evidence.type, "encoding": evidence.encoding}
    comment = f"  # {evidence.sure}: {_line(evidence.why)}" if evidence.sure in _COMMENTED else ""
    return _flow(wanted) + comment


def _flow(value: Any) -> str:
    text = shown_yaml(yaml.safe_dump, value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
