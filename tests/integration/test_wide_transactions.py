"""Work that goes to many output partitions, with a real Kafka: in several transactions, none too wide, exactly once."""

from connectors.transport.width import PARTITIONS_FIRST
from tests.integration.transport_processes import Bench

INPUTS = 3 * PARTITIONS_FIRST + 1
SPREAD = 4 * PARTITIONS_FIRST + 1


def test_a_worker_with_many_partitions_to_read_begins_with_narrow_transactions(bench: Bench) -> None:
    """One that was fenced since the last took too long does not come back with the same; each record is out once.

    While its first step is slow, all that there is to read comes in.
    """
    topic, out = bench.topic("in", INPUTS), bench.topic("out", INPUTS)
    bench.fill(topic, INPUTS, partitions=INPUTS)

    bench.start("a", topics=[topic], out=out, slot=f"{bench.group}-slot", delay_seconds=1.0)
    bench.wait_committed(topic, partitions=INPUTS)
    code = bench.stop("a")  # it tells of a transaction a little after the broker has it

    widths = [partitions for _, _, partitions, _ in bench.lines("a", "transaction")]
    assert INPUTS == sum(widths)
    assert [] == [width for number, width in enumerate(widths) if width > PARTITIONS_FIRST << number]
    assert 0 == code
    assert {b"%d:0" % number: 1 for number in range(INPUTS)} == dict(bench.keys(out, INPUTS))


def test_one_run_that_goes_to_many_partitions_is_written_in_parts_each_with_its_offset(bench: Bench) -> None:
    """What was tried and was too wide left nothing behind."""
    topic, out = bench.topic("in", 1), bench.topic("out", SPREAD)
    bench.fill(topic, SPREAD, partitions=1)

    bench.start("a", topics=[topic], out=out, slot=f"{bench.group}-slot", spread=True)
    bench.wait_committed(topic, partitions=1)
    code = bench.stop("a")

    transactions = [line[2:] for line in bench.lines("a", "transaction")]
    assert [] == [(partitions, most) for partitions, most in transactions if partitions > most]
    assert SPREAD == sum(partitions for partitions, _ in transactions)
    assert [] == bench.lines("a", "step_failed") + bench.lines("a", "bisecting")
    assert 0 == code
    assert {b"0:%d" % offset: 1 for offset in range(SPREAD)} == dict(bench.keys(out, SPREAD))
