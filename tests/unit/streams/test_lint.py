"""What lint finds in a spec, how a risk is accepted, and what stays open."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.captured import OneRecord
from connectors.inference import new_samples
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.risk import FROM_RECORDS, RISKS, Level, Risk, RiskName
from schemas.table import TableSpec
from streams.lint import linted, looks_personal, risks_of, unused
from streams.lint_samples import joined, risks_of_records

PLAIN = """
table: measurements
topics: [clinic.public.measurements]
key: [id]
columns: {id: long, value: 'decimal(12,3)', taken_at: timestamptz}
"""


def spec_of(text: str = PLAIN, **changes: Any) -> TableSpec:
    """Return the plain spec with other keys."""
    spec = read_document(text, TableSpec, name="spec")
    return TableSpec.model_validate({**spec.model_dump(mode="json"), **changes})


def found(spec: TableSpec) -> dict[str, tuple[str, ...]]:
    """Return the risks of a spec by name, with their columns; notes are left out."""
    return {str(risk.name): risk.columns for risk in risks_of(spec) if risk.level is Level.RISK}


def test_a_plain_spec_has_no_risk() -> None:
    """A note is none: `before` is not logged by most sources."""
    assert {} == found(spec_of())
    assert [RiskName.NO_BEFORE_IMAGE] == [risk.name for risk in risks_of(spec_of())]


COLUMNS: dict[str, Any] = {"id": "long", "value": "decimal(12,3)"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": []}, {"no_key": ()}),
        ({"topics": ["a", "b"]}, {"keys_may_clash": ()}),
        ({"topics": ["^clinic[.]a"]}, {"keys_may_clash": (), "open_pattern": ()}),
        ({"topics": ["^clinic[.]a$"]}, {"keys_may_clash": ()}),
        ({"format": "canal"}, {"weak_order": ()}),
        ({"format": "debezium-flat", "options": {"order": "offset"}}, {"weak_order": ()}),
        ({"format": "dms"}, {"nulls_left_out": ()}),
        ({"format": "dms", "absent": "null"}, {}),
        ({"truncate": "ignore"}, {"truncates_ignored": ()}),
        (
            {"columns": COLUMNS | {"n": {"type": "string", "encoding": "data.VariableScaleDecimal"}}},
            {"decimal_without_scale": ("n",)},
        ),
        (
            {"columns": COLUMNS | {"n": {"type": "list<string>", "encoding": "number"}}},
            {"decimal_without_scale": ("n",)},
        ),
        ({"columns": COLUMNS | {"unit_price": "double", "score": "double"}}, {"decimal_as_float": ("unit_price",)}),
        (
            {"columns": COLUMNS | {"created_at": "long", "birth_date": "int", "days": "int", "updatedAt": "long"}},
            {"integer_may_be_time": ("created_at", "birth_date", "updatedAt"), "looks_personal": ("birth_date",)},
        ),
        ({"columns": COLUMNS | {"at": {"type": "long", "encoding": "time.MicroTimestamp"}}}, {}),
        ({"columns": COLUMNS | {"email": "string", "name": "string"}}, {"looks_personal": ("email",)}),
        ({"table": "patients", "columns": COLUMNS | {"name": "string"}}, {"looks_personal": ("name",)}),
    ],
)
def test_a_risk_is_found_where_it_is_and_nowhere_else(
    changes: dict[str, Any], expected: dict[str, tuple[str, ...]]
) -> None:
    """Who is warned of everything reads nothing."""
    assert expected == found(spec_of(**changes))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first_name", True),
        ("lastName", True),
        ("BIRTH_DATE", True),
        ("patient_email", True),
        ("geburtsdatum", True),
        ("zip", True),
        ("name", False),
        ("file_name", False),
        ("hostname", False),
        ("device_address", False),
        ("username", True),
        ("shipping", False),
        ("", False),
        ("姓名", False),
    ],
)
def test_a_name_looks_personal_by_its_words(name: str, expected: bool) -> None:
    """Not by letters that happen to stand in another word."""
    assert expected == looks_personal(name)


def test_a_column_with_a_mask_does_not_look_personal() -> None:
    """Whatever the mask is."""
    spec = spec_of(columns=COLUMNS | {"email": "string"})
    masked = spec_of(columns=COLUMNS | {"email": {"type": "string", "mask": "hash"}})

    assert {"looks_personal": ("email",)} == found(spec)
    assert {} == found(masked)


def test_a_risk_is_accepted_for_the_table_or_by_column() -> None:
    """What is accepted of some columns stays open of the others."""
    columns = COLUMNS | {"email": "string", "phone": "string"}
    spec = spec_of(key=[], columns=columns, accepted_risks={"no_key": "a log", "looks_personal": {"email": "by law"}})

    told = {(each.risk.name, each.risk.columns): each.accepted for each in linted(spec, risks_of(spec))}

    assert told[RiskName.NO_KEY, ()] == "a log"
    assert told[RiskName.LOOKS_PERSONAL, ("email",)] == "by law"
    assert told[RiskName.LOOKS_PERSONAL, ("phone",)] is None
    assert [RiskName.LOOKS_PERSONAL] == [each.risk.name for each in linted(spec, risks_of(spec)) if each.is_open]
    assert ("columns", "phone") == next(each.risk.path for each in linted(spec, risks_of(spec)) if each.is_open)


def test_what_is_accepted_and_not_there_is_told() -> None:
    """So that a spec does not keep what was settled."""
    accepted = {"no_key": "a log", "looks_personal": {"email": "by law", "id": "no"}}
    spec = spec_of(columns=COLUMNS | {"email": "string"}, accepted_risks=accepted)

    assert [(RiskName.NO_KEY, "*"), (RiskName.LOOKS_PERSONAL, "id")] == unused(spec, risks_of(spec))


def test_accepted_risks_are_read_back_as_they_were_written() -> None:
    """Short where a reason is for all; left out where there is none, so that older releases read the entry."""
    accepted = {"no_key": "a log", "looks_personal": {"email": "by law"}}
    spec = spec_of(key=[], columns=COLUMNS | {"email": "string"}, accepted_risks=accepted)

    assert accepted == spec.model_dump(mode="json")["accepted_risks"]
    assert spec == TableSpec.model_validate_json(spec.model_dump_json())
    assert "accepted_risks" not in spec_of().model_dump_json()


@pytest.mark.parametrize("reason", ["", {}, {"email": ""}, [], 7, "x" * 501])
def test_a_risk_is_accepted_with_a_reason(reason: Any) -> None:
    """Nobody knows later why it was."""
    with pytest.raises(ValueError, match="accepted_risks"):
        spec_of(accepted_risks={"no_key": reason})


def test_the_columns_of_one_risk_are_told_together() -> None:
    """What the spec shows, and what its records do."""
    risks = [
        Risk(RiskName.INTEGER_MAY_BE_TIME, ("a",), ("columns", "a")),
        Risk(RiskName.OPEN_PATTERN, path=("topics", 0)),
        Risk(RiskName.OPEN_PATTERN, path=("topics", 1)),
        Risk(RiskName.INTEGER_MAY_BE_TIME, ("b", "a"), ("columns", "b")),
    ]

    assert [("a", "b"), (), ()] == [risk.columns for risk in joined(risks)]


def told(spec: TableSpec, *changes: tuple[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what records of a table tell beside its spec, by name, with their columns."""
    samples = new_samples()
    for op, row in changes:
        envelope = {"op": op, "after": row, "source": {"connector": "postgresql", "name": "c", "table": "measurements"}}
        samples.add(OneRecord("clinic.public.measurements", 0, 0, b'{"id":1}', json.dumps(envelope).encode(), ()))
    (proposal,) = samples.tables()
    return {str(risk.name): risk.columns for risk in risks_of_records(proposal, spec)}


ROW = {"id": 1, "value": "AeJA", "taken_at": "2026-11-20T19:45:57Z"}


def test_records_tell_what_a_spec_does_not() -> None:
    """Columns that it does not name, and integers that look like times where it says no more than that."""
    at = 1_795_219_394_000

    assert {} == told(spec_of(), ("c", ROW), ("u", ROW))
    assert {"unknown_columns": ("note",)} == told(spec_of(), ("u", ROW | {"note": "x"}))
    assert {} == told(spec_of(unknown_columns="add"), ("u", ROW | {"note": "x"}))
    spec = spec_of(columns=COLUMNS | {"taken_at": "timestamptz", "x": "long"})
    assert {"integer_may_be_time": ("x",)} == told(spec, ("u", ROW | {"x": at}))
    stated = {"type": "timestamp", "encoding": "time.Timestamp"}
    assert {} == told(spec_of(columns=COLUMNS | {"taken_at": "timestamptz", "x": stated}), ("u", ROW | {"x": at}))


def test_records_tell_of_a_table_that_only_grows() -> None:
    """As soon as they are many; a row read by a snapshot is no change."""
    few, many = [("c", ROW)] * 10, [("r", ROW)] * 50 + [("c", ROW)] * 60

    assert ({}, {"append_only": ()}) == (told(spec_of(), *few), told(spec_of(), *many))
    assert {} == told(spec_of(), *many, ("u", ROW))


def test_every_risk_is_explained_and_can_be_settled() -> None:
    """In words of its own, with what to do."""
    assert RISKS.keys() == set(RiskName)
    assert len(RISKS) == len({known.what for known in RISKS.values()})
    assert all(known.what and known.settle for known in RISKS.values())
    assert set(RiskName) >= FROM_RECORDS


def test_a_risk_that_is_none_brings_the_nearest() -> None:
    """With the line."""
    with pytest.raises(ConfigurationError, match=r"spec:6: .*did you mean 'no_key'"):
        read_document(PLAIN + "accepted_risks: {no_kye: x}\n", TableSpec, name="spec")
