"""The cases of the list, by their numbers. One more is one module with a `CASE`, and its line here."""

from tests.chaos.cases import broker, failpoints, kills, poison, rebalances, replay, signals, zombies
from tests.chaos.plan import Case

_MODULES = (kills, signals, failpoints, broker, rebalances, zombies, replay, poison)
CASES: dict[int, Case] = {module.CASE.number: module.CASE for module in _MODULES}
