"""What the oracles' clients leave behind is nobody else's failure."""

from __future__ import annotations

import gc
import socket
import warnings
from typing import Any

import pytest

from tests.oracles import clients


class Leaky:
    """A client that is closed while a socket of its own is still open, in a cycle, as kafka-python's can be."""

    def __init__(self, **_: Any) -> None:
        self.itself, self.socket = self, socket.socket()

    def close(self) -> None:
        """Leave the socket open."""


@pytest.mark.parametrize(
    ("client", "opened"),
    [("KafkaConsumer", clients.independent_consumer), ("KafkaAdminClient", clients.independent_admin)],
)
def test_a_socket_that_a_client_leaves_open_fails_no_later_test(
    client: str, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is collected when the client is closed, although the caller still has its name for it."""
    monkeypatch.setattr(clients, client, Leaky)

    with opened("127.0.0.1:1") as reader:
        number = reader.socket.fileno()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()

    assert number > 0
    assert [] == [str(each.message) for each in warned]
    with pytest.raises(ReferenceError):
        reader.socket  # noqa: B018 - looking is the test
