"""The entry of the command line: guard, verbs, and one place where every error becomes a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from headgate import guard
from headgate.cli.codes import ExitCode


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with a code of `ExitCode`."""
    leave(run(sys.argv[1:] if arguments is None else arguments))


def leave(code: int) -> NoReturn:
    """End the process now: what was registered for its end is done and output is written, nothing is taken apart.

    Python frees all that it has loaded, piece by piece, before it ends: half a second of a processor that does nothing
    else, and seconds of a busy one, beyond what a worker that was asked to stop is given.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - what `os._exit` leaves out
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has left, or it is closed
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line; errors stand on stderr as `error:` and `hint:`."""
    if shadows := guard.find_shadows():
        for shadow in shadows:
            sys.stderr.write(f"error: {shadow}\nhint: {shadow.hint}\n")
        return ExitCode.CONFIGURATION
    from headgate.cli.failures import report
    from streams.memory import share_one_allocator

    share_one_allocator()  # first of all: no verb may have loaded Arrow yet
    try:
        from headgate.cli.verbs import app

        result = app(list(arguments), prog_name="headgate", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the one place that decides: the exit code says what it was
        return report(error)
    return result if isinstance(result, int) else ExitCode.OK
