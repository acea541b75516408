"""What is risky in a table's spec, told by the spec alone: pure, a function for each risk, and a line below.

A risk that the spec accepts is told all the same, with the reason; who asks decides what that means.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.formats import FORMATS
from connectors.formats.event_decoder import EventFormat
from connectors.inference.risks import WEAK_ORDERS
from schemas.risk import ALL_COLUMNS, Level, Risk, RiskName
from schemas.table import Column, TableSpec
from schemas.types import ColumnType, Kind

# Decimals whose text has as many digits behind the point as the value.
_UNSCALED = frozenset({"data.VariableScaleDecimal", "number", "oracle.NUMBER"})
_AMOUNT = re.compile(
    r"(?:^|_)(?:amount|price|cost|total|subtotal|balance|fee|salary|wage|tax|vat|discount|revenue|payment|due|paid"
    r"|betrag|preis|summe|saldo|gehalt)(?:$|_)"
)
_TIME = re.compile(
    r"(?:^|_)(?:at|time|timestamp|ts|date|day|since|until|expires|expiry|created|updated|modified|deleted|born|birth\w*"
    r"|dob|datum|zeit|geburtsdatum)$"
)
_NO_TIME = re.compile(r"(?:^|_)(?:days?_?(?:count|number)|duration|elapsed|timeout|run_?time|life_?time|uptime)$")
# Whole words of names of columns that say something of a person, in English and German.
_PERSONAL_WORDS = (
    "firstname forename givenname lastname surname familyname fullname middlename maidenname nickname username"
    " dob born birth birthday birthdate birthplace email mail phone telephone mobile fax address street city"
    " zip zipcode postcode postal ssn passport iban bic creditcard pan cvv gender sex religion ethnicity nationality"
    " diagnosis allergy allergies insurance password secret ip latitude longitude signature photo salary"
    " vorname nachname geburtsdatum geburtsort anschrift strasse plz ort telefon handy geschlecht kontonummer"
    " versichertennummer diagnose kennwort"
)
_PERSONAL = frozenset(_PERSONAL_WORDS.split())
# Whose name is a person's, by the table's own.
_PEOPLE = re.compile(
    r"patient|person|people|customer|client|user|member|employee|staff|contact|doctor|physician|nurse|student|guest"
    r"|subscriber|applicant|account_?holder|kunde|mitarbeiter|versichert|arzt|aerzt"
)
_PAIRS = frozenset(
    {"first name", "last name", "given name", "family name", "full name", "maiden name", "birth date", "date birth"}
)
# Words that make a name that of a thing.
_THINGS = "file table column host server product item test ward device field type class event rule"
_OF_THINGS = frozenset(_THINGS.split())
_WORDS = re.compile(r"[A-Z]?[a-zäöüß]+|[A-Z]+(?![a-z])|[0-9]+")


@dataclass(frozen=True, slots=True)
class Linted:
    """A risk of one table, and why it is accepted; None where it is not."""

    table: str
    risk: Risk
    accepted: str | None

    @property
    def is_open(self) -> bool:
        """Tell whether somebody has to do something about it."""
        return self.accepted is None and self.risk.level is Level.RISK


def risks_of(spec: TableSpec) -> list[Risk]:
    """Return the risks that a spec shows, accepted or not, in the order of `RULES`."""
    return [risk for rule in RULES for risk in rule(spec)]


def linted(spec: TableSpec, risks: Iterable[Risk]) -> list[Linted]:
    """Return risks with what the spec says of them: one that is accepted for some of its columns becomes two."""
    found = []
    for risk in risks:
        reasons = spec.accepted_risks.get(risk.name, {})
        for reason, columns in _by_reason(risk, reasons).items():
            path = ("columns", columns[0]) if columns and risk.path[:1] == ("columns",) else risk.path
            found.append(Linted(spec.table, replace(risk, columns=columns, path=path), reason))
    return found


def unused(spec: TableSpec, risks: Sequence[Risk]) -> list[tuple[RiskName, str]]:
    """Return what the spec accepts and what is not there, as risk and column."""
    found = []
    for name, reasons in spec.accepted_risks.items():
        columns = {column for risk in risks if risk.name is name for column in risk.columns}
        known = any(risk.name is name for risk in risks)
        found += [(name, each) for each in reasons if not known or (each != ALL_COLUMNS and each not in columns)]
    return found


def _by_reason(risk: Risk, reasons: Mapping[str, str]) -> dict[str | None, tuple[str, ...]]:
    whole = reasons.get(ALL_COLUMNS)
    if not risk.columns:
        return {whole: ()}
    found: dict[str | None, tuple[str, ...]] = {}
    for column in risk.columns:
        reason = reasons.get(column, whole)
        found[reason] = (*found.get(reason, ()), column)
    return found


def _no_key(spec: TableSpec) -> Iterable[Risk]:
    if not spec.key:
        yield Risk(RiskName.NO_KEY, path=("key",))


def _no_before_image(spec: TableSpec) -> Iterable[Risk]:
    if spec.before == "none":
        yield Risk(RiskName.NO_BEFORE_IMAGE, path=("before",))


def _decimal_without_scale(spec: TableSpec) -> Iterable[Risk]:
    names = [name for name, column in spec.columns.items() if column.encoding in _UNSCALED and _is_text(column.type)]
    if names:
        yield _of_columns(RiskName.DECIMAL_WITHOUT_SCALE, names)


def _decimal_as_float(spec: TableSpec) -> Iterable[Risk]:
    floats = {Kind.DOUBLE, Kind.FLOAT}
    if names := [
        name for name, column in spec.columns.items() if column.type.kind in floats and _AMOUNT.search(_snake(name))
    ]:
        yield _of_columns(RiskName.DECIMAL_AS_FLOAT, names)


def _integer_may_be_time(spec: TableSpec) -> Iterable[Risk]:
    if names := [name for name, column in spec.columns.items() if _may_be_time(name, column)]:
        yield _of_columns(RiskName.INTEGER_MAY_BE_TIME, names)


def _may_be_time(name: str, column: Column) -> bool:
    named = _snake(name)
    whole = column.type.kind in {Kind.INT, Kind.LONG} and column.encoding in {None, "int"}
    return whole and _TIME.search(named) is not None and _NO_TIME.search(named) is None


def _type_not_known(spec: TableSpec) -> Iterable[Risk]:
    if names := [name for name, column in spec.columns.items() if column.encoding == "any"]:
        yield _of_columns(RiskName.TYPE_NOT_KNOWN, names)


def _nulls_left_out(spec: TableSpec) -> Iterable[Risk]:
    format_ = FORMATS.get(spec.format)
    if spec.absent is None and isinstance(format_, EventFormat) and format_.absent == "null":
        yield Risk(RiskName.NULLS_LEFT_OUT, path=("format",))


def _weak_order(spec: TableSpec) -> Iterable[Risk]:
    if spec.format == "canal" or spec.options.get("order") == "offset":
        yield Risk(RiskName.WEAK_ORDER, path=("format",), case=WEAK_ORDERS.get(spec.format))


def _looks_personal(spec: TableSpec) -> Iterable[Risk]:
    of_people = _PEOPLE.search(spec.table) is not None
    names = [name for name in spec.columns if looks_personal(name, of_people=of_people)]
    if names := [name for name in names if not _is_masked(spec.columns[name])]:
        yield _of_columns(RiskName.LOOKS_PERSONAL, names)


def looks_personal(name: str, *, of_people: bool = False) -> bool:
    """Tell whether the name of a column says something of a person, word by word; `of_people` if its table is."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not _OF_THINGS.isdisjoint(words):
        return False
    pairs = {" ".join(pair) for pair in itertools.pairwise(words)}
    return not _PERSONAL.isdisjoint(words) or not _PAIRS.isdisjoint(pairs) or (of_people and words == ["name"])


def _is_masked(column: Column) -> bool:
    return column.mask is not None


def _open_pattern(spec: TableSpec) -> Iterable[Risk]:
    for at, topic in enumerate(spec.topics):
        if topic.startswith("^") and not topic.endswith("$"):
            yield Risk(RiskName.OPEN_PATTERN, path=("topics", at))


def _keys_may_clash(spec: TableSpec) -> Iterable[Risk]:
    if spec.key and (len(spec.topics) > 1 or spec.topics[0].startswith("^")):
        yield Risk(RiskName.KEYS_MAY_CLASH, path=("topics",))


def _truncates_ignored(spec: TableSpec) -> Iterable[Risk]:
    if spec.truncate == "ignore":
        yield Risk(RiskName.TRUNCATES_IGNORED, path=("truncate",))


RULES: tuple[Callable[[TableSpec], Iterable[Risk]], ...] = (
    _no_key,
    _keys_may_clash,
    _open_pattern,
    _weak_order,
    _nulls_left_out,
    _decimal_without_scale,
    _decimal_as_float,
    _integer_may_be_time,
    _type_not_known,
    _looks_personal,
    _truncates_ignored,
    _no_before_image,
)


def _of_columns(name: RiskName, columns: Sequence[str]) -> Risk:
    return Risk(name, tuple(columns), path=("columns", columns[0]))


def _is_text(type_: ColumnType) -> bool:
    while type_.kind is Kind.LIST:
        assert type_.element is not None, "a list has an element type"
        type_ = type_.element
    return type_.kind is Kind.STRING


def _snake(name: str) -> str:
    """Return a name in lower case, with underscores between its words: createdAt, CREATED-AT."""
    return "_".join(word.lower() for word in _WORDS.findall(name))
