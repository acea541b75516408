"""What people see of the demo, on a terminal of any size and in a file."""

import io
from collections import Counter

import pytest
from rich.console import Console

from headgate.demo.ends import Ends
from headgate.demo.screen import LiveScreen, PlainScreen, Scene, picture


def scene() -> Scene:
    """A scene in which every end has shown life."""
    ends = Ends(events=Counter(patients=3), quarantined=Counter(broken_json=1), lake={"patients": (5, 2)})
    ends.latest_events.extend(
        {"op": "insert", "table": "patients", "after": {"id": n, "name": "x" * 200}} for n in range(9)
    )
    ends.features = {"patient 42": {"ward": "surgery", "note": "n" * 500}}
    ends.alerts = [{"severity": "critical", "title": "Glucose", "values": {"patient": 42}}] * 9
    story = Scene(
        seconds=60, elapsed=7.5, ends=ends, sent=Counter(inserts=3), commands=["headgate lake sql " + "word " * 20] * 5
    )
    story.story.extend(f"[  {n}.0 s] something happens" for n in range(6))
    return story


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 30), (100, 40), (200, 60)])
def test_the_picture_fits_into_the_terminal(width: int, height: int) -> None:
    """An overflowing picture would scroll at every refresh."""
    console = Console(file=io.StringIO(), width=width, height=height)

    lines = console.render_lines(picture(scene(), height, with_commands=height >= 30))

    assert len(lines) < height


def test_a_small_terminal_gets_the_commands_above_the_picture() -> None:
    """Once, not at every refresh."""
    out = io.StringIO()
    screen = LiveScreen(Console(file=out, width=80, height=24))
    for _ in range(3):
        screen.show(scene())
    screen.close()

    assert out.getvalue().count("Try in a second terminal") == 1


def test_plain_lines_name_the_first_sign_of_each_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And each alert once."""
    screen = PlainScreen()
    for _ in range(3):
        screen.show(scene())

    shown = capsys.readouterr().out
    assert all(shown.count(f"first sign of {end}:") == 1 for end in ("events", "features", "alerts", "lake"))
    assert shown.count("alert: critical: Glucose (patient=42)") == 9


def test_the_picture_shows_all_four_ends() -> None:
    """With their totals."""
    console = Console(file=io.StringIO(), width=150, height=50, record=True)
    console.print(picture(scene(), 50, with_commands=True))

    shown = console.export_text()
    assert "1 typed events: 3" in shown
    assert "ward=surgery" in shown
    assert "3 alerts at the receiver: 9" in shown
    assert "5 rows" in shown
    assert "in quarantine: broken_json 1" in shown
