"""What several files of integration tests ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.transport_processes import Bench


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Topics and processes of one test, on the broker of the environment or else the session's own."""
    address = os.environ.get("HEADGATE_TEST_KAFKA") or request.getfixturevalue("kafka").address
    made = Bench(address, tmp_path)
    yield made
    made.close()
