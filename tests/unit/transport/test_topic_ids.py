"""An id of a topic is one object, however often the client makes it: it keeps each that it makes."""

from __future__ import annotations

import confluent_kafka
from confluent_kafka import cimpl

from connectors.transport.answers import Administrator
from connectors.transport.settings import ClientSettings

NOBODY = ClientSettings(bootstrap="127.0.0.1:9")


def test_whoever_can_ask_has_ids_made_once() -> None:
    """By the name under which the client looks up what it makes them of, called as it calls it."""
    Administrator(NOBODY)
    Administrator(NOBODY)
    one, again, other = (
        confluent_kafka.Uuid(most_significant_bits=most, least_significant_bits=2) for most in (1, 1, 3)
    )

    assert one is again
    assert str(cimpl.Uuid(1, 2)) == str(one)
    assert str(cimpl.Uuid(3, 2)) == str(other)
    assert {cimpl.Uuid} == {type(one), type(other)}
