"""No committed offset above what is durable: looked at while everything runs, judged when it has ended.

A sample takes first what each group has committed, then what is durable. What is durable only grows (unless a test
takes it away on purpose), so what lies below the committed offset must be among what was found after it.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import redis

from tests.oracles.features import entity_of
from tests.oracles.sequence import Expected
from tests.oracles.verdict import Verdict

Partition = tuple[str, int]
_COUNT = 500


@dataclass(slots=True)
class Sample:
    """One moment: committed offsets by stage, then what was durable.

    `ends` are ends of topics; `positions` those of some rows in Redis, by view and key ("" where there is nothing);
    `in_lake` the origins (partition, offset) by table; `delivered` the alerts that the receiver had taken.
    """

    committed: dict[str, dict[Partition, int]]
    ends: dict[Partition, int] = field(default_factory=dict)
    positions: dict[str, dict[str, str]] = field(default_factory=dict)
    in_lake: dict[str, Container[tuple[int, int]]] = field(default_factory=dict)
    delivered: frozenset[str] = frozenset()


def read_positions(
    client: redis.Redis, prefix: str, rows: Sequence[str], *, views: Mapping[str, str], buckets: int
) -> dict[str, dict[str, str]]:
    """Return the position of each of `rows` (keys' texts) by the view's id: the tombstone's, where a row is gone.

    `views` are ids with the kind of key that holds a row there: `f`, or `r` where several rows share an entity. A row
    and its tombstones are read in one transaction, so that none slips from one place to the other meanwhile.
    """
    found: dict[str, dict[str, str]] = {}
    for view, kind in views.items():
        positions = found[view] = {}
        for start in range(0, len(rows), _COUNT):
            part = rows[start : start + _COUNT]
            with client.pipeline(transaction=True) as pipe:
                for row in part:
                    base = f"{prefix}:{{b{zlib.crc32(row.encode()) % buckets}}}:"
                    pipe.hmget(f"{base}{kind}:{view}:{row}", ".p", ".d")
                    pipe.hget(f"{base}x:{view}", row)
                answers = pipe.execute()
            for row, alive, dead in zip(part, answers[::2], answers[1::2], strict=True):
                texts = [text.decode() for text in (*alive, dead) if text is not None]
                positions[row] = max((text.partition("|")[0] for text in texts), default="")
    return found


def check_rising(samples: list[Sample]) -> Verdict:
    """Check that no stored position ever went down from one sample to the next."""
    verdict = Verdict("positions in Redis never go down", {"samples": len(samples), "positions": 0})
    highest: dict[tuple[str, str], str] = {}
    for sample in samples:
        for view, rows in sample.positions.items():
            for row, position in rows.items():
                verdict.figures["positions"] += 1
                if position < highest.get((view, row), ""):
                    verdict.differ(f"{view} {row}: {position} after {highest[view, row]}")
                highest[view, row] = max(position, highest.get((view, row), ""))
    return verdict


class DurableChecks:
    """Hears of each change on the output topic, and says what a sample lacked that was committed."""

    def __init__(self, samples: list[Sample], *, views: Mapping[str, tuple[str, ...]]) -> None:
        """`views` are the views' ids by table."""
        self._samples, self._views = samples, views
        self.features = Verdict("durable: features", {"samples": len(samples), "changes below": 0})
        self.lake = Verdict("durable: lake", {"samples": len(samples), "changes below": 0})

    def hear(self, table: str, topic: str, partition: int, offset: int, change: Expected) -> None:
        """Take one change that stands at `offset` of an output topic."""
        row = entity_of(tuple(change.key.values()))
        for number, sample in enumerate(self._samples):
            if sample.positions and offset < sample.committed.get("features", {}).get((topic, partition), 0):
                for view in self._views.get(table, ()):
                    held = sample.positions.get(view, {}).get(row)
                    self.features.figures["changes below"] += held is not None
                    if held is not None and held < change.position:
                        self.features.differ(
                            f"sample {number}: {topic}[{partition}] was committed above {offset}, and view {view} "
                            f"has {held or 'nothing'} of {row}, not {change.position}"
                        )
            if table in sample.in_lake and offset < sample.committed.get("lake", {}).get((topic, partition), 0):
                self.lake.figures["changes below"] += 1
                if (partition, change.offset) not in sample.in_lake[table]:
                    self.lake.differ(
                        f"sample {number}: {topic}[{partition}] was committed above {offset}, not in the lake"
                    )


def check_alerts_durable(
    samples: list[Sample],
    causes: Mapping[str, tuple[Partition, int]],
    at: Mapping[str, tuple[Partition, int]],
    *,
    waited: frozenset[str] = frozenset(),
) -> Verdict:
    """Check that alerts of changes below ALERTS' commit were on the topic, and below NOTIFY's delivered or waiting.

    `causes` are where the changes stand, `at` where the alerts stand ((topic, partition), offset), both by id; `waited`
    are the alerts that were ever put on the retry topic, or among the dead letters.
    """
    verdict = Verdict("durable: alerts", {"samples": len(samples), "alerts below": 0})
    for number, sample in enumerate(samples):
        for alert, (place, offset) in causes.items():
            if offset >= sample.committed.get("alerts", {}).get(place, 0):
                continue
            verdict.figures["alerts below"] += 1
            where = at.get(alert)
            if where is None or where[1] >= sample.ends.get(where[0], 0):
                verdict.differ(f"sample {number}: {place} was committed above {offset}, alert {alert} is not written")
        for alert, (place, offset) in at.items():
            notify = sample.committed.get("notify", {}).get(place, 0)
            if offset < notify and alert not in sample.delivered and alert not in waited:
                verdict.differ(f"sample {number}: {place} was committed above {offset}, alert {alert} not delivered")
    return verdict
