"""How many output partitions a transaction may go to."""

from collections.abc import Callable

import pytest

from connectors.transport.producer import Outbox
from connectors.transport.width import PARTITIONS_FIRST, PARTITIONS_MAX, TransactionTooWide, Width

TIMEOUT_SECONDS = 12.0


def _after(*transactions: tuple[int, float]) -> int:
    width = Width(TIMEOUT_SECONDS)
    for partitions, seconds in transactions:
        width.took(partitions, seconds)
    return width.partitions


def test_transactions_are_narrow_after_a_start_and_widen_up_to_the_most() -> None:
    """A worker that was started again because one took too long comes back with less."""
    wide = [(PARTITIONS_MAX, 0.1)] * 20

    assert PARTITIONS_FIRST == _after()
    assert 2 * PARTITIONS_FIRST == _after(*wide[:1])
    assert PARTITIONS_MAX == _after(*wide)


@pytest.mark.parametrize(
    ("partitions", "seconds", "then"),
    [
        (25, 1.5, 100),  # half of what it may go to, and short
        (24, 0.0, 50),  # what is narrow says nothing of what is wide
        (50, 1.6, 50),  # neither short nor long
        (50, 3.0, 50),
        (50, 3.1, 25),
        (1, 60.0, 25),  # the broker was away
    ],
)
def test_a_long_transaction_halves_the_next_and_a_wide_and_short_one_doubles_them(
    partitions: int, seconds: float, then: int
) -> None:
    """By its share of the time after which the broker ends it."""
    assert then == _after((partitions, seconds))


def test_one_partition_is_always_allowed() -> None:
    """Whatever it took, the work goes on."""
    assert 1 == _after(*[(50, 100.0)] * 20)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_outbox_takes_as_many_partitions_as_are_allowed(count: int) -> None:
    """However many records go to each."""
    produced: list[tuple[object, ...]] = []
    outbox = Outbox(lambda *record: produced.append(record), 1_000, 3)
    for number in range(count):
        outbox.produce("t", number, b"k", b"v")
        outbox.produce_all("t", number, [(b"k", b"v")], [])

    assert 2 * count == len(produced)
    assert count == len(outbox.touched)


@pytest.mark.parametrize(
    "produce",
    [
        lambda outbox: outbox.produce("u", None, b"k", b"v"),
        lambda outbox: outbox.produce_all("u", 0, [(b"k", b"v")], []),
        lambda outbox: outbox.produce_each("u", 0, [(b"k", b"v")], [[]]),
    ],
)
def test_one_partition_more_is_refused(produce: Callable[[Outbox], None]) -> None:
    """Partitions of other topics count, too."""
    outbox = Outbox(lambda *_: None, 1_000, 3)
    for number in range(3):
        outbox.produce("t", number, b"k", b"v")

    with pytest.raises(TransactionTooWide, match="more than 3 output partitions"):
        produce(outbox)
