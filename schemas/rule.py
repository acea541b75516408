"""A rule: a condition over changes or feature updates. An alert: a firing of it, with an id that is always the same."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from schemas.change import Origin
from schemas.document import Strict
from schemas.feature import ViewName

Severity = Literal["info", "warning", "critical"]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
MAX_AGE_SECONDS = 15 * 60
ALERT_ENVELOPE_BYTES = (
    2 * 1024
)  # of a record's limit, beside alert and key: what NOTIFY lays around an alert that waits
VALUES_MAX = 1_000


Expression = Annotated[str, Field(min_length=1, max_length=4_000)]
Bound = int | Annotated[float, Field(allow_inf_nan=False)]

# What each kind takes beside what all take: keys that must be there, and keys that may be.
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "match": (frozenset({"when"}), frozenset()),
    "change": (frozenset({"of"}), frozenset({"when", "view"})),
    "transition": (frozenset({"of"}), frozenset({"when", "view", "from", "to"})),
    "threshold": (frozenset({"of"}), frozenset({"view", "above", "below", "rearm_below", "rearm_above"})),
}
_OF_KINDS = ("when", "of", "from", "to", "above", "below", "rearm_below", "rearm_above", "view")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _simple(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{type(value).__name__} is no simple value: write text (quote dates), a number, true or null")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a value that is not finite cannot be compared with")
    return value


Values = list[Annotated[Any, BeforeValidator(_simple)]]


class Rule(Strict):
    """A rule, of one of four kinds; all expressions are SQL.

    - match: `when` over `before`, `after`, `op`, `key` and `ts` of one change.
    - change: one of the expressions `of` is not what it was; `when`, if given, holds as well.
    - transition: the expression `of` went from one of `from` to one of `to`; either may be left out.
    - threshold: the number `of` went above `above`, for the first time since it was below `rearm_below`; or the other
      way round with `below` and `rearm_above`.

    All but match compare an entity with what it was: they read the updates of a view, `view`, or of one of their own.
    `of` is written over column names alone, and computed of the entity before and after.
    """

    model_config = ConfigDict(serialize_by_alias=True)  # `from` is no name in Python, and is one in YAML

    rule: RuleName
    version: Annotated[int, Field(ge=1)] = 1
    kind: Literal["match", "change", "transition", "threshold"] = "match"
    when: Expression | None = None
    of: Annotated[list[Expression], BeforeValidator(_listed), Field(max_length=20)] = []
    from_values: Annotated[Values | None, Field(alias="from", min_length=1, max_length=VALUES_MAX)] = None
    to_values: Annotated[Values | None, Field(alias="to", min_length=1, max_length=VALUES_MAX)] = None
    above: Bound | None = None
    below: Bound | None = None
    rearm_below: Bound | None = None
    rearm_above: Bound | None = None
    view: ViewName | None = None  # None: one of the rule's own
    values: dict[RuleName, Annotated[str, Field(max_length=1_000)]] = {}
    severity: Severity = "warning"
    title: Annotated[str, Field(max_length=200)] = ""
    max_age_seconds: Annotated[int, Field(ge=1)] = MAX_AGE_SECONDS
    destinations: list[str] | None = None  # None: all

    @property
    def reads_updates(self) -> bool:
        """It compares with what was: it reads feature updates, not changes."""
        return self.kind != "match"

    @property
    def remembers(self) -> bool:
        """What it does next depends on what it did before, entity by entity."""
        return self.kind == "threshold"

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        wanted, allowed = _KEYS[self.kind]
        given = {name for name in _OF_KINDS if self._given(name)}
        if missing := sorted(wanted - given):
            raise ValueError(f"a {self.kind} rule has {missing[0]!r}, and this one does not")
        if foreign := sorted(given - wanted - allowed):
            hint = " (write the condition into `of`)" if foreign == ["when"] else ""
            raise ValueError(f"a {self.kind} rule has no {foreign[0]!r}{hint}; is it of another kind?")
        if self.kind in {"transition", "threshold"} and len(self.of) != 1:
            raise ValueError(f"a {self.kind} rule is about one expression, and `of` has {len(self.of)}")
        if self.kind == "transition" and self.from_values is None and self.to_values is None:
            raise ValueError("a transition rule has `from`, `to` or both: lists of values; a change rule has neither")
        if self.kind == "threshold":
            self._check_threshold()
        return self

    def _given(self, name: str) -> bool:
        value = getattr(self, {"from": "from_values", "to": "to_values"}.get(name, name))
        return value is not None and value != []

    def _check_threshold(self) -> None:
        match self.above, self.below, self.rearm_below, self.rearm_above:
            case int() | float() as above, None, int() | float() as rearm, None:
                crossed = rearm > above
            case None, int() | float() as below, None, int() | float() as rearm:
                crossed = rearm < below
            case _:
                raise ValueError("a threshold rule has `above` with `rearm_below`, or `below` with `rearm_above`")
        if crossed:
            raise ValueError("it would be armed again by the value that fires it: see which of the bounds is higher")


class Alert(msgspec.Struct):
    """One firing of a rule, as written to `headgate.alerts` and delivered."""

    id: str
    rule: str
    rule_version: int
    severity: str
    title: str
    table: str
    key: Any
    op: str
    position: str
    ts: str
    values: dict[str, Any]
    origin: Origin
    late: bool
    destinations: list[str] | None = None
    view: str | None = None  # of a rule that reads a view's updates: the view, and whose update it was
    entity: Any = None


def alert_id(rule: str, version: int, table: str, key: Any, position: str) -> str:
    """Return the id of a firing: 32 hexadecimal digits of SHA-256 over what identifies it, the same on every replay."""
    identity = json.dumps(
        [rule, version, table, key, position], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
