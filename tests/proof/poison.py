"""A poisoned stream: 1 record in 1,000 broken, in ten ways; each in quarantine by its reason, all others through.

python -m tests.proof.poison --records 100000
"""

from __future__ import annotations

import base64
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.oracles import Verdict, compare, require
from tests.oracles.topic import Record
from tests.proof.by_hand import parser_of, services_of_its_own
from tests.services import Kafka, RedisServer
from tests.workloads.debezium_player import DebeziumPlayer
from tests.workloads.ends import Ends, wait_quiet
from tests.workloads.installation import SECRET, Installation, shapes_for
from tests.workloads.model import KEYS, Model
from tests.workloads.poison import FIRST_KEY, KINDS, TOPIC_SETTINGS, key_of
from tests.workloads.webhook import Webhook

PARTITIONS = 4
QUIET_SECONDS = 240.0
# At least so large stay out of quarantine: the entry would be above what the broker takes.
BYTES_KEPT_MAX = 700_000


@dataclass(slots=True)
class Poisoner:
    """Plays a model with broken records among its own; `reasons` maps the key of each broken one to its reason."""

    player: DebeziumPlayer
    one_in: int
    chance: random.Random
    reasons: dict[bytes, str] = field(default_factory=dict)

    def play(self, model: Model, records: int) -> None:
        """Produce `records` records, the broken ones among them; returns when all are acknowledged."""
        broken = records // self.one_in
        steps = model.steps(2**62)
        while self.player.produced < records - broken + len(self.reasons):
            self.player.do(next(steps))
            while len(self.reasons) < broken and self.player.produced >= (len(self.reasons) + 1) * self.one_in:
                self._break_one()
        while len(self.reasons) < broken:  # the last one's place is the end, where a step may have led past it or not
            self._break_one()
        # What is open stays so: it is as if the source had not committed yet.
        self.player.flush()

    def _break_one(self) -> None:
        number = len(self.reasons)
        kind, key = KINDS[number % len(KINDS)], FIRST_KEY + number
        self.reasons[key_of(key)] = kind.reason
        self.player.send(self.player.topic("patients"), self.chance.randrange(PARTITIONS), key_of(key), kind.value(key))


def prove(kafka: Kafka, redis: RedisServer, folder: Path, *, records: int, one_in: int, seed: int) -> list[Verdict]:
    """Run all stages over the poisoned stream and ask every oracle."""
    expected = Counter(KINDS[number % len(KINDS)].reason for number in range(records // one_in))
    print(f"seed {seed}, {records:,} records, 1 in {one_in:,} broken")
    print(f"expected in quarantine: {dict(sorted(expected.items()))}")
    prefix = f"poison{uuid.uuid4().hex[:8]}"
    shapes = shapes_for(prefix, KEYS)
    player = DebeziumPlayer(kafka.address, prefix, shapes, partitions=PARTITIONS, settings=TOPIC_SETTINGS)
    poisoner = Poisoner(player, one_in, random.Random(seed))
    model = Model(seed, out_of_line_bytes=2_100)
    poisoner.play(model, records)
    with (
        Webhook(SECRET) as webhook,
        Installation(folder, kafka.address, redis.address, webhook.url, shapes) as installation,
    ):
        began = time.monotonic()
        installation.start()
        wait_quiet(installation, records=player.produced, deadline_seconds=QUIET_SECONDS)
        print(f"{player.produced:,} records through after {time.monotonic() - began:.1f} s")
        installation.stop()
        ends = Ends(installation, redis, webhook)
        ends.read_topics()
        verdicts = ends.verdicts(model.rows, player.ledger.events, changes_at_least=records - len(poisoner.reasons))
        return [check_quarantine(ends, poisoner.reasons, expected), *verdicts]


def check_quarantine(ends: Ends, reasons: dict[bytes, str], expected: Counter[str]) -> Verdict:
    """Check that each broken record is in quarantine once, at its origin, by its reason, with its bytes and a hint."""
    found = Counter(entry["reason"] for entry in ends.quarantined)
    verdict = Verdict("quarantine", {"records": len(ends.quarantined), **dict(sorted(found.items()))})
    compare(verdict, expected.elements(), found.elements())
    broken = {at(record): record for record in ends.inputs["patients"] if record.key in reasons}
    compare(
        verdict,
        ((origin, reasons[record.key or b""]) for origin, record in broken.items()),
        (((entry["origin"][0], entry["origin"][2], entry["origin"][3]), entry["reason"]) for entry in ends.quarantined),
    )
    for entry in ends.quarantined:
        record = broken.get((entry["origin"][0], entry["origin"][2], entry["origin"][3]))
        if record is not None:
            _check_entry(verdict, entry, record)
    verdict.at_least("records", sum(expected.values()))
    return verdict


def at(record: Record) -> tuple[str, int, int]:
    """Return where a record stands."""
    return record.topic, record.partition, record.offset


def _check_entry(verdict: Verdict, entry: dict[str, object], record: Record) -> None:
    value = record.value or b""
    if not entry["hint"] or entry["table"] != "patients" or entry["stage"] != "normalize":
        verdict.differ(f"{entry['origin']}: hint, table or stage is missing")
    if entry["value_bytes"] != len(value):
        verdict.differ(f"{entry['origin']}: {entry['value_bytes']} bytes, {len(value)} in the topic")
    kept = base64.b64encode(value).decode() if len(value) <= BYTES_KEPT_MAX else None
    if entry["value"] != kept:
        verdict.differ(f"{entry['origin']} ({entry['reason']}): the original bytes are not what quarantine holds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the services, prove, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--one-in", type=int, default=1_000)
    options = parser.parse_args(arguments)
    with services_of_its_own() as (services, folder):
        kafka, redis = services.kafka(), services.redis(private=True)
        require(*prove(kafka, redis, folder, records=options.records, one_in=options.one_in, seed=options.seed))


if __name__ == "__main__":
    main()
