"""The exit codes of every verb: stable, for scripts. Imports nothing of ours, since the guard needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process of ours says when it ends."""

    OK = 0
    FOUND = 1
    USAGE = 2
    CONFIGURATION = 3
    UNAVAILABLE = 4
    INTERNAL = 5
    INTERRUPTED = 130


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FOUND: "a check failed, or what was asked for is not there",
    ExitCode.USAGE: "the command line is not right",
    ExitCode.CONFIGURATION: "the configuration or a table's spec is not right",
    ExitCode.UNAVAILABLE: "something that is needed does not answer",
    ExitCode.INTERNAL: "a fault of Headgate",
    ExitCode.INTERRUPTED: "Ctrl-C",
}

_ALWAYS = (ExitCode.USAGE, ExitCode.INTERNAL, ExitCode.INTERRUPTED)


def epilog(examples: Sequence[str], codes: Mapping[ExitCode, str]) -> str:
    r"""Return the end of a verb's `--help`: its examples and exit codes; `\b` keeps the lines as they are."""
    meanings = {**{code: MEANING[code] for code in _ALWAYS}, **codes}
    lines = [f"  {code.value:<4} {meanings[code]}" for code in sorted(meanings)]
    return "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples), "", "\b", "Exit codes:", *lines])
