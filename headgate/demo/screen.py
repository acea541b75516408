"""What people see of the demo: one picture that moves on a terminal, else plain lines that can be kept in a file."""

from __future__ import annotations

import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headgate.demo.ends import SHOWN, Ends

PLAIN_EVERY_SECONDS = 5.0
_OPERATION_COLOURS = {"insert": "green", "update": "yellow", "delete": "red", "snapshot": "cyan"}
_SEVERITY_COLOURS = {"critical": "bold red", "warning": "yellow"}
_VALUES_SHOWN = 70
_COMMANDS_LINES = 12  # the panel of commands, some of them wrapped
_HEIGHT_WITH_COMMANDS = 30


@dataclass(slots=True)
class Scene:
    """Everything that a screen may show."""

    seconds: float
    elapsed: float = 0.0
    ends: Ends = field(default_factory=Ends)
    sent: Counter[str] = field(default_factory=Counter)
    story: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN))
    commands: list[str] = field(default_factory=list)


class Screen(Protocol):
    """A way to show scenes."""

    def say(self, text: str) -> None:
        """Show a line at once, and keep it."""

    def tell(self, text: str) -> None:
        """Show a moment of the story, which is in the scene as well."""

    def show(self, scene: Scene) -> None:
        """Show how things stand."""

    def close(self) -> None:
        """Give the terminal back."""


def make_screen(*, plain: bool) -> Screen:
    """Return the moving picture on a terminal, plain lines elsewhere or where they are asked for."""
    return PlainScreen() if plain or not sys.stdout.isatty() else LiveScreen()


class PlainScreen:
    """Lines: what happens, the first sign of life of each end, and every five seconds how much came out."""

    def __init__(self) -> None:
        """Begin with nothing shown."""
        self._alive: set[str] = set()
        self._alerts = 0
        self._next = PLAIN_EVERY_SECONDS

    def say(self, text: str) -> None:
        """Print a line."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def tell(self, text: str) -> None:
        """Print it."""
        self.say(text)

    def show(self, scene: Scene) -> None:
        """Print what is new."""
        for end, alive in scene.ends.alive().items():
            if alive and end not in self._alive:
                self._alive.add(end)
                self.say(f"[{scene.elapsed:5.1f} s] first sign of {end}: {_sample(end, scene.ends)}")
        for alert in scene.ends.alerts[self._alerts :]:
            self.say(f"[{scene.elapsed:5.1f} s] alert: {alert_line(alert)}")
        self._alerts = len(scene.ends.alerts)
        if scene.elapsed >= self._next:
            self._next += PLAIN_EVERY_SECONDS
            self.say(f"[{scene.elapsed:5.1f} s] {totals(scene.ends)}")

    def close(self) -> None:
        """Nothing is held."""


class LiveScreen:
    """A picture of the four ends, drawn anew a few times a second; as large as the terminal allows."""

    def __init__(self, console: Console | None = None) -> None:
        """Take the terminal."""
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._commands_shown = False

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self._live.console.print(Text(text))

    def tell(self, text: str) -> None:
        """Nothing: the picture has it."""

    def show(self, scene: Scene) -> None:
        """Draw the scene; where the commands do not fit into it, they are printed above it, once."""
        height = self._console.size.height
        with_commands = height >= _HEIGHT_WITH_COMMANDS
        if not with_commands and not self._commands_shown:
            self._commands_shown = True
            self.say("\n".join(["Try in a second terminal:", *scene.commands]))
        self._live.update(picture(scene, height, with_commands=with_commands), refresh=True)

    def close(self) -> None:
        """Remove the picture."""
        self._live.stop()


def picture(scene: Scene, height: int, *, with_commands: bool) -> Group:
    """Return the scene as panels that fit into `height` lines: the town, the four ends, and what to try."""
    left = max(0.0, scene.seconds - scene.elapsed)
    commands = (
        [_panel("try in a second terminal", [Text(text) for text in scene.commands], None)] if with_commands else []
    )
    taken = 2 + (_COMMANDS_LINES if with_commands else 0)
    lines = max(1, min(SHOWN, (height - taken) // 3 - 2))
    sent = ", ".join(f"{name} {count}" for name, count in scene.sent.items())
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(_events(scene.ends, lines), _features(scene.ends, lines))
    grid.add_row(_alerts(scene.ends, lines), _lake(scene.ends, lines))
    return Group(
        _panel(
            f"the town's database: {sent or 'starting'}", [_line(text) for text in list(scene.story)[-lines:]], lines
        ),
        grid,
        *commands,
        Text(f"ends by itself in {left:.0f} s, or on Ctrl-C", style="dim"),
    )


def _panel(title: str, content: list[Any], lines: int | None) -> Panel:
    return Panel(Group(*content), title=Text(title), title_align="left", height=None if lines is None else lines + 2)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _events(ends: Ends, lines: int) -> Panel:
    latest = [event_text(event) for event in list(ends.latest_events)[-lines:]]
    return _panel(f"1 typed events: {ends.events.total()}", latest, lines)


def _features(ends: Ends, lines: int) -> Panel:
    table = Table.grid(padding=(0, 1))
    for entity, values in ends.features.items():
        text = _values(values, 3 * _VALUES_SHOWN)
        table.add_row(Text(entity, style="bold"), Text(text, overflow="fold") if lines == SHOWN else _line(text))
    return _panel("2 features in Redis", [table], lines)


def _alerts(ends: Ends, lines: int) -> Panel:
    latest = [_line(alert_line(a), _SEVERITY_COLOURS.get(str(a.get("severity")), "")) for a in ends.alerts[-lines:]]
    return _panel(f"3 alerts at the receiver: {len(ends.alerts)}", latest, lines)


def _lake(ends: Ends, lines: int) -> Panel:
    table = Table.grid(padding=(0, 2))
    for name, (rows, files) in ends.lake.items():
        table.add_row(name, f"{rows} rows", f"{files} files")
    bad = ", ".join(f"{reason} {count}" for reason, count in ends.quarantined.items())
    return _panel("4 rows in the lake" + (f" · in quarantine: {bad}" if bad else ""), [table], lines)


def event_text(event: dict[str, Any]) -> Text:
    """Return one event of the output topic as a line."""
    row = event.get("after") or event.get("key") or {}
    style = _OPERATION_COLOURS.get(event["op"], "")
    return Text.assemble(
        (f"{event['op']:<8} ", style),
        f"{event['table']} {_values(row, _VALUES_SHOWN)}",
        overflow="ellipsis",
        no_wrap=True,
    )


def alert_line(alert: dict[str, Any]) -> str:
    """Return one alert as a line."""
    return f"{alert.get('severity')}: {alert.get('title')} ({_values(alert.get('values') or {}, _VALUES_SHOWN)})"


def totals(ends: Ends) -> str:
    """Return how much came out, in one line."""
    rows = sum(rows for rows, _ in ends.lake.values())
    files = sum(files for _, files in ends.lake.values())
    return (
        f"events {ends.events.total()} · entities watched in Redis {len(ends.features)} · alerts {len(ends.alerts)} · "
        f"lake {rows} rows in {files} files · quarantined {ends.quarantined.total()}"
    )


def _sample(end: str, ends: Ends) -> str:
    match end:
        case "events":
            return event_text(ends.latest_events[-1]).plain
        case "features":
            entity, values = next(iter(ends.features.items()))
            return f"{entity}: {_values(values, _VALUES_SHOWN)}"
        case "alerts":
            return alert_line(ends.alerts[0])
        case _:
            table, (rows, files) = next((t, c) for t, c in ends.lake.items() if c[0])
            return f"{table}: {rows} rows in {files} files"


def _values(row: dict[str, Any], width: int) -> str:
    text = " ".join(f"{name}={value}" for name, value in row.items() if value is not None)
    return text if len(text) <= width else text[: width - 1] + "…"
