"""What an oracle answers: how much it looked at, and the first five differences of how many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

DIFFERENCES_SHOWN = 5
TEXT_SHOWN_MAX = 600  # a row with out-of-line text would fill the screen


@dataclass(slots=True)
class Verdict:
    """The answer of one oracle; `differences` holds the first five, `total` counts all."""

    name: str
    figures: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    total: int = 0

    def differ(self, text: str) -> None:
        """Count one difference, and keep it if it is among the first five."""
        self.total += 1
        if len(self.differences) < DIFFERENCES_SHOWN:
            self.differences.append(text if len(text) <= TEXT_SHOWN_MAX else f"{text[:TEXT_SHOWN_MAX]}…")

    def at_least(self, figure: str, wanted: int) -> None:
        """Check progress: less than `wanted` of `figure` is a difference of its own."""
        if self.figures.get(figure, 0) < wanted:
            self.differ(f"moved too little: {figure} is {self.figures.get(figure, 0)}, at least {wanted} is wanted")

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return self.total == 0

    def __str__(self) -> str:
        """Give one line of figures, and a line per difference shown."""
        figures = ", ".join(f"{value:,} {name}" for name, value in self.figures.items())
        state = "holds" if self.holds else f"{self.total:,} DIFFERENCES"
        return "\n".join([f"{self.name}: {state} ({figures})", *(f"    {line}" for line in self.differences)])


def compare(verdict: Verdict, expected: Iterable[Hashable], actual: Iterable[Hashable]) -> Verdict:
    """Compare two multisets; what is missing and what is too much are differences of `verdict`, which is returned."""
    wanted, found = Counter(iter(expected)), Counter(iter(actual))
    for item, count in (wanted - found).items():
        verdict.differ(f"missing {count}×: {item!r}")
    for item, count in (found - wanted).items():
        verdict.differ(f"too much {count}×: {item!r}")
    return verdict


def require(*verdicts: Verdict) -> None:
    """Print every verdict, then fail if one of them does not hold.

    Raises:
        AssertionError: it repeats the verdicts that do not hold.
    """
    assert verdicts, "somebody was asked"
    for verdict in verdicts:
        print(verdict)
    failed = [str(verdict) for verdict in verdicts if not verdict.holds]
    assert not failed, "\n".join(failed)
