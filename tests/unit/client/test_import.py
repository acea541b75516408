"""Importing the client loads a Kafka client, msgspec and the words: a subscriber's process stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
HEAVY = [
    "pydantic",
    "yaml",
    "pyarrow",
    "faust",
    "mode",
    "duckdb",
    "pyiceberg",
    "aiohttp",
    "redis",
    "rich",
    "typer",
    "kafka",
    "fastavro",
    "urllib3",
    "http.client",
]
OURS = ["connectors", "sinks", "streams", "headgate.cli"]


def test_the_client_loads_the_words_alone() -> None:
    """In a process of its own, where no other test has loaded anything."""
    code = f"import sys, headgate.client; print([name for name in {HEAVY + OURS!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    assert "[]\n" == run.stdout
