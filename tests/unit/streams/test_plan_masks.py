"""What `plan` says of masks: one that another version has, and a table whose records nothing can seal."""

from __future__ import annotations

from typing import Any

from schemas.table import TableSpec
from streams.plan_masks import notices_of_masks
from tests.unit.streams.dms_specs import dms_spec
from tests.unit.streams.shared_topic import TOPIC


def _said(*specs: TableSpec, keys: tuple[str, ...] = ("default",)) -> list[tuple[str, str, str]]:
    by_name = {spec.table: spec for spec in specs}
    return [(each.table, each.rule, each.what) for each in notices_of_masks(by_name, by_name, keys)]


def _spec(table: str, mask: str | None = None, **changes: Any) -> TableSpec:
    name = {"type": "string"} | ({"mask": mask} if mask else {})
    return dms_spec(table, TOPIC, **{"source_table": None, "columns": {"id": "long", "name": name}, **changes})


def test_a_version_that_leaves_out_a_mask_of_the_other_is_told() -> None:
    """By its columns; the same mask, or a stricter one, is nothing to tell."""
    old = _spec("patients", "hash")

    (said,) = _said(old, _spec("patients_v2", beside="patients"))
    assert ("patients_v2", "mask_left_out") == said[:2]
    assert said[2].startswith("name: masked in patients")
    assert [] == _said(old, _spec("patients_v2", "drop", beside="patients"))


def test_a_version_that_names_a_column_which_the_other_masks_unnamed_is_told() -> None:
    """What nobody has named yet is masked there, and would appear here."""
    old = _spec("patients", columns={"id": "long"}, unknown_columns="add", masks={"unknown_columns": "hash"})

    named = _said(old, _spec("patients_v2", beside="patients"))
    added = _said(old, _spec("patients_v2", beside="patients", columns={"id": "long"}, unknown_columns="add"))

    assert ["name: masked"] == [what[:12] for _, _, what in named]
    assert ["columns that nobody"] == [what[:19] for _, _, what in added]


def test_masked_tables_without_a_key_to_seal_with_are_told() -> None:
    """Such a mask needs no key, but what is kept of its records does; in a topic of several, others wait with it."""
    alone = _said(_spec("patients", "drop"), keys=())
    shared = _said(_spec("patients", "drop", source_table="app.patients"), keys=("other",))
    beside = _said(_spec("patients", "drop"), _spec("patients_v2", "drop", beside="patients"), keys=())

    assert ["seal_key_missing"] == [rule for _, rule, _ in alone] == [rule for _, rule, _ in shared]
    assert [False, True, True, True] == ["all of its tables" in what for _, _, what in [*alone, *shared, *beside]]
    assert [] == _said(_spec("patients"), keys=())
