"""docs/cli.md, made from the verbs' own help: `python -m headgate.cli.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from headgate.cli.codes import MEANING
from headgate.cli.verbs import app

_WIDTH = 100

_HEAD = """# The command line

Made from the code by `python -m headgate.cli.reference`; a test compares.

- `--config FILE` (`-c`), else `HEADGATE_CONFIG`, else `headgate.yaml`. A scalar may hold `${NAME}`, taken from the
  environment: secrets need not stand in the file. `$${NAME}` is the text itself.
- `--json` prints one JSON document on stdout. Everything for people beside it goes to stderr.
- An error is `error: what, where` and `hint: what to do`, on stderr. `HEADGATE_DEBUG=1` adds the traceback, which may
  show values of rows.
- Colours only on a terminal. Ctrl-C ends a verb without a traceback.

Exit codes, the same for all verbs:

| code | meaning |
|---|---|
"""


def reference() -> str:
    """Return the page."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANING.items())
    verbs = "".join(
        f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in helps(typer.main.get_command(app), "headgate")
    )
    return _HEAD + codes + verbs


def helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield name and help of every verb below a command, in the order in which they are shown."""
    if subcommands := getattr(command, "commands", None):
        for verb, subcommand in subcommands.items():
            yield from helps(subcommand, f"{name} {verb}")
        return
    context = typer.Context(command, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
    lines = command.get_help(context).splitlines()
    yield name, "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
