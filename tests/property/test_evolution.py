"""What workers found joins to one spec, whatever the order, the workers and the repetitions."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from schemas.evolution import ANY, STRING, TEXT_SUFFIX, Evolved, Found, columns_in_force, in_force, joined, promoted
from schemas.table import Column, TableEntry, TableSpec
from schemas.types import ColumnType, Kind

_plain = st.sampled_from([ColumnType(kind) for kind in Kind if kind not in {Kind.DECIMAL, Kind.LIST}])
_decimals = st.builds(
    lambda scale, more: ColumnType(Kind.DECIMAL, scale + more, scale), st.integers(0, 3), st.integers(1, 4)
)
types = st.recursive(
    st.one_of(_plain, _decimals), lambda inner: inner.map(lambda one: ColumnType(Kind.LIST, element=one)), max_leaves=3
)
SPEC = TableSpec(
    table="t", topics=["s"],
    columns={
        "a": Column(type=ColumnType(Kind.INT)),
        "b": Column(type=ColumnType(Kind.DECIMAL, 6, 2), encoding="number"),
        "c": Column(type=ColumnType(Kind.TIMESTAMP), encoding="time.Timestamp"),
    },
)  # fmt: skip


@st.composite
def found(draw: st.DrawFn, under: ColumnType | None) -> Found:
    """Draw a finding as a worker makes them: no narrower than what it was found under."""
    type_ = draw(types)
    if under is not None:
        type_ = promoted(under, type_) or under
    encoding = draw(st.sampled_from([None, "int", "string", ANY])) if under is None else None
    since = draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]))
    names = draw(st.lists(st.sampled_from(["a", "d", "e", "f", "g"]), unique=True, max_size=3))
    return Found(
        type=type_, encoding=encoding, under=under, text=draw(st.booleans()), rest=draw(st.booleans()),
        sent_as=sorted(names), since=since,
    )  # fmt: skip


def _side_by_side(draw: st.DrawFn, unders: list[ColumnType | None]) -> list[Found]:
    return [draw(found(under)) for under in draw(st.lists(st.sampled_from(unders), unique=True, max_size=2))]


@st.composite
def columns(draw: st.DrawFn) -> dict[str, list[Found]]:
    """Draw what one worker found: of columns of the spec, and of others."""
    of_spec: dict[str, list[ColumnType | None]] = {name: [column.type, None] for name, column in SPEC.columns.items()}
    all_of_them: dict[str, list[ColumnType | None]] = {**of_spec, "d": [None, ColumnType(Kind.INT)], "e": [None]}
    return {name: some for name, unders in all_of_them.items() if (some := _side_by_side(draw, unders))}


@given(found(None), found(None), found(None))
def test_the_join_of_findings_is_a_lattices(one: Found, two: Found, three: Found) -> None:
    """Commutative, associative, idempotent: no order of arrival makes another spec."""
    assert one.join(two) == two.join(one)
    assert one.join(two).join(three) == one.join(two.join(three))
    assert one.join(one) == one


@given(types, types, types)
def test_a_promotion_is_the_least_upper_bound(one: ColumnType, two: ColumnType, three: ColumnType) -> None:
    """What holds both is found whichever comes first, and a third one does not change that."""
    both = promoted(one, two)

    assert both == promoted(two, one)
    assert one == promoted(one, one)
    if both is not None:
        assert both == promoted(both, one) == promoted(both, two)
        assert promoted(both, three) == (None if (last := promoted(two, three)) is None else promoted(one, last))


@given(st.lists(columns(), min_size=1, max_size=4), st.randoms())
def test_findings_of_several_workers_make_one_spec_in_any_order(
    some: list[dict[str, list[Found]]], random: object
) -> None:
    """Also where one of them comes again."""
    shuffled = [*some, some[0]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    none: dict[str, list[Found]] = {}
    expected, found_ = reduce(joined, some, none), reduce(joined, shuffled, none)

    assert expected == found_
    assert list(columns_in_force(SPEC, expected)) == list(columns_in_force(SPEC, found_))


@given(columns(), columns())
def test_nothing_found_is_lost_by_what_another_worker_finds(
    one: dict[str, list[Found]], other: dict[str, list[Found]]
) -> None:
    """Each column of the spec in force is as wide with both as with either."""
    both = dict(columns_in_force(SPEC, joined(one, other)))
    names = {other_name: name for name, column in both.items() for other_name in column.sent_as}
    for alone in (one, other):
        for name, column in columns_in_force(SPEC, alone):
            assert name in both or name.removesuffix(TEXT_SUFFIX) in names
            if name in both:
                assert both[name].type in {STRING, promoted(both[name].type, column.type)}


@given(columns())
def test_each_name_is_that_of_one_column(found_: dict[str, list[Found]]) -> None:
    """Its own, or another one that its source gave it; a column that the spec names keeps its name."""
    in_force_ = dict(columns_in_force(SPEC, found_))
    others = [name for column in in_force_.values() for name in column.sent_as]

    assert len(set(others)) == len(others)
    assert set(others).isdisjoint(in_force_)
    assert SPEC.columns.keys() <= in_force_.keys()


@given(st.lists(columns(), min_size=1, max_size=3))
def test_the_schema_version_rises_with_each_write(some: list[dict[str, list[Found]]]) -> None:
    """It is that of the entry and all revisions, whoever wrote first."""
    entry = TableEntry(spec=SPEC, schema_version=3)
    records = [Evolved(table="t", slot=f"w-{n}", revision=n + 1, columns=each) for n, each in enumerate(some)]
    versions = [in_force(entry, records[:n]).schema_version for n in range(len(records) + 1)]

    assert sorted(set(versions)) == versions
    assert in_force(entry, records) == in_force(entry, records[::-1])
