"""`headgate demo`: everything, on this machine, with nothing but Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.codes import ExitCode, epilog

EPILOG = epilog(
    ["headgate demo", "headgate demo --seconds 30 --folder /tmp/demo", "headgate demo --plain | tee demo.log"],
    {
        ExitCode.OK: "the demo ran to its end, or was stopped by Ctrl-C",
        ExitCode.FOUND: "one of the four ends showed nothing; the summary says which",
        ExitCode.CONFIGURATION: "the folder is in use, or no Redis could be started",
    },
)


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long it runs, at most.")] = 120.0,
    folder: Annotated[
        Path, typer.Option(help="Where it keeps the database, the lake, its configuration and logs.")
    ] = Path("headgate-demo"),
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")] = False,
) -> int:
    """See it work: a small database changes, and its changes come out as events, features, alerts and lake rows."""
    from headgate.demo.show import run_demo

    return run_demo(folder, seconds=seconds, plain=plain)
