"""`headgate version`."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from headgate.cli.codes import MEANING, ExitCode, epilog
from headgate.cli.printing import print_json
from headgate.cli.settings import JsonOption

EPILOG = epilog(["headgate version", "headgate version --json"], {ExitCode.OK: MEANING[ExitCode.OK]})
_PARTS = ("faust-streaming", "confluent-kafka", "pyarrow", "pyiceberg", "duckdb", "redis")


def installed_version(package: str = "headgate") -> str:
    """Return the version of an installed package; `unknown` where it runs from a folder that was never installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def version(as_json: JsonOption = False) -> None:
    """Print the version of Headgate, and of what it stands on with --json."""
    if as_json:
        parts = {name: installed_version(name) for name in _PARTS}
        print_json({"headgate": installed_version(), "python": platform.python_version(), **parts})
    else:
        sys.stdout.write(f"headgate {installed_version()}\n")
