"""150 topics in many formats, inferred with no hint of their format, then linted: how long, and what is left to do.

python -m tests.proof.infer --topics 150 --records 2000
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.specs import read_specs
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.proof.many_topics import ManyTopic, avro_schemas, edits, fill_topics, many_topics
from tests.services import Kafka

PARTITIONS = 3
INFER_SECONDS_MAX = 60.0
REASONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Timed:
    """What a verb answered, how long it took, and how long it had a processor."""

    code: int
    document: Any
    said: str
    seconds: float
    processor_seconds: float


def verb(folder: Path, *words: str) -> Timed:
    """Run a verb of the command line in a process of its own."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "headgate", *words, "--config", str(folder / "headgate.yaml"), "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(done.returncode, json.loads(done.stdout or "null"), done.stderr, seconds, worked)


def prove(kafka: Kafka, folder: Path, *, count: int, records: int, seconds: float, seed: int) -> bool:
    """Infer and lint; print what came of it, and return whether it is what was promised."""
    folder.mkdir(parents=True, exist_ok=True)
    config, tables, schemas = folder / "headgate.yaml", folder / "tables", folder / "schemas.json"
    config.write_text(f"kafka: {{bootstrap: '{kafka.address}'}}\n")
    schemas.write_text(json.dumps(avro_schemas()))
    prefix = f"p{seed % 1000:03d}t"
    topics = many_topics(count, prefix)
    print(f"{count} topics of {len({each.spec.format for each in topics})} formats: {formats_of(topics)}")
    print(f"{fill_topics(kafka.address, topics, records, partitions=PARTITIONS):,} records written", flush=True)
    known = ("--schemas", str(schemas), "--seconds", str(seconds))
    inferred = verb(folder, "tables", "infer", f"^{prefix}", "--out", str(tables), *known)
    print(inferred.said)
    read = sum(each["records"] for each in inferred.document["topics"])
    print(f"inferred in {times_of(inferred)}, of {read:,} records; exit code {inferred.code}")
    linted = verb(folder, "tables", "lint", str(tables), "--topic-samples", *known)
    print(f"linted in {times_of(linted)}; exit code {linted.code}")
    return tell(topics, tables, linted.document["risks"]) and inferred.seconds < INFER_SECONDS_MAX


def times_of(timed: Timed) -> str:
    """Return how long a verb took."""
    return f"{timed.seconds:.1f} s, {timed.processor_seconds:.1f} s of a processor"


def formats_of(topics: Sequence[ManyTopic]) -> str:
    """Return how many topics there are of each format."""
    counts = Counter(each.spec.format for each in topics)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def tell(topics: Sequence[ManyTopic], tables: Path, risks: Sequence[dict[str, Any]]) -> bool:
    """Print how many specs need an edit, and why; return whether each topic has one that refuses no record."""
    specs = {topic: spec for spec in read_specs(tables).values() for topic in spec.topics}
    needed = {each.topic: edits(specs[each.topic], each.spec) for each in topics if each.topic in specs}
    missing = [each.topic for each in topics if each.topic not in specs]
    edited = {topic: found for topic, found in needed.items() if found}
    print(
        f"{len(specs)} specs; {len(edited)} of {len(topics)} need an edit, {len(missing)} topics have none: {missing}"
    )
    by_family = Counter(each.family for each in topics if each.topic in edited)
    for family, number in by_family.most_common():
        whole = sum(1 for each in topics if each.family == family)
        reasons = Counter(
            reason for each in topics if each.family == family for reason in set(edited.get(each.topic, ()))
        )
        print(f"  {number:3} of {whole:3} {family}: {'; '.join(f'{n} × {why}' for why, n in reasons.most_common(8))}")
    print("risks, by name and tables:")
    names = Counter(risk["risk"] for risk in risks)
    for name, number in names.most_common(REASONS_SHOWN):
        print(f"  {number:3} {name}")
    refused = [risk for risk in risks if risk["risk"] == "refused_records"]
    for risk in refused:
        print(f"  {risk['table']}: {risk['what']}")
    return not missing


def main(arguments: Sequence[str] | None = None) -> None:
    """Start Kafka, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--topics", type=int, default=150)
    parser.add_argument("--records", type=int, default=2_000, help="of each generated topic")
    parser.add_argument("--seconds", type=float, default=50, help="at most so long for infer, and for lint")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}")
    with services_of_its_own() as (services, folder):
        kafka = services.kafka()
        if not prove(
            kafka, folder, count=options.topics, records=options.records, seconds=options.seconds, seed=options.seed
        ):
            sys.exit(1)


if __name__ == "__main__":
    main()
