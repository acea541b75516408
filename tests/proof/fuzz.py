"""Spoiled records by the thousand: no decoder raises, no neighbour is harmed, no record takes a second, memory stays.

Captured records of a format are spoiled in a dozen ways (tests/proof/mutations.py) and decoded in runs of good and
spoiled ones, by decoders that live as long as the run of the proof, as a worker's do. Of each run it is checked that
only changes, rejections with a known reason and skipped records come out, each record in one place; that good ones
come out as they do alone; that each value that comes out has the contract's form.

    python -m tests.proof.fuzz --format debezium-json --records 100000 --seed 7
    python -m tests.proof.fuzz --records 2000 --seed 1      # short

A format takes part by a function in `SEEDS` (seeds.py) that gives its tables and records. Exit code 0 where all holds.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.contract_rows import read_row
from connectors.formats import REASONS, Decoder, PartitionMemory, encode_row, format_of
from schemas.batch import Decoded
from schemas.config import LimitsConfig
from schemas.errors import ConfigurationError
from schemas.table import TableEntry
from tests.oracles import Verdict, require
from tests.proof.by_hand import parser_of
from tests.proof.mutations import mutate
from tests.proof.seeds import SEEDS, Header, Record, Table

MIB = 1024 * 1024
RUN_RECORDS_MAX = 48
RECORDS_MAX = 150  # of a table, to be tried alone
SPOILED_SHARE = 0.4
STOPPING_SHARE = 0.05
RECORD_SECONDS_MAX = 1.0
RSS_MIB_MAX = 700
GROWTH_MIB_MAX = 400
LIMITS = LimitsConfig(record_bytes_max=2 * MIB)
FIRST_OFFSET = 73_519_640_287_100  # digits that stand in no record


Member = tuple[Record, str, str]  # what a good one must become, and how a spoiled one was made


class Run:
    """Records in a row; it fits `Records`."""

    topic, partition = "fuzz", 0

    def __init__(self, records: list[Record]) -> None:
        """Keep the records."""
        self._records = records

    def values(self) -> list[bytes | None]:
        """Return the values."""
        return [record.value for record in self._records]

    def keys(self) -> list[bytes | None]:
        """Return the keys."""
        return [record.key for record in self._records]

    def offsets(self) -> list[int]:
        """Return the offsets."""
        return list(range(FIRST_OFFSET, FIRST_OFFSET + len(self._records)))

    def time_ms(self, _index: int, /) -> int:
        """Return that there is no time."""
        return -1

    def headers(self, index: int, /) -> Sequence[Header]:
        """Return the headers of one record."""
        return self._records[index].headers


@dataclass(slots=True)
class Fuzzed:
    """What was seen: how much came out as what, and the slowest record, in seconds of the processor."""

    verdict: Verdict
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    slowest_run_seconds: float = 0.0
    slowest_seconds: float = 0.0
    slowest: str = ""

    @property
    def rss_mib(self) -> int:
        """The most memory that this process ever held."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Target:
    """One table with its decoder, which learns from all that it is given, and what its good records are alone."""

    def __init__(self, table: Table) -> None:
        """Make the decoder and try the records.

        Raises:
            ConfigurationError: the table has a name that cannot be read.
        """
        self._entry = TableEntry(spec=table.spec)
        self._format = format_of(table.spec.format, table.schemas)
        self.decoder = self.new_decoder()
        self.name, self.all = table.name, [record for record in table.records if record.value]
        self.types = {name: column.type for name, column in table.spec.columns.items()}
        self.keys = {name: self.types[name] for name in table.spec.key}
        # Where the decoder goes by what came before, a null may be one delete more, or the second word of one.
        told = (self.all if self.decoder.alone else table.records)[:RECORDS_MAX]
        alone = [(record, self.alone(record)) for record in told]
        self.good = [(record, outcome) for record, outcome in alone if outcome is not None]
        self.steady = [record for record, _ in self.good if record.value]

    def new_decoder(self) -> Decoder:
        """Return a decoder that has learned nothing."""
        return self._format.decoder(self._entry, LIMITS)

    def alone(self, record: Record) -> str | None:
        """Return what a new decoder makes of one record, None if the table stops at it or is a snapshot's row."""
        decoded = self.new_decoder().decode(Run([record]), PartitionMemory())
        stops = decoded.stop is not None or any(decoded.batch.snapshots)
        return None if stops else outcomes(decoded, 1)[0]


def outcomes(decoded: Decoded, count: int) -> list[str]:
    """Return what became of each record of a run before the stop: its changes as text, its reason, or `skipped`.

    A record's own offset is no digits of its positions here: it is another in each run.
    """
    changed: dict[int, list[Any]] = {}
    found = ["skipped"] * (count if decoded.stop_index is None else decoded.stop_index)
    batch = decoded.batch
    for at, offset in enumerate(batch.offsets):
        rows = [
            _row(column[at]) for column in (batch.keys, batch.old_keys, batch.new_keys, batch.befores, batch.afters)
        ]
        position = batch.positions[at].replace(f"{offset:020d}", "offset")
        head = (batch.operations[at], position, batch.ts[at], batch.unavailable[at], batch.transactions[at])
        changed.setdefault(offset - FIRST_OFFSET, []).append([*head, batch.snapshots[at], *rows])
    for index, changes in changed.items():
        found[index] = json.dumps(changes)
    for rejected in decoded.rejected:
        found[rejected.index] = str(rejected.error.reason)  # type: ignore[attr-defined]
    return found


def _row(row: Any) -> Any:
    return None if row is None else json.loads(encode_row(row))


def fuzz(format_name: str, *, records: int, seed: int) -> Fuzzed:
    """Decode so many records of a format, spoiled and good, and return what was seen."""
    chance = random.Random(seed)
    fuzzed = Fuzzed(Verdict(f"fuzz {format_name}"))
    allowed = max(RSS_MIB_MAX, fuzzed.rss_mib + GROWTH_MIB_MAX)  # a process that did other things held more before
    targets = _Targets(list(SEEDS[format_name](chance)))
    done = 0
    while done < records:
        target = targets.one(chance)
        done += _one_run(target, fuzzed, chance, min(records - done, RUN_RECORDS_MAX))
    names = ("change", "rejected", "skipped", "behind a stop")
    fuzzed.verdict.figures = {"records": done, **{name: fuzzed.outcomes[name] for name in names}}
    if fuzzed.rss_mib > allowed:
        fuzzed.verdict.differ(f"{fuzzed.rss_mib} MiB were held, above {allowed}")
    return fuzzed


class _Targets:
    """The tables of a format, each prepared when it is first taken."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables
        self._made: dict[str, Target | None] = {}

    def one(self, chance: random.Random) -> Target:
        """Return one by chance that has good records."""
        while True:
            table = chance.choice(self._tables)
            if table.name not in self._made:
                self._made[table.name] = _target(table)
            if (target := self._made[table.name]) is not None:
                return target


def _target(table: Table) -> Target | None:
    try:
        target = Target(table)
    except ConfigurationError:  # a name with a quote or a backslash, which no decoder reads
        return None
    return target if target.good else None


def _one_run(target: Target, fuzzed: Fuzzed, chance: random.Random, count_max: int) -> int:
    members: list[Member] = []
    for _ in range(chance.randint(1, count_max)):
        good, outcome = chance.choice(target.good)
        if chance.random() >= SPOILED_SHARE or not target.all:
            members.append((good, outcome, ""))
            continue
        # A record of a snapshot may stop the table, and what comes behind a stop is not looked at.
        from_ = target.all if chance.random() < STOPPING_SHARE or not target.steady else target.steady
        name, spoiled = _spoiled(chance.choice(from_), chance.choice(from_), chance)
        fuzzed.mutations[name] += 1
        members.append((spoiled, "", name))
    began = time.thread_time()
    try:
        decoded = target.decoder.decode(Run([record for record, _, _ in members]), PartitionMemory())
        took = time.thread_time() - began
        found = outcomes(decoded, len(members))
    except Exception as exc:  # noqa: BLE001 - that none comes out is what is proved
        fuzzed.verdict.differ(f"{target.name}: {type(exc).__name__} among {[name for _, _, name in members if name]}")
        return len(members)
    fuzzed.slowest_run_seconds = max(fuzzed.slowest_run_seconds, took)
    if took > RECORD_SECONDS_MAX / 4:  # then one of them may take long
        _time_each(target, members, fuzzed)
    _judge(target, fuzzed, decoded, members, found)
    return len(members)


def _spoiled(record: Record, other: Record, chance: random.Random) -> tuple[str, Record]:
    """Return a record of which the value, or now and then the key or a header, is spoiled."""
    where = chance.random()
    if where < 0.8 or record.key is None:
        name, value = mutate(record.value or b"", other.value or b"", chance)
        return name, Record(record.key, value, record.headers)
    name, key = mutate(record.key, other.key or b"", chance)
    if where < 0.95:
        return f"key {name}", Record(chance.choice([key, other.key, None]), record.value, record.headers)
    headers = [("__debezium.newkey", key), ("__debezium.oldkey", key)]
    return f"header {name}", Record(record.key, record.value, headers)


def _time_each(target: Target, members: list[Member], fuzzed: Fuzzed) -> None:
    """Find the record that made a run slow."""
    for record, _, name in members:
        began = time.thread_time()
        target.new_decoder().decode(Run([record]), PartitionMemory())  # one that has not learned it yet
        took = time.thread_time() - began
        if took > fuzzed.slowest_seconds:
            fuzzed.slowest_seconds, fuzzed.slowest = took, f"{name or 'good'}, {len(record.value or b'')} bytes"
        if took > RECORD_SECONDS_MAX:
            fuzzed.verdict.differ(f"{target.name}: a record ({name or 'good'}) took {took:.2f} s")


def _judge(target: Target, fuzzed: Fuzzed, decoded: Decoded, members: list[Member], found: list[str]) -> None:
    verdict = fuzzed.verdict
    placed = len(set(decoded.batch.offsets)) + len(decoded.rejected) + sum(decoded.skipped.values())
    if placed != len(found):
        verdict.differ(f"{target.name}: {len(found)} records are in {placed} places")
    fuzzed.outcomes["behind a stop"] += len(members) - len(found)
    for (_, expected, name), outcome in zip(members, found, strict=False):
        kind = "change" if outcome.startswith("[") else "skipped" if outcome == "skipped" else "rejected"
        fuzzed.outcomes[kind] += 1
        if kind == "rejected":
            fuzzed.reasons[outcome] += 1
            if outcome not in REASONS:
                verdict.differ(f"{target.name}: {outcome} is no reason")
        if not name and outcome != expected:
            spoilers = [each for _, _, each in members if each]
            verdict.differ(
                f"{target.name}: a good record became {outcome[:200]}, not {expected[:200]}, among {spoilers}"
            )
    _check_contract(target, verdict, decoded)


def _check_contract(target: Target, verdict: Verdict, decoded: Decoded) -> None:
    batch = decoded.batch
    for column, types in ((batch.afters, target.types), (batch.befores, target.types), (batch.keys, target.keys)):
        for row in column:
            if row is None:
                continue
            try:
                read_row(json.loads(encode_row(row)), types)
            except Exception as exc:  # noqa: BLE001 - whatever the reader of the contract says to it
                verdict.differ(f"{target.name}: the contract's reader refuses a row: {exc}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--format", choices=sorted(SEEDS), default="debezium-json")
    parser.add_argument("--records", type=int, default=100_000)
    options: argparse.Namespace = parser.parse_args(arguments)
    began = time.monotonic()
    fuzzed = fuzz(options.format, records=options.records, seed=options.seed)
    print(f"seed {options.seed}, {options.records:,} records in {time.monotonic() - began:.0f} s")
    print(f"spoiled: {dict(sorted(fuzzed.mutations.items()))}")
    print(f"rejected: {dict(fuzzed.reasons.most_common())}")
    print(f"most memory {fuzzed.rss_mib} MiB; slowest run {fuzzed.slowest_run_seconds:.3f} s of the processor")
    if fuzzed.slowest:
        print(f"slowest record {fuzzed.slowest_seconds:.3f} s ({fuzzed.slowest})")
    try:
        require(fuzzed.verdict)
    except AssertionError:
        sys.exit(1)


if __name__ == "__main__":
    main()
