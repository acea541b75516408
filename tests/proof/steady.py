"""How fast all stages take a steady stream: the pace goes up by steps until one of them falls behind.

A backlog is taken faster, in larger batches; whoever is given half of that has little left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.chaos.stand import Stand
from tests.proof.sizes import Sizes

FIRST_PER_SECOND, STEP = 1_000.0, 1.25
SETTLE_SECONDS, LOOK_SECONDS, SAMPLE_SECONDS = 10.0, 60.0, 1.0
SHARE_MAX = (
    0.05  # of what is made, by which a stage may fall behind: what is less cannot be told from a commit's moment
)
Say = Callable[[str], None]


def climb(stand: Stand, say: Say) -> float:
    """Return the last pace, in changes a second, with which every stage kept up; 0 if none did with the first."""
    held, pace = 0.0, FIRST_PER_SECOND
    sizes = Sizes(stand.installation, stand.kafka.address, stand.groups(), time.monotonic())
    while True:
        stand.feeder.set_pace(pace)
        stand.wait(SETTLE_SECONDS)
        late = [stage for stage, lags in lags_of(stand, sizes).items() if not keeps_up(lags, pace)]
        say(f"{pace:,.0f} changes/s: {', '.join(late) or 'nobody'} falls behind")
        if late:
            return held
        held, pace = pace, pace * STEP


def lags_of(stand: Stand, sizes: Sizes) -> dict[str, list[int]]:
    """Return how far each stage is behind, again and again for a while."""
    lags: dict[str, list[int]] = {}
    ends_at = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < ends_at:
        for stage, sample in sizes.look().items():
            lags.setdefault(stage, []).append(sample.lag)
        stand.wait(SAMPLE_SECONDS)
    return lags


def keeps_up(lags: Sequence[int], per_second: float) -> bool:
    """Say whether a stage, so far behind at even distances over `LOOK_SECONDS`, takes what is made.

    The least of both halves are compared: LAKE is behind by what it has not committed yet, and that goes up and down.
    """
    half = len(lags) // 2
    behind = min(lags[half:]) - min(lags[:half])
    return behind <= SHARE_MAX * per_second * LOOK_SECONDS / 2
