"""What `headgate tables infer` makes of proposals: files, a table for people, JSON for scripts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.cli.printing import say, shown

if TYPE_CHECKING:
    from connectors.inference import Proposal
    from schemas.risk import Risk
    from streams.proposing import Inferred
    from streams.specs import Specs

_PROGRESS_SECONDS = 2.0
_NOTICES_SHOWN = 40
HEADINGS = ("table", "topic", "format", "key", "columns", "sure", "look at")


def write(
    proposals: Iterable[Proposal], out: Path, known: Specs | None, *, overwrite: bool
) -> tuple[dict[str, Path], list[Path]]:
    """Write a file for each table; return those that were written, by table, and those that were left as they are."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    kept: list[Path] = []
    for proposal in proposals:
        table = proposal.spec.table
        file = known.file(table) if known is not None and table in known else out / f"{table}.yaml"
        if file.exists() and not overwrite:
            kept.append(file)
            continue
        file.write_text(yaml_of(proposal), encoding="utf-8")
        files[table] = file
    return files, kept


def yaml_of(proposal: Proposal) -> str:
    """Return the spec that people keep, with what it rests on as comments."""
    from connectors.inference.writing import as_yaml

    return as_yaml(proposal, _risks_of_spec(proposal))


def _risks_of_spec(proposal: Proposal) -> list[Risk]:
    """Return the risks that the spec itself shows, but for those that its records told already."""
    from streams.lint import risks_of

    told = {risk.name for risk in proposal.risks}
    return [risk for risk in risks_of(proposal.spec) if risk.name not in told]


def _open(proposal: Proposal) -> list[Risk]:
    from schemas.risk import Level

    return [risk for risk in (*proposal.risks, *_risks_of_spec(proposal)) if risk.level is Level.RISK]


def row(proposal: Proposal) -> list[Any]:
    """Return what is shown of a proposal, under `HEADINGS`."""
    spec = proposal.spec
    sure = Counter(str(evidence.sure) for evidence in proposal.columns.values())
    told = [*(["a warning"] if proposal.warnings else []), *dict.fromkeys(risk.name for risk in _open(proposal))]
    said = ", ".join(f"{sure[name]} {name}" for name in ("high", "medium", "low") if sure[name])
    return [
        spec.table,
        ", ".join(spec.topics),
        spec.format,
        ", ".join(spec.key) or None,
        len(spec.columns),
        said,
        ", ".join(told) or None,
    ]


def document(found: Inferred, proposals: Sequence[Proposal], files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "tables": [_of_table(proposal, files.get(proposal.spec.table)) for proposal in proposals],
        "topics": [
            {
                "topic": topic,
                "state": found.state(topic),
                "format": found.formats.get(topic),
                "records": sampled.records,
                "bytes": sampled.bytes,
                "held": sampled.held,
                "complete": sampled.is_complete,
            }
            for topic, sampled in found.sampled.items()
        ],
    }


def _of_table(proposal: Proposal, file: Path | None) -> dict[str, Any]:
    from msgspec import to_builtins

    spec = proposal.spec
    risks = [*proposal.risks, *_risks_of_spec(proposal)]
    return {
        "table": spec.table,
        "topics": spec.topics,
        "format": spec.format,
        "source_table": spec.source_table,
        "source": proposal.source,
        "connector": proposal.connector,
        "key": spec.key,
        "columns": to_builtins(proposal.columns),
        "event_time": proposal.event_time,
        "types_from": "schema" if proposal.has_schema else "definition" if proposal.is_defined else "values",
        "records": proposal.records,
        "operations": dict(proposal.operations),
        "warnings": proposal.warnings,
        "risks": [
            {"risk": risk.name, "level": risk.level, "columns": risk.columns, "what": risk.what, "settle": risk.settle}
            for risk in risks
        ],
        "file": None if file is None else str(file),
    }


def tell(
    found: Inferred, proposals: Sequence[Proposal], named: Iterable[str], kept: Sequence[Path], seconds: float
) -> list[str]:
    """Say on stderr what was read and what is left to do; return the topics that want another look.

    Those are topics that were named, of which nothing is proposed, and those for which there was no time.
    """
    has_table = {topic for proposal in found.proposals for topic in proposal.spec.topics}
    notices = [f"{topic}: {found.state(topic)}" for topic in found.sampled if topic not in has_table]
    notices += [f"{topic}: {count} records beyond the limit of samples" for topic, count in found.overlooked.items()]
    notices += [
        f"{topic}: not all was read in {seconds:.0f} s; give it more --seconds, or name fewer topics"
        for topic, sampled in found.sampled.items()
        if topic in has_table and not sampled.is_complete
    ]
    notices += [f"{file} is there already, and was left as it is; --overwrite replaces it" for file in kept]
    for notice in notices[:_NOTICES_SHOWN]:
        say(shown(notice))
    if len(notices) > _NOTICES_SHOWN:
        say(f"and {len(notices) - _NOTICES_SHOWN} more, which --json lists")
    records = sum(sampled.records for sampled in found.sampled.values())
    risky = sum(1 for proposal in proposals if proposal.warnings or _open(proposal))
    say(
        f"{len(found.sampled)} topics, {records} records in {seconds:.1f} s: {len(proposals)} tables, "
        f"of {risky} of which there is something to look at"
    )
    asked = set(named)
    return [
        topic
        for topic, sampled in found.sampled.items()
        if topic not in has_table and (topic in asked or (sampled.held and not sampled.is_complete))
    ]


class Progress:
    """Says now and then how many topics were read."""

    def __init__(self, topics: int) -> None:
        """Begin with none."""
        self._topics, self._said_at = topics, time.monotonic()

    def __call__(self, done: int) -> None:
        """Take up that so many are read."""
        if done < self._topics and time.monotonic() - self._said_at >= _PROGRESS_SECONDS:
            self._said_at = time.monotonic()
            say(f"{done} of {self._topics} topics")
