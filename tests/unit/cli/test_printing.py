"""What verbs say of long work: on a terminal alone, and not more often than anybody reads."""

from __future__ import annotations

import sys

import pytest

from headgate.cli.printing import now_and_then


@pytest.mark.parametrize(
    ("terminal", "said"), [(True, ["20 read of 90", "40 read of 90"]), (False, [])], ids=["terminal", "file"]
)
def test_long_work_is_told_once_a_second_on_a_terminal(
    terminal: bool, said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not within the first second; what is written to a file holds results alone."""
    now = [100.0]
    monkeypatch.setattr("headgate.cli.printing.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    tell = now_and_then("{1} {0} of {2}".format)
    for tenth in range(1, 26):
        now[0] = 100.0 + tenth / 10
        tell("read", 2 * tenth, 90)

    assert said == capsys.readouterr().err.splitlines()
