"""What a person sees when a command fails: `error: what, where`, `hint: what to do`, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from headgate.cli.codes import ExitCode
from headgate.cli.printing import say
from schemas.errors import ErrorKind, HeadgateError

OF_KIND: dict[ErrorKind, ExitCode] = {
    ErrorKind.POISON: ExitCode.FOUND,
    ErrorKind.SCHEMA: ExitCode.FOUND,
    ErrorKind.LIMIT: ExitCode.FOUND,
    ErrorKind.TABLE: ExitCode.FOUND,
    ErrorKind.UNAVAILABLE: ExitCode.UNAVAILABLE,
    ErrorKind.ABORTED: ExitCode.UNAVAILABLE,
    ErrorKind.FATAL: ExitCode.UNAVAILABLE,
    ErrorKind.CONFIGURATION: ExitCode.CONFIGURATION,
    ErrorKind.BUG: ExitCode.INTERNAL,
}

# typer brings its own click since 0.17: its public names lead to the classes, wherever they live.
_UsageError = typer.BadParameter.__bases__[0]


def report(error: BaseException) -> int:
    """Print what went wrong on stderr and return the exit code; no traceback unless HEADGATE_DEBUG is set."""
    match error:
        case typer.Exit():
            return int(error.exit_code)
        case typer.Abort() | KeyboardInterrupt():
            say("interrupted")
            return ExitCode.INTERRUPTED
        case HeadgateError():
            return _report_ours(error)
        case BaseExceptionGroup():  # tasks that ran side by side: the first tells the most
            return report(error.exceptions[0])
    if isinstance(error, _UsageError):
        return _report_usage(error)
    return _report_bug(error)


def _report_ours(error: HeadgateError) -> int:
    for line in error.message.splitlines():
        say(f"error: {line}")
    if error.hint:
        say(f"hint: {error.hint}")
    _trace(error)
    return OF_KIND[error.kind]


def _report_usage(error: BaseException) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a group was named without a verb: its help says what there is
        say(message)
        return ExitCode.USAGE
    command = context.command_path if context is not None else "headgate"
    say(f"error: {message}\nhint: `{command} --help` shows what it takes")
    return ExitCode.USAGE


def _report_bug(error: BaseException) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    # Not the text of the error: it may repeat a value of a row.
    say(f"error: internal: {type(error).__name__} at {where}")
    say("hint: set HEADGATE_DEBUG=1 to see the whole of it, and report it")
    _trace(error)
    return ExitCode.INTERNAL


def _trace(error: BaseException) -> None:
    if os.environ.get("HEADGATE_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
