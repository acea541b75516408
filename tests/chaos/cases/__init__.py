"""The cases of the list, by their numbers. One more is one module with a `CASE`, and its line here."""

from tests.chaos.cases import (
    answers,
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
    toxics,
    twins,
    upgrade,
    zombies,
)
from tests.chaos.plan import Case

_MODULES = (
    kills,
    signals,
    failpoints,
    answers,
    broker,
    redis_losses,
    s3,
    toxics,
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
