"""What is compatible is so for ever: with every older contract, and by Avro's own rules of resolution."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from schemas.compatibility import compare, incompatible
from schemas.contract import Contract
from schemas.contract_avro import avro_value_schema, field_of
from schemas.types import ColumnType, parse_type

# Chains of types, each wider than those before it.
CHAINS = (["int", "long"], ["float", "double"], ["decimal(4,2)", "decimal(6,2)", "decimal(38,2)"], ["decimal(6,3)"],
          ["list<int>", "list<long>"], ["string"], ["json"], ["date"], ["timestamptz"], ["binary"],
          ["list<decimal(3,1)>", "list<decimal(9,1)>"])  # fmt: skip
NAMES = ["a", "b", "c c", "d"]
types = st.sampled_from([parse_type(text) for chain in CHAINS for text in chain])
columns = st.dictionaries(st.sampled_from(NAMES), types, min_size=1)
contracts = st.builds(
    lambda found, before, form: Contract("t", "headgate.changes.t", (), found, before=before, format=form),
    columns,
    st.booleans(),
    st.sampled_from(("json", "avro")),
)


def wider(type_: ColumnType) -> list[ColumnType]:
    """Return the types that one may become: itself, and those behind it in its chain."""
    (chain,) = (chain for chain in CHAINS if str(type_) in chain)
    return [parse_type(text) for text in chain[chain.index(str(type_)) :]]


@st.composite
def steps(draw: st.DrawFn, count: int) -> list[Contract]:
    """Draw contracts of which each is a compatible step from the one before."""
    found = [draw(contracts)]
    for _ in range(count - 1):
        last = found[-1]
        kept = {name: draw(st.sampled_from(wider(type_))) for name, type_ in last.columns.items()}
        more = {name: type_ for name, type_ in draw(columns).items() if name not in kept}
        before = last.before or draw(st.booleans())
        version, form = last.schema_version + 1, last.format
        found.append(Contract("t", last.topic, (), {**kept, **more}, version, before=before, format=form))
    return found


@given(steps(4))
def test_compatible_steps_lead_to_compatible_contracts(found: list[Contract]) -> None:
    """Not only with the one before: that is what transitive means."""
    for at, old in enumerate(found):
        assert [] == [incompatible(compare(old, new)) for new in found[at:] if incompatible(compare(old, new))]


@given(contracts, contracts, contracts)
def test_compatibility_is_transitive_whatever_the_contracts(one: Contract, two: Contract, three: Contract) -> None:
    """Of any three, made at random."""
    if not incompatible(compare(one, two)) and not incompatible(compare(two, three)):
        assert [] == incompatible(compare(one, three))


@given(contracts, contracts)
def test_what_is_compatible_both_ways_is_the_same(one: Contract, two: Contract) -> None:
    """An order, not only a relation: what only adds and widens cannot be undone."""
    if not incompatible(compare(one, two)) and not incompatible(compare(two, one)):
        assert [] == compare(one, two)


@given(steps(3), st.data())
def test_avro_reads_compatible_contracts_in_both_directions(found: list[Contract], data: st.DataObject) -> None:
    """An old reader the new change, and a new reader the old one: a column that one of them lacks is null."""
    for writer in found:
        row = {name: data.draw(_values(type_)) for name, type_ in writer.columns.items()}
        for reader in found:
            read = _resolved(writer, reader, row)
            expected = {name: row.get(name) for name in reader.columns}

            assert expected == {name: read[field_of(name)] for name in reader.columns}


def _values(type_: ColumnType) -> st.SearchStrategy[Any]:
    """Draw nulls and one value that Avro gives back as it was, whatever wider type it is read by."""
    known = {"string": "x", "json": "{}", "binary": b"\x00", "int": 7, "long": 7, "float": 0.5, "double": 0.5}
    value = known.get(str(type_))
    return st.none() if value is None else st.sampled_from([None, value])


def _resolved(writer: Contract, reader: Contract, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row after it was written by one schema and read by another."""
    origin = {"topic": "s", "generation": 0, "partition": 0, "offset": 0}
    source = {"connector": "c", "name": "n", "table": "t", "snapshot": False, "origin": origin}
    after = {field_of(name): value for name, value in row.items()}
    change = {"op": "insert", "after": after, "position": "1", "ts": 0, "source": source}
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(avro_value_schema(writer)), change)
    data.seek(0)
    read: Any = fastavro.schemaless_reader(
        data, fastavro.parse_schema(avro_value_schema(writer)), fastavro.parse_schema(avro_value_schema(reader))
    )
    return dict(read["after"])
