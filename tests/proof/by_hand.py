"""What a proof needs that somebody starts by hand: arguments with a seed, and services that end with it."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.services import Services


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that takes a seed: a proof prints its own, so that it can be run again."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    return parser


@contextmanager
def services_of_its_own() -> Iterator[tuple[Services, Path]]:
    """Give services, of which none is started yet, and a folder for Headgate; nothing of them is left."""
    with (
        tempfile.TemporaryDirectory(prefix="headgate-proof-") as name,
        closing(Services(Path(name) / "services")) as services,
    ):
        yield services, Path(name) / "headgate"
