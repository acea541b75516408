"""The cases of the list, by their numbers. One more is one module with a `CASE`, and its line here."""

from tests.chaos.cases import (
    broker,
    clocks,
    disk,
    failpoints,
    jumps,
    kills,
    poison,
    rebalances,
    redis_losses,
    replay,
    s3,
    signals,
    slow_sinks,
    twins,
    upgrade,
    zombies,
)
from tests.chaos.plan import Case

_MODULES = (
    kills,
    signals,
    failpoints,
    broker,
    redis_losses,
    s3,
    rebalances,
    zombies,
    replay,
    poison,
    slow_sinks,
    jumps,
    disk,
    twins,
    clocks,
    upgrade,
)
CASES: dict[int, Case] = {module.CASE.number: module.CASE for module in _MODULES}
