"""The proof of spoiled records in small, with fixed seeds; and that it sees what it is there to see."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from connectors.formats import FORMATS
from connectors.formats.debezium_json import DebeziumDecoder
from schemas.batch import Decoded
from tests.proof.fuzz import fuzz
from tests.proof.mutations import MUTATIONS, mutate
from tests.proof.seeds import SEEDS

RECORDS = 600
VALUE = b'{"before":null,"after":{"id":1,"name":"Ada"},"op":"c"}'


@pytest.mark.parametrize("format_name", sorted(SEEDS))
def test_spoiled_records_harm_nobody(format_name: str) -> None:
    """Every way of spoiling takes part, where the format is JSON."""
    fuzzed = fuzz(format_name, records=RECORDS, seed=1)

    assert fuzzed.verdict.holds, str(fuzzed.verdict)
    assert RECORDS == fuzzed.verdict.figures["records"]
    assert min(fuzzed.verdict.figures[name] for name in ("change", "rejected")) > 10
    if format_name != "debezium-avro":
        assert MUTATIONS.keys() <= {name.rpartition(" ")[2] for name in fuzzed.mutations}


def test_every_format_takes_part() -> None:
    """A new one has records to spoil."""
    assert FORMATS.keys() == SEEDS.keys()


def _raises(decoded: Decoded) -> None:
    if len(decoded.rejected) > 2:
        raise ValueError("too many")


def _harms(decoded: Decoded) -> None:
    if decoded.rejected:
        decoded.batch.afters.reverse()


@pytest.mark.parametrize(("fault", "said"), [(_raises, "ValueError"), (_harms, "a good record became")])
def test_a_decoder_that_raises_or_harms_a_neighbour_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[Decoded], None], said: str
) -> None:
    """Else the proof would prove nothing."""
    decode = DebeziumDecoder.decode

    def fragile(self: DebeziumDecoder, records: Any, memory: Any) -> Decoded:
        decoded = decode(self, records, memory)
        fault(decoded)
        return decoded

    monkeypatch.setattr(DebeziumDecoder, "decode", fragile)
    verdict = fuzz("debezium-json", records=RECORDS, seed=1).verdict

    assert not verdict.holds
    assert any(said in text for text in verdict.differences)


def test_the_same_seed_spoils_in_the_same_way() -> None:
    """A finding can be looked at again."""
    first, again = (
        [mutate(VALUE, VALUE, chance) for _ in range(200)] for chance in (random.Random(5), random.Random(5))
    )

    assert first == again


@pytest.mark.parametrize("name", ["exchanged", "lost", "retyped", "respelled", "wide"])
def test_some_ways_leave_json(name: str) -> None:
    """So that more than the parser is tried."""
    chance = random.Random(3)
    made = [MUTATIONS[name](VALUE, VALUE, chance) for _ in range(50)]

    assert all(isinstance(json.loads(value), dict) for value in made)
