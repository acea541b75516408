"""Records of other tools than Debezium's connectors, decoded by the specs that they propose themselves."""

from __future__ import annotations

import functools

import pytest

from connectors.captured import OneRecord
from connectors.inference import Proposal, new_samples
from tests.unit.formats.event_cases import Case, cases

CASES = sorted(cases())
KEYLESS = {"sequin", "qlik"}  # their records do not name the key's columns: a name such as `id` is all there is


@functools.cache
def proposal(name: str) -> Proposal:
    """Return what the records of a case propose."""
    samples = new_samples()
    for record in cases()[name].records:
        samples.add(OneRecord("captured", 0, record.offset, record.key, record.value, record.headers))
    (found,) = samples.tables()
    return found


def inferred(case: Case) -> Case:
    """Return the case with what is proposed; a key that nothing names is taken from the spec by hand."""
    found = proposal(case.name).spec
    key = case.spec.key if found.format in KEYLESS else found.key
    same = {"key": key, "options": case.spec.options, "absent": case.spec.absent, "before": case.spec.before}
    return Case(case.name, found.model_copy(update=same), case.records)


@pytest.mark.parametrize("name", CASES)
def test_the_format_the_key_and_the_columns_are_those_of_the_spec_by_hand(name: str) -> None:
    """As far as the records say them."""
    spec, found = cases()[name].spec, proposal(name).spec

    assert spec.format == found.format
    assert found.key in ([spec.key, []] if spec.format in KEYLESS else [spec.key])
    assert spec.columns.keys() <= found.columns.keys()


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_refused_that_the_spec_by_hand_takes(name: str) -> None:
    """Every value has a form in what is proposed."""
    case = cases()[name]
    by_hand = {rejected.index for rejected in case.decode().rejected}
    ours = {rejected.index: str(rejected.error) for rejected in inferred(case).decode().rejected}

    assert {} == {index: error for index, error in ours.items() if index not in by_hand}


@pytest.mark.parametrize("name", [name for name in CASES if cases()[name].spec.key])
def test_the_keys_of_the_rows_are_the_same(name: str) -> None:
    """Whatever the types of the other columns."""
    case, ours = cases()[name], inferred(cases()[name])
    wanted = [[str(row[key]) for key in case.spec.key] for row in case.final(case.changes())]
    got = [[str(row[key]) for key in case.spec.key] for row in ours.final(ours.changes())]

    assert sorted(wanted) == sorted(got)
